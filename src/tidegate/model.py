"""The classifier's shape and its weights: embedding, recurrent layer, last state, output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import initializers, ops
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError, unknown_choice
from tidegate.layers import Backward, Chain, Embedding, LastState, Linear, Recurrent

Float32 = npt.NDArray[np.float32]

CELLS = ("gru", "lstm", "rnn")
RESETS = ("after", "before")

_EMBEDDING_LIMIT = 0.05
# Far above anything that a CPU trains, far below what would exhaust memory by a slip of the hand.
_LIMITS = {
    "vocabulary_size": (5, 10_000_000),
    "embedding_size": (1, 8_192),
    "hidden_size": (1, 8_192),
    "classes": (2, 100_000),
    "max_length": (1, 100_000),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model's shape and arithmetic. ConfigError for a bad value.

    cell: "gru", "lstm" or "rnn". reset: where a GRU's reset gate acts, "after" the recurrent
    product (Keras, PyTorch, cuDNN) or "before" it (the lecture's equations). vocabulary_size
    counts the four special ids. max_length: tokens read of a text, its last ones. masked: whether
    padding is left out; False is the lecture's pre-padding, which the network reads. classes: two
    classes have one logit, more have one each.
    """

    cell: str = "gru"
    reset: str = "after"
    vocabulary_size: int = 10_000
    embedding_size: int = 128
    hidden_size: int = 128
    classes: int = 2
    max_length: int = 200
    masked: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.cell, str) or self.cell not in CELLS:
            raise unknown_choice("cell", self.cell, CELLS)
        if not isinstance(self.reset, str) or self.reset not in RESETS:
            raise unknown_choice("reset", self.reset, RESETS)
        if not isinstance(self.masked, bool):
            raise ConfigError(f"masked={self.masked!r} is neither True nor False")
        for name, (least, most) in _LIMITS.items():
            check_whole(name, getattr(self, name), least, most)
            # NumPy's integers, as a search over parameters gives them, are no JSON.
            object.__setattr__(self, name, int(getattr(self, name)))

    @property
    def kind(self) -> ops.Kind:
        """The recurrent kernel's name for this cell."""
        if self.cell == "gru":
            return "gru_after" if self.reset == "after" else "gru_before"
        return "lstm" if self.cell == "lstm" else "rnn"

    @property
    def logits(self) -> int:
        """How many numbers the output layer gives for each text."""
        return 1 if self.classes == 2 else self.classes

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""
        embedding, hidden = self.embedding_size, self.hidden_size
        gates = len(ops.GATES[self.cell])
        shapes: dict[str, tuple[int, ...]] = {
            "embedding.weight": (self.vocabulary_size, embedding),
            "recurrent.kernel": (embedding, gates * hidden),
            "recurrent.recurrent_kernel": (hidden, gates * hidden),
            "recurrent.bias": (gates * hidden,),
            "output.kernel": (hidden, self.logits),
            "output.bias": (self.logits,),
        }
        if self.kind == "gru_after":
            shapes["recurrent.recurrent_bias"] = (gates * hidden,)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ModelConfig:
        """The config of these fields. ConfigError if one is missing, unknown or bad."""
        wanted = set(cls.__dataclass_fields__)
        if set(fields) != wanted:
            different = ", ".join(sorted(wanted ^ set(fields)))
            raise ConfigError(f"the model's config has missing or unknown fields: {different}")
        return cls(**fields)


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """ConfigError unless ``value`` is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name}={value!r} is not a whole number")
    if not least <= value <= most:
        raise ConfigError(f"{name}={value} is not between {least:,} and {most:,}")


class TextModel:
    """Logits from packed batches.

    It computes with the given float32 arrays themselves if they are contiguous, until ``freeze``
    makes its own. Their layout is Keras's (inputs first, gates side by side), with the update gate
    in the lecture's sense: the share of the new. precision: of the recurrent layer's matrix
    products, one of ``ops.PRECISIONS``.
    """

    def __init__(
        self,
        config: ModelConfig,
        parameters: Mapping[str, Float32],
        precision: ops.Precision = "float32",
    ) -> None:
        if precision not in ops.PRECISIONS:
            raise unknown_choice("precision", precision, ops.PRECISIONS)
        self.config = config
        self.precision: ops.Precision = precision
        shapes = config.parameter_shapes()
        if set(parameters) != set(shapes):
            different = ", ".join(sorted(set(parameters) ^ set(shapes)))
            raise ShapeError(f"the parameters do not fit the config: {different}")
        for name, shape in shapes.items():
            array = parameters[name]
            if array.shape != shape or array.dtype != np.float32:
                raise ShapeError(
                    f"{name} is {array.dtype} {list(array.shape)}; the config needs float32 "
                    f"{list(shape)}"
                )
        self._use({name: np.ascontiguousarray(parameters[name]) for name in shapes})
        self._scorer: ops.Scorer | None = None

    def _use(self, p: dict[str, Float32]) -> None:
        """Make layers of these arrays."""
        self._parameters = MappingProxyType(p)
        self._weights = ops.RecurrentWeights(
            p["recurrent.kernel"],
            p["recurrent.recurrent_kernel"],
            p["recurrent.bias"],
            p.get("recurrent.recurrent_bias"),
        )
        self._chain = Chain(
            Embedding(p["embedding.weight"]),
            Recurrent(self.config.kind, self._weights, precision=self.precision),
            LastState(),
            Linear(p["output.kernel"], p["output.bias"]),
        )

    @property
    def parameters(self) -> Mapping[str, Float32]:
        """The arrays by name, which the layers share: changing one in place changes the model.

        None can be put in another's place, and once frozen none can be changed.
        """
        return self._parameters

    @classmethod
    def initialize(
        cls, config: ModelConfig, seed: int, precision: ops.Precision = "float32"
    ) -> TextModel:
        """A new model with Keras's initial distributions, fixed by the seed."""
        parameters = {}
        for name, shape in config.parameter_shapes().items():
            stream = f"initialize {name}"
            if name == "embedding.weight":
                value = initializers.uniform(seed, stream, shape, _EMBEDDING_LIMIT)
            elif name == "recurrent.recurrent_kernel":
                value = initializers.orthogonal(seed, stream, (shape[0], shape[1]))
            elif len(shape) == 2:
                value = initializers.glorot_uniform(seed, stream, (shape[0], shape[1]))
            else:
                value = np.zeros(shape, np.float32)
            parameters[name] = value
        if config.cell == "lstm":
            # The forget gate starts open. Source: Jozefowicz, Zaremba & Sutskever 2015.
            parameters["recurrent.bias"][config.hidden_size : 2 * config.hidden_size] = 1.0
        return cls(config, parameters, precision)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are made of what defines the model; scratch memory stays behind.
        return TextModel, (self.config, dict(self.parameters), self.precision)

    def pack(self, texts: TokenizedTexts, rows: npt.ArrayLike) -> PackedBatch:
        """The given rows as a batch for this model."""
        return ops.pack(
            texts,
            rows,
            max_length=self.config.max_length,
            masked=self.config.masked,
            vocabulary_size=self.config.vocabulary_size,
        )

    def __call__(self, batch: PackedBatch) -> tuple[Float32, Backward]:
        """Logits [B, L] in packed order, and the function that takes their gradient back."""
        return self._chain(batch)

    def loss(self, logits: Float32, targets: npt.NDArray[np.int32]) -> tuple[float, Float32, int]:
        """Mean cross-entropy in nats, its gradient [B, L], and how many rows are right."""
        if self.config.logits == 1:
            loss, d_logits, correct = ops.logistic_loss(logits.reshape(-1), targets)
            return loss, d_logits.reshape(logits.shape), correct
        return ops.softmax_loss(logits, targets)

    def predict_logits(self, texts: TokenizedTexts) -> Float32:
        """Logits [texts, L] in the order of the texts.

        The same bits as a call's, whatever texts stand beside one another.
        """
        scorer = self._scorer if self._scorer is not None else self._make_scorer()
        return scorer.score(texts)

    def freeze(self) -> None:
        """Make every later prediction faster, and the model one that can't be changed.

        What predictions need is then prepared once and kept. ``parameters`` becomes read-only
        copies: arrays that the model was given, or that were taken from it before, stay
        writable and are the caller's alone. It is no training's peak of memory, as Adam holds two
        more numbers for each weight.
        """
        if self._scorer is None:
            # Always copies: NumPy can't tell whether a view would still write to an array.
            own = {name: value.copy() for name, value in self.parameters.items()}
            for value in own.values():
                value.flags.writeable = False
            self._use(own)
            self._scorer = self._make_scorer()

    def check_finite(self) -> None:
        """ShapeError if a weight is not a finite number."""
        for name, value in self.parameters.items():
            # Not isfinite of all, which would be another array. NaN is the least and the largest.
            if not (np.isfinite(value.min()) and np.isfinite(value.max())):
                raise ShapeError(
                    f"{name} has weights that are not finite; train again with a lower "
                    "learning_rate or a clip_norm"
                )

    def _make_scorer(self) -> ops.Scorer:
        return ops.Scorer(
            self.config.kind,
            self.parameters["embedding.weight"],
            self._weights,
            self.parameters["output.kernel"],
            self.parameters["output.bias"],
            max_length=self.config.max_length,
            masked=self.config.masked,
            precision=self.precision,
        )

    def probabilities(self, logits: Float32) -> npt.NDArray[np.float64]:
        """[n, classes] float64 from logits [n, L]; every row adds up to 1."""
        wide = logits.astype(np.float64)
        if self.config.logits == 1:
            wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return result
