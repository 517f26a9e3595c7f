"""What is compared with what: the models, the seeds, the texts, and their parts."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidegate import initializers
from tidegate.columns import unwrapped
from tidegate.errors import ConfigError, DataError, unknown_choice
from tidegate.estimator import TextClassifier
from tidegate.labels import plain
from tidegate.model import check_whole
from tidegate.preparing import listed_texts
from tidegate.records import check_positive
from tidegate.targets import encode_targets, targets_of

# By name: what a TextClassifier has to be told of its cell. None for the linear model.
MODELS: dict[str, dict[str, str] | None] = {
    "gru": {"cell": "gru", "reset": "after"},
    "gru-before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
    "rnn": {"cell": "rnn"},
    "linear": None,
}
DEFAULT_MODELS = ("gru", "lstm", "rnn", "linear")
TEST_SHARE = 0.2

# What a comparison itself decides.
_OWN = ("cell", "reset", "ngrams", "random_state", "threads")


@dataclass(frozen=True)
class Plan:
    """A comparison, all but its texts. ConfigError for what can't be compared.

    models: names of MODELS. seeds: how many. first_seed: the others follow it. preset: of the
    networks, and options: arguments of TextClassifier that win over it. All networks stand alone,
    without n-grams beside them. budget: seconds of training for each network, as whole epochs: as
    many as fit by a trial of its first steps, at least one, and the same number for each seed; None
    for the options' epochs. margin: accuracy by which a model may be worse than the best one and
    still be good enough; it may be as much as that accuracy's uncertainty, if that is more.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    seeds: int = 3
    first_seed: int = 0
    preset: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: float | None = None
    margin: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.models, str):
            raise ConfigError(f"cells={self.models!r} is one str; give a list of names")
        for name in self.models:
            if not isinstance(name, str) or name not in MODELS:
                raise unknown_choice("cells", name, MODELS)
        if len(set(self.models)) < len(self.models):
            raise ConfigError(f"cells={','.join(self.models)} names one twice")
        if not self.networks:
            raise ConfigError("cells names no network; give at least one, such as gru")
        object.__setattr__(self, "models", tuple(self.models))
        check_whole("seeds", self.seeds, 1, 1_000)
        check_whole("seed", self.first_seed, 0, 2**62)
        if self.budget is not None:
            object.__setattr__(self, "budget", check_positive("budget", self.budget))
            if self.options.get("epochs") is not None:
                raise ConfigError("both a budget and epochs are given; give one of them")
        margin = self.margin
        if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin < 1:
            raise ConfigError(f"margin={margin!r} is not a share of the texts, such as 0.01")
        options = {name: _told(name, value) for name, value in self.options.items()}
        try:
            same = json.loads(json.dumps(options)) == options
        except TypeError:
            same = False
        if not same:  # another process is told of them
            raise ConfigError(
                "options are to be JSON values: numbers, words, lists, and dicts of words"
            )
        object.__setattr__(self, "options", options)
        for name in options:
            if name in _OWN:
                raise ConfigError(f"{name} is what a comparison decides by itself; leave it out")
        for name in self.networks:
            self.classifier(name, self.first_seed).check()
        if not len(self.classifier(self.networks[0], self.first_seed).split(1000)[1]):
            raise ConfigError(
                "validation_fraction=0 leaves nothing to choose a model by; give a share, or a "
                "file of its own"
            )

    @property
    def networks(self) -> tuple[str, ...]:
        """The models that are recurrent."""
        return tuple(name for name in self.models if MODELS[name] is not None)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Model and seed of each run: the models take turns, so that all see the same machine."""
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        return [(name, seed) for seed in seeds for name in self.models]

    def classifier(self, model: str, seed: int, epochs: int | None = None) -> TextClassifier:
        """The untrained classifier of a run; of the linear model, what it reads of one."""
        cell = MODELS[model] or {}
        given = {**self.options, **cell, "ngrams": 0, "random_state": seed}
        if epochs is not None:
            given["epochs"] = epochs
        return TextClassifier.from_preset(self.preset, **given)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "models": list(self.models),
            "seeds": self.seeds,
            "first_seed": self.first_seed,
            "preset": self.preset,
            "options": dict(self.options),
            "budget": self.budget,
            "margin": self.margin,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Plan:
        """The plan of what ``to_json`` gave."""
        return cls(**{**fields, "models": tuple(fields["models"])})


def _told(name: str, value: Any) -> Any:
    """An option as another process understands it, which works in another folder."""
    value = plain(os.fspath(value) if isinstance(value, os.PathLike) else value)
    is_path = name == "vectors" or (name == "tokenizer" and str(value).endswith(".json"))
    return os.path.abspath(value) if is_path and isinstance(value, str) else value


@dataclass(frozen=True)
class Part:
    """Texts and, of each, its label or the list of its labels."""

    texts: list[str]
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(cls, texts: Iterable[str], labels: Iterable[Any]) -> Part:
        """Of whatever ``TextClassifier.fit`` takes; an array of 0 and 1 becomes lists."""
        listed = list(listed_texts(texts))
        for i, text in enumerate(listed):
            if not isinstance(text, str):
                raise DataError(f"text {i} is a {type(text).__name__}, not a str; drop it")
        labels = unwrapped(labels)
        if isinstance(labels, np.ndarray) and labels.ndim == 2:
            found: list[Any] = [np.flatnonzero(row).tolist() for row in labels]
        else:
            found = [_plain_label(label) for label in labels]
        if len(found) != len(listed):
            raise DataError(f"{len(listed)} texts have {len(found)} labels; give each text one")
        return cls(listed, found)

    def select(self, rows: Iterable[int]) -> Part:
        """The given rows, in their order."""
        chosen = list(rows)
        return Part([self.texts[row] for row in chosen], [self.labels[row] for row in chosen])


def _plain_label(label: Any) -> Any:
    if isinstance(label, (list, tuple, set, frozenset)) or (
        isinstance(label, np.ndarray) and label.ndim == 1
    ):
        return sorted((plain(one) for one in label), key=str)
    return plain(label)


@dataclass(frozen=True)
class Parts:
    """All texts of a comparison. validation: None if each seed takes its own of ``train``."""

    train: Part
    test: Part
    validation: Part | None = None

    def held_of_train(self, plan: Plan) -> int:
        """How many texts of ``train`` each seed keeps to validate on."""
        if self.validation is not None:
            return 0
        options = plan.classifier(plan.networks[0], plan.first_seed)
        return len(options.split(len(self.train))[1])

    def digest(self) -> str:
        """What tells these texts and labels from others."""
        found = hashlib.sha256()
        for part in (self.train, self.test, self.validation):
            found.update(b"part")
            for text, label in zip(part.texts, part.labels, strict=True) if part else ():
                found.update(json.dumps([text, label]).encode())
        return found.hexdigest()


def hold_out(part: Part, share: float) -> tuple[Part, Part]:
    """What is left to train on, and a share of each label's texts to test on; the same every time.

    With several labels a text, a share of all texts, of which those stay that alone have a label.
    DataError if nothing would be left of either.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 < share < 1.0:
        raise ConfigError(f"test={share!r} is neither a file nor a share between 0 and 1")
    order = initializers.permutation(0, "compare test", len(part)).tolist()
    left: dict[Any, int] = {}
    for label in part.labels:
        for one in label if isinstance(label, list) else [label]:
            left[one] = left.get(one, 0) + 1
    wanted = {label: math.floor(count * share) for label, count in left.items()}
    several = any(isinstance(label, list) for label in part.labels)
    room = math.floor(len(part) * share)
    test: list[int] = []
    for row in order:
        label = part.labels[row]
        names = label if isinstance(label, list) else [label]
        if several:
            taken = len(test) < room and all(left[one] > 1 for one in names)
        else:
            taken = wanted[label] > 0
        if taken:
            test.append(row)
            for one in names:
                left[one] -= 1
                wanted[one] -= 1
    if not test:
        raise DataError(
            f"{len(part):,} texts are too few to hold out a share of {share:g} of each label's to "
            "test on; give more texts, or a file of its own to test on"
        )
    held = set(test)
    return part.select(r for r in range(len(part)) if r not in held), part.select(sorted(test))


def check_parts(parts: Parts) -> None:
    """DataError for parts that are empty, and for labels that can't be learnt or tested on."""
    named: Sequence[tuple[str, Part | None]] = (
        ("training", parts.train),
        ("test", parts.test),
        ("validation", parts.validation),
    )
    for name, part in named:
        if part is not None and not len(part):
            raise DataError(f"there are no {name} texts; give at least one of each label")
    classes, targets = encode_targets(parts.train.labels, len(parts.train))
    for _, part in named[1:]:
        if part is not None:
            targets_of(classes, part.labels, len(part), many=targets.ndim == 2)
