"""How fast do texts become ids, beside the same rules in plain Python, in one interleaved run?

Counts the vocabulary of the 25,000 training reviews and encodes all 50,000, the last 200 ids of
each, and encodes one text of 200 words. Plain Python is what this was before it was compiled:
lecture_tokens, a Counter and a dict. Both sides' words and ids are compared. As not all texts are
like IMDB's, of which nine in a hundred aren't ASCII, the reviews are encoded a second time with a
letter added to each that isn't: Python lower-cases such texts, on one thread.
"""

from __future__ import annotations

import argparse
import time
from array import array
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, busy_seconds, spread, usable_cores, versions, write_result

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.data import load_imdb
from tidegate.text import (
    FIRST_WORD_ID,
    START_ID,
    UNKNOWN_ID,
    Tokenizer,
    Vocabulary,
)
from tidegate.tokens import lecture_tokens

MAX_LENGTH, VOCABULARY = 200, 10_000
ONE = 1_000  # times that the one text is encoded in a run


class PlainTokenizer:
    """The same ids without the compiled module."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = {word: id_ for id_, word in enumerate(vocabulary.words, FIRST_WORD_ID)}

    @classmethod
    def fit(cls, texts: Iterable[str], vocabulary_size: int) -> PlainTokenizer:
        return cls(Vocabulary.build(map(lecture_tokens, texts), vocabulary_size))

    def ids_of(self, words: Iterable[str]) -> Iterable[int]:
        return map(self._ids.get, words, repeat(UNKNOWN_ID))

    def encode(self, text: str) -> np.ndarray:
        return np.array([START_ID, *self.ids_of(lecture_tokens(text))], np.int32)

    def encode_all(self, texts: Iterable[str], max_length: int) -> TokenizedTexts:
        ids = array("i")
        offsets = array("q", [0])
        for text in texts:
            words = lecture_tokens(text)
            if len(words) < max_length:
                ids.append(START_ID)
            ids.extend(self.ids_of(words[-max_length:]))
            offsets.append(len(ids))
        return TokenizedTexts(np.asarray(ids, np.int32), np.asarray(offsets, np.int64))


def main() -> None:
    options = parse_options()
    dataset = load_imdb(options.data)
    if dataset.test is None:
        raise SystemExit("imdb has no test set")
    train, texts = dataset.train.texts, dataset.train.texts + dataset.test.texts
    not_ascii = [f"{text} é" for text in texts]
    one = " ".join(lecture_tokens(" ".join(texts[:2]))[:MAX_LENGTH])
    tokenizer = Tokenizer.fit(train, VOCABULARY)
    plain = PlainTokenizer(tokenizer.vocabulary)
    check(plain, tokenizer, train, [*texts, *not_ascii])

    def jobs(side: type[Any], its: Any) -> dict[str, Callable[[], object]]:
        return {
            "fit": lambda: side.fit(train, VOCABULARY),
            "encode": lambda: its.encode_all(texts, MAX_LENGTH),
            "encode, not ASCII": lambda: its.encode_all(not_ascii, MAX_LENGTH),
            "encode one": lambda: [its.encode(one) for _ in range(ONE)],
        }

    sides = {"plain": jobs(PlainTokenizer, plain)}
    sides |= {f"{n} threads": jobs(Tokenizer, tokenizer) for n in options.threads}
    runs: list[dict[str, Any]] = []
    for turn in range(options.runs):
        for job in sides["plain"]:
            for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:
                ops.set_threads(1 if side == "plain" else int(side.split()[0]))
                runs.append({"turn": turn, "what": job, "side": side, **timed(sides[side][job])})
    summary = summarize(runs, list(sides))
    for name, figures in summary.items():
        print(f"{name}: {describe(figures)}")
    characters = sum(map(len, texts))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "fit": {"texts": len(train), "characters": sum(map(len, train))},
            "encode": {"texts": len(texts), "characters": characters, "max_length": MAX_LENGTH},
            "not_ascii_share": sum(not text.isascii() for text in texts) / len(texts),
            "encode_one": {"words": MAX_LENGTH, "times": ONE},
            "vocabulary_size": VOCABULARY,
        },
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="of each job and side (default 7)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, usable_cores()}), metavar="N"
    )
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    return parser.parse_args()


def check(plain: PlainTokenizer, ours: Tokenizer, train: list[str], texts: list[str]) -> None:
    """SystemExit unless both sides do the same."""
    words = Vocabulary.build(map(lecture_tokens, train), VOCABULARY)
    expected, given = plain.encode_all(texts, MAX_LENGTH), ours.encode_all(texts, MAX_LENGTH)
    if not (
        words == ours.vocabulary
        and np.array_equal(expected.token_ids, given.token_ids)
        and np.array_equal(expected.offsets, given.offsets)
    ):
        raise SystemExit("the sides differ")


def timed(job: Callable[[], object]) -> dict[str, float]:
    others, cpu, begun = busy_seconds(), time.process_time(), time.perf_counter()
    job()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "others_cpu_seconds": busy_seconds() - others - cpu,
    }


def summarize(runs: list[dict[str, Any]], sides: list[str]) -> dict[str, Any]:
    """Seconds by job and side, and how many times faster than plain Python, turn by turn."""
    summary: dict[str, Any] = {}
    for job in dict.fromkeys(run["what"] for run in runs):
        seconds = {
            side: [run["seconds"] for run in runs if (run["what"], run["side"]) == (job, side)]
            for side in sides
        }
        for side in sides:
            pairs = zip(seconds["plain"], seconds[side], strict=True)
            summary[f"{job}, {side}"] = {
                "seconds": spread(seconds[side]),
                "times_as_fast": spread(theirs / its for theirs, its in pairs),
            }
    return summary


def describe(figures: dict[str, Any]) -> str:
    ms = {name: 1e3 * value for name, value in figures["seconds"].items()}
    ratio = figures["times_as_fast"]
    return (
        f"{ms['median']:.1f} ms ({ms['min']:.1f} to {ms['max']:.1f}), {ratio['median']:.1f} times "
        f"as fast ({ratio['min']:.1f} to {ratio['max']:.1f})"
    )


if __name__ == "__main__":
    main()
