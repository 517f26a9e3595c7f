"""Where texts and labels come from: the IMDB reviews, tables in files, and folders of texts."""

from __future__ import annotations

from tidegate.data.dataset import Dataset, LabeledTexts
from tidegate.data.formats import Source, Target, source_of, target_of
from tidegate.data.imdb import load_imdb
from tidegate.data.notes import notes
from tidegate.data.separated import check_separated, check_separator, split_labels
from tidegate.data.sources import load
from tidegate.data.streams import (
    LabeledPortions,
    StreamedDataset,
    is_large,
    open_dataset,
    open_labeled,
)
from tidegate.data.survey import Survey, survey
from tidegate.data.tables import TextStream, load_table, open_texts
from tidegate.data.writers import check_target, write_predictions

__all__ = [
    "Dataset",
    "LabeledPortions",
    "LabeledTexts",
    "Source",
    "StreamedDataset",
    "Survey",
    "Target",
    "TextStream",
    "check_separated",
    "check_separator",
    "check_target",
    "is_large",
    "load",
    "load_imdb",
    "load_table",
    "notes",
    "open_dataset",
    "open_labeled",
    "open_texts",
    "source_of",
    "split_labels",
    "survey",
    "target_of",
    "write_predictions",
]
