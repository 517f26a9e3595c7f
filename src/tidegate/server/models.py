"""The models that are served, and their files, which may be replaced while they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.errors import ModelFileError, TidegateError
from tidegate.server import logs
from tidegate.server.failures import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from tidegate.estimator import TextClassifier
    from tidegate.server.settings import ModelFile

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class ServedModel:
    """A model as it was loaded. facts: what GET /v1/models tells of it."""

    name: str
    classifier: TextClassifier
    facts: dict[str, Any]


@dataclass(frozen=True)
class Reloaded:
    """What came of a file that was replaced. error: why it was not taken, or None."""

    name: str
    error: str | None


class Models:
    """By name, in the order in which they were given. Requests keep the one that they began with.

    A file that can't be loaded any more leaves the model as it was.
    """

    def __init__(self, files: tuple[ModelFile, ...]) -> None:
        """Load all. ModelFileError for the first that can't be."""
        self._files = files
        self._stamps = {file.name: _stamp(file.path) for file in files}  # before they are read
        self._models = {file.name: _load(file) for file in files}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def get(self, name: str | None) -> ServedModel:
        """The model of this name, or the first one for None. Failure if there is none."""
        if name is None:
            return self._models[self._files[0].name]
        if name not in self._models:
            raise Failure(
                404,
                "unknown_model",
                f"there is no such model; {', '.join(self._models)} are served",
            )
        return self._models[name]

    def reload(self) -> list[Reloaded]:
        """Load the files that have changed since they were last looked at."""
        found = []
        for file in self._files:
            stamp = _stamp(file.path)
            if stamp == self._stamps[file.name]:
                continue
            # Kept whatever comes of it: the same bad file is not tried again each second.
            self._stamps[file.name] = stamp
            try:
                self._models[file.name] = _load(file)
                found.append(Reloaded(file.name, None))
            except (TidegateError, OSError, MemoryError) as error:
                found.append(Reloaded(file.name, str(error) or type(error).__name__))
            except Exception as error:  # a bug must not end those who serve, nor hide other files
                logs.failure(error)
                found.append(Reloaded(file.name, type(error).__name__))
        return found


def _stamp(path: Path) -> Stamp:
    """What tells one file of this path from another; None without one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(file: ModelFile) -> ServedModel:
    from tidegate import storage
    from tidegate.estimator import TextClassifier

    tensors, header, _, sha256 = storage.read_stored(file.path)
    classifier = TextClassifier.from_tensors(tensors, header, file.path)
    classifier.predict_proba(["warm"])  # packs the weights now, not at the first request
    labels = classifier.classes_.tolist()
    if any(isinstance(label, str) and not _encodable(label) for label in labels):
        raise ModelFileError(f"{file.path} has labels with half of a surrogate pair; rename them")
    config = classifier.model_.config
    facts = {
        "name": file.name,
        "cell": config.cell,
        "reset": config.reset if config.cell == "gru" else None,
        "labels": labels,
        "targets": config.targets,
        "layers": config.layers,
        "bidirectional": config.bidirectional,
        "pooling": config.pooling,
        "hidden_size": config.hidden_size,
        "embedding_size": config.embedding_size,
        "max_length": config.max_length,
        "tokenizer": classifier.tokenizer_.name,
        "words": len(classifier.tokenizer_.vocabulary.words),
        "ngrams": 0 if classifier.ngrams_ is None else classifier.ngrams_.longest,
        "sha256": sha256,
    }
    return ServedModel(file.name, classifier, facts)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
