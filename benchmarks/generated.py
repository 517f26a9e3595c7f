"""Made-up labelled texts, for benchmarks that must not depend on a download."""

from __future__ import annotations

import csv
import random
from pathlib import Path


def write_reviews(
    path: Path,
    *,
    texts: int,
    words: int,
    vocabulary: int,
    seed: int = 0,
    several: str | None = None,
) -> None:
    """A CSV file with columns text and label; each label has words that it likes better.

    texts: rows. words: the most words in one, at least a quarter of it. vocabulary: distinct words.
    several: what stands between labels where a text may have several; every third has "third", too.
    """
    generator = random.Random(seed)  # noqa: S311
    names = [f"word{i}" for i in range(vocabulary)]
    halves = {"negative": names[: vocabulary // 2], "positive": names[vocabulary // 2 :]}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for i in range(texts):
            label = ("negative", "positive")[i % 2]
            length = generator.randint(words // 4, words)
            liked = generator.choices(halves[label], k=length // 3)
            text = liked + generator.choices(names, k=length - len(liked))
            generator.shuffle(text)
            third = f"{several}third" if several and i % 3 == 0 else ""
            rows.writerow([" ".join(text), label + third])
