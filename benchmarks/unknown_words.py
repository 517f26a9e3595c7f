"""Do words without an id of their own say more as some hashed ids than as one unknown word?

Words that are not in the vocabulary get one of --buckets ids by a hash of their last three
characters and their shape (letters, digits, marks), instead of all the same one. Both ways are
tried with the vocabulary as it is, and with one of the words that stand at least twice in the
training texts, where the ids of unknown words occur in training. The network alone is trained, as
the preset `default` has it; what is scored is held out of the training texts, and no test text is
read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, versions, write_result
from own_data import NAMES, own_texts
from reviews import official_reviews

from tidegate import TextClassifier, arguments, ops
from tidegate.batch import TokenizedTexts
from tidegate.data import LabeledTexts
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import TextModel
from tidegate.targets import encode_targets, targets_of
from tidegate.text import START_ID, UNKNOWN_ID, Vocabulary
from tidegate.tokens import tokens
from tidegate.training import train

WAYS = ("one", "hashed", "one, words seen twice", "hashed, words seen twice")
LONGEST = 200  # tokens read of a text


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    runs = []
    for name in options.sets:
        for count in options.texts:
            learnt, scored = development(name, count, options)
            if learnt is None:
                continue
            tokenized = [
                [tokens("words", text) for text in part.texts] for part in (learnt, scored)
            ]
            for seed in options.seeds:
                for way in WAYS:
                    figures = one_run(way, learnt, scored, tokenized, options, seed)
                    runs.append({"set": name, "texts": len(learnt), "seed": seed, **figures})
                    print(json.dumps(runs[-1]), flush=True)
    summary = summarize(runs)
    print(table(summary))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "scored": "held out of the training texts",
            "buckets": options.buckets,
            "vocabulary_size": options.vocabulary_size,
            "max_length": LONGEST,
            "tidegate": ops.machine_info(),
        },
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where own_data.py keeps its sets")
    parser.add_argument("--sets", nargs="+", choices=NAMES, default=NAMES, metavar="SET")
    parser.add_argument("--texts", nargs="+", type=int, default=[500, 5_000, 50_000], metavar="N")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--buckets", type=int, default=2_000)
    parser.add_argument("--vocabulary-size", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    return parser.parse_args()


def development(
    name: str, count: int, options: argparse.Namespace
) -> tuple[LabeledTexts | None, LabeledTexts]:
    """At most so many texts to learn from, None if a smaller number has them all, and others."""
    if name == "imdb":
        train_texts, _ = official_reviews(options.data)
        order = np.random.default_rng(0).permutation(len(train_texts)).tolist()
        learnt, scored = train_texts.select(order[5_000:]), train_texts.select(order[:5_000])
    else:
        learnt, scored = own_texts(name, options.folder, options.data).development()
    smaller = [size for size in options.texts if size < count]
    if smaller and max(smaller) >= len(learnt):
        return None, scored
    order = np.random.default_rng(1).permutation(len(learnt))[:count].tolist()
    return learnt.select(order), scored


def one_run(
    way: str,
    learnt: LabeledTexts,
    scored: LabeledTexts,
    tokenized: list[list[list[str]]],
    options: argparse.Namespace,
    seed: int,
) -> dict[str, Any]:
    """Accuracy and loss on the held-out texts."""
    least = 2 if "twice" in way else 1
    counts = Counter(word for text in tokenized[0] for word in text)
    frequent = [word for word, found in counts.most_common() if found >= least]
    vocabulary = Vocabulary(tuple(frequent[: options.vocabulary_size - 4]))
    buckets = options.buckets if way.startswith("hashed") else 0
    id_of = ids_of(vocabulary, buckets)
    learnt_ids, scored_ids = ([encoded(text, id_of) for text in part] for part in tokenized)
    unknown = [id_of(word) for text in tokenized[1] for word in text]
    outside = sum(i == UNKNOWN_ID or i >= vocabulary.size for i in unknown) / len(unknown)
    classes, targets = encode_targets(learnt.labels, len(learnt))
    classifier = TextClassifier.from_preset("default", random_state=seed, max_length=LONGEST)
    config = replace(
        arguments.model_config(classifier, classes=len(classes)),
        vocabulary_size=vocabulary.size + buckets,
    )
    model = TextModel.initialize(config, seed)
    examples = LabeledSet(TokenizedTexts.from_rows(learnt_ids), targets)
    begun = time.perf_counter()
    epochs = classifier.epochs_for(len(learnt))
    for _ in train(model, examples, None, arguments.train_config(classifier, epochs)):
        pass
    held = LabeledSet(
        TokenizedTexts.from_rows(scored_ids),
        targets_of(classes, scored.labels, len(scored), many=False),
    )
    found = evaluate(model, held)
    return {
        "way": way,
        "accuracy": found.accuracy,
        "loss": found.loss,
        "words": len(vocabulary.words),
        "outside": outside,
        "seconds": time.perf_counter() - begun,
    }


def ids_of(vocabulary: Vocabulary, buckets: int) -> Callable[[str], int]:
    known = {word: 4 + place for place, word in enumerate(vocabulary.words)}

    @cache
    def id_of(word: str) -> int:
        found = known.get(word)
        if found is not None:
            return found
        return vocabulary.size + bucket(word, buckets) if buckets else UNKNOWN_ID

    return id_of


def bucket(word: str, buckets: int) -> int:
    """One of ``buckets`` by the word's last three characters, and which kinds it has."""
    shape = "".join(
        "9" if c.isdigit() else "a" if c.isascii() and c.isalpha() else "z" if c.isalpha() else "-"
        for c in word
    )
    kinds = "".join(sorted(set(shape)))
    digest = hashlib.blake2b(f"{word[-3:]} {kinds}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % buckets


def encoded(words: list[str], id_of: Callable[[str], int]) -> np.ndarray:
    return np.array([START_ID, *map(id_of, words)][-LONGEST:], np.int32)


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each set and size, every way's mean accuracy, and hashed minus one, seed by seed."""
    summary = []
    for name, count in dict.fromkeys((run["set"], run["texts"]) for run in runs):
        own = [run for run in runs if (run["set"], run["texts"]) == (name, count)]
        by_way = {way: [run["accuracy"] for run in own if run["way"] == way] for way in WAYS}
        row: dict[str, Any] = {"set": name, "texts": count}
        row["accuracy"] = {way: statistics.mean(found) for way, found in by_way.items()}
        row["outside"] = {
            way: statistics.mean(run["outside"] for run in own if run["way"] == way) for way in WAYS
        }
        for one, hashed in (WAYS[:2], WAYS[2:]):
            gains = [b - a for a, b in zip(by_way[one], by_way[hashed], strict=True)]
            row[f"gain of {hashed}"] = {"mean": statistics.mean(gains), "each": gains}
        summary.append(row)
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    lines = [f"| set | texts | outside | {' | '.join(WAYS)} |", "| --- " * (3 + len(WAYS)) + "|"]
    for row in summary:
        figures = " | ".join(f"{row['accuracy'][way]:.4f}" for way in WAYS)
        outside = f"{row['outside'][WAYS[0]]:.1%}, {row['outside'][WAYS[2]]:.1%}"
        lines.append(f"| {row['set']} | {row['texts']:,} | {outside} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
