"""The reviews that results are published for: the archive's, and no substitute for it."""

from __future__ import annotations

from pathlib import Path

from tidegate.data import Dataset, LabeledTexts, load_imdb

REVIEWS = 25_000  # for training, and as many for testing


def official_reviews(data: Path | None) -> tuple[LabeledTexts, LabeledTexts]:
    """Training and test set. SystemExit unless they are the archive's 25,000 each.

    Without the archive, load_imdb splits 25,000 reviews in two, which gives other figures.
    """
    dataset: Dataset = load_imdb(data)
    if dataset.test is None or {len(dataset.train), len(dataset.test)} != {REVIEWS}:
        raise SystemExit(
            f"these are not the archive's reviews: {dataset.origin}; name the folder with "
            "aclImdb_v1.tar.gz in TIDEGATE_DATA, or the archive by --data"
        )
    return dataset.train, dataset.test
