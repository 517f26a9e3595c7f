"""The classifier's shape and its weights: embedding, recurrent layers, pooling, output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import initializers, ops
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError, unknown_choice
from tidegate.layers import (
    POOLINGS,
    Backward,
    Bidirectional,
    Chain,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    NextInputs,
    OutputDropout,
    Pool,
    Recurrent,
)
from tidegate.losses import labels_loss, weighted_loss
from tidegate.noise import SILENT, Dropout, Noise
from tidegate.stored import StoredTexts, Texts
from tidegate.text import PADDING_ID, UNKNOWN_ID

Float32 = npt.NDArray[np.float32]

CELLS = ("gru", "lstm", "rnn")
RESETS = ("after", "before")
TARGETS = ("one", "many")

EMBEDDING_LIMIT = 0.05  # new vectors are uniform between this and its negative
# Far above anything that a CPU trains, far below what would exhaust memory by a slip of the hand.
_LIMITS = {
    "vocabulary_size": (5, 10_000_000),
    "embedding_size": (1, 8_192),
    "hidden_size": (1, 8_192),
    "classes": (2, 100_000),
    "max_length": (1, 100_000),
    "layers": (1, 64),
}
# Fields that the first released files do not have. Written only where they are not the default.
_LATER = ("layers", "bidirectional", "pooling", "layer_norm", "targets")

_SCORED_TOGETHER = 64  # texts of a group that is scored by the layers themselves


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model's shape and arithmetic. ConfigError for a bad value.

    cell: "gru", "lstm" or "rnn". reset: where a GRU's reset gate acts, "after" the recurrent
    product (Keras, PyTorch, cuDNN) or "before" it (the lecture's equations). vocabulary_size
    counts the four special ids. max_length: tokens read of a text, its last ones. masked: whether
    padding is left out; False is the lecture's pre-padding, which the network reads. classes: two
    classes have one logit, more have one each. layers: recurrent layers, each reading the states
    of the one before it. bidirectional: each layer reads texts from both ends. pooling: what of
    the last layer's states the output layer reads: "last", "max", "mean", "attention" or several,
    as in "last+max+mean". layer_norm: whether the states between layers, and what the output layer
    reads, are normalised. targets: "one" class of each text, or "many": each class is a label of
    its own that a text has or has not, with a logit and a sigmoid of its own.
    """

    cell: str = "gru"
    reset: str = "after"
    vocabulary_size: int = 10_000
    embedding_size: int = 128
    hidden_size: int = 128
    classes: int = 2
    max_length: int = 200
    masked: bool = False
    layers: int = 1
    bidirectional: bool = False
    pooling: str = "last"
    layer_norm: bool = False
    targets: str = "one"

    def __post_init__(self) -> None:
        if not isinstance(self.cell, str) or self.cell not in CELLS:
            raise unknown_choice("cell", self.cell, CELLS)
        if not isinstance(self.reset, str) or self.reset not in RESETS:
            raise unknown_choice("reset", self.reset, RESETS)
        if not isinstance(self.targets, str) or self.targets not in TARGETS:
            raise unknown_choice("targets", self.targets, TARGETS)
        for name in ("masked", "bidirectional", "layer_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} is neither True nor False")
        self._check_pooling()
        for name, (least, most) in _LIMITS.items():
            check_whole(name, getattr(self, name), least, most)
            # NumPy's integers, as a search over parameters gives them, are no JSON.
            object.__setattr__(self, name, int(getattr(self, name)))

    def _check_pooling(self) -> None:
        kinds = self.pooling.split("+") if isinstance(self.pooling, str) else [self.pooling]
        for kind in kinds:
            if not isinstance(kind, str) or kind not in POOLINGS:
                raise unknown_choice("pooling", kind, POOLINGS)
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"pooling={self.pooling!r} names one kind twice")
        if "attention" in kinds and not self.masked:
            raise ConfigError(f"pooling={self.pooling!r} has attention, which needs masked=True")

    @property
    def poolings(self) -> tuple[str, ...]:
        """The kinds of pooling, in the order in which the output layer reads them."""
        return tuple(self.pooling.split("+"))

    @property
    def state_size(self) -> int:
        """How many numbers a recurrent layer's states have, both directions together."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    @property
    def recurrent_names(self) -> tuple[tuple[str, ...], ...]:
        """For each layer, its name, and that of the one that reads from the end, if any."""
        numbered = ("recurrent" if i == 0 else f"recurrent{i + 1}" for i in range(self.layers))
        if self.bidirectional:
            return tuple((name, f"{name}_reverse") for name in numbered)
        return tuple((name,) for name in numbered)

    @property
    def reads_padding(self) -> bool:
        """Whether padding is made part of each text, because it is read from the end too."""
        return self.bidirectional and not self.masked

    @property
    def kind(self) -> ops.Kind:
        """The recurrent kernel's name for this cell."""
        if self.cell == "gru":
            return "gru_after" if self.reset == "after" else "gru_before"
        return "lstm" if self.cell == "lstm" else "rnn"

    @property
    def logits(self) -> int:
        """How many numbers the output layer gives for each text."""
        return 1 if self.classes == 2 and self.targets == "one" else self.classes

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""
        hidden, gates = self.hidden_size, len(ops.GATES[self.cell])
        shapes: dict[str, tuple[int, ...]] = {
            "embedding.weight": (self.vocabulary_size, self.embedding_size)
        }
        for layer, names in enumerate(self.recurrent_names):
            width = self.state_size if layer else self.embedding_size
            for name in names:
                shapes[f"{name}.kernel"] = (width, gates * hidden)
                shapes[f"{name}.recurrent_kernel"] = (hidden, gates * hidden)
                shapes[f"{name}.bias"] = (gates * hidden,)
                if self.kind == "gru_after":
                    shapes[f"{name}.recurrent_bias"] = (gates * hidden,)
            if self.layer_norm and layer:
                shapes[f"{names[0]}_norm.gain"] = shapes[f"{names[0]}_norm.bias"] = (width,)
        pooled = self.state_size * len(self.poolings)
        if "attention" in self.poolings:
            shapes["attention.query"] = (self.state_size,)
        if self.layer_norm:
            shapes["output_norm.gain"] = shapes["output_norm.bias"] = (pooled,)
        shapes["output.kernel"] = (pooled, self.logits)
        shapes["output.bias"] = (self.logits,)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        defaults = {name: type(self).__dataclass_fields__[name].default for name in _LATER}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in defaults or value != defaults[name]
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ModelConfig:
        """The config of these fields. ConfigError if one is missing, unknown or bad."""
        known = set(cls.__dataclass_fields__)
        different = (known - set(_LATER) - set(fields)) | (set(fields) - known)
        if different:
            raise ConfigError(
                "the model's config has missing or unknown fields: " + ", ".join(sorted(different))
            )
        return cls(**fields)


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """ConfigError unless ``value`` is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name}={value!r} is not a whole number")
    if not least <= value <= most:
        raise ConfigError(f"{name}={value} is not between {least:,} and {most:,}")


def check_dropout(dropout: Dropout, config: ModelConfig) -> None:
    """ConfigError for a rate that a model of this shape has no use for."""
    if dropout.layers and config.layers == 1:
        raise ConfigError(f"layer_dropout={dropout.layers:g} is between layers; set layers=2")
    for name, rate in (("embedding", dropout.embedding), ("layer", dropout.layers)):
        if rate and not (config.masked or config.reads_padding):
            # All texts share the padding's states, and each text has a mask of its own.
            raise ConfigError(f"{name}_dropout={rate:g} needs masked=True")


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
        self._frozen = False

    def _use(self, p: dict[str, Float32]) -> None:
        """Make layers of these arrays."""
        self._parameters = MappingProxyType(p)
        self._chain = Chain(*self._layers(p))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What a call runs, one after another: the embedding first, the output layer last."""
        return self._chain.layers

    def recurrent_weights(self, name: str) -> ops.RecurrentWeights:
        """The weights of a recurrent layer, of ``config.recurrent_names``."""
        p = self._parameters
        return ops.RecurrentWeights(
            p[f"{name}.kernel"],
            p[f"{name}.recurrent_kernel"],
            p[f"{name}.bias"],
            p.get(f"{name}.recurrent_bias"),
        )

    def _layers(self, p: Mapping[str, Float32]) -> Iterator[Layer]:
        config = self.config
        yield Embedding(p["embedding.weight"])
        for layer, names in enumerate(config.recurrent_names):
            if layer:
                yield NextInputs(f"{names[0]} inputs")
                if config.layer_norm:
                    norm = f"{names[0]}_norm"
                    yield LayerNorm(p[f"{norm}.gain"], p[f"{norm}.bias"], norm)
            outputs = layer + 1 < config.layers or config.poolings != ("last",)
            directions = [
                Recurrent(config.kind, self.recurrent_weights(name), name, self.precision, outputs)
                for name in names
            ]
            yield Bidirectional(*directions) if config.bidirectional else directions[0]
        yield Pool(config.poolings, p.get("attention.query"))
        if config.layer_norm:
            yield LayerNorm(p["output_norm.gain"], p["output_norm.bias"], "output_norm")
        yield OutputDropout()
        yield Linear(p["output.kernel"], p["output.bias"])

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
                value = initializers.uniform(seed, stream, shape, EMBEDDING_LIMIT)
            elif name.endswith(".recurrent_kernel"):
                value = initializers.orthogonal(seed, stream, (shape[0], shape[1]))
            elif len(shape) == 2:
                value = initializers.glorot_uniform(seed, stream, (shape[0], shape[1]))
            else:
                value = np.full(shape, 1.0 if name.endswith(".gain") else 0.0, np.float32)
            parameters[name] = value
        if config.cell == "lstm":
            # The forget gate starts open. Source: Jozefowicz, Zaremba & Sutskever 2015.
            for names in config.recurrent_names:
                for name in names:
                    parameters[f"{name}.bias"][config.hidden_size : 2 * config.hidden_size] = 1.0
        return cls(config, parameters, precision)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are made of what defines the model; scratch memory stays behind.
        return TextModel, (self.config, dict(self.parameters), self.precision)

    def pack(self, texts: Texts, rows: npt.ArrayLike, noise: Noise = SILENT) -> PackedBatch:
        """The given rows as a batch for this model. noise: may make words unknown."""
        if isinstance(texts, StoredTexts) or noise.rates.words or self.config.reads_padding:
            texts = texts.select(np.asarray(rows))
            rows = np.arange(len(texts))
            if noise.rates.words:
                drops = noise.drops("words", texts.token_ids.shape, noise.rates.words)
                ids = np.where(drops, np.int32(UNKNOWN_ID), texts.token_ids)
                texts = TokenizedTexts(ids, texts.offsets)
            if self.config.reads_padding:
                texts = texts.padded(self.config.max_length, PADDING_ID)
        return ops.pack(
            texts,
            rows,
            max_length=self.config.max_length,
            masked=self.config.masked or self.config.reads_padding,
            vocabulary_size=self.config.vocabulary_size,
        )

    def __call__(self, batch: PackedBatch, noise: Noise = SILENT) -> tuple[Float32, Backward]:
        """Logits [B, L] in packed order, and the function that takes their gradient back."""
        return self._chain(batch, noise)

    def loss(
        self,
        logits: Float32,
        targets: npt.NDArray[np.int32],
        weights: Float32 | None = None,
        smoothing: float = 0.0,
    ) -> tuple[float, Float32, int]:
        """Mean cross-entropy in nats, its gradient [B, L], and how many rows are right.

        targets: [B] class numbers, or [B, L] of 0 and 1 where config.targets is "many".
        weights: [B], what each row's part is multiplied by. smoothing: see ``weighted_loss``.
        """
        if self.config.targets == "many":
            return labels_loss(logits, targets, weights, smoothing)
        if weights is not None or smoothing:
            return weighted_loss(logits, targets, weights, smoothing)
        if self.config.logits == 1:
            loss, d_logits, correct = ops.logistic_loss(logits.reshape(-1), targets)
            return loss, d_logits.reshape(logits.shape), correct
        return ops.softmax_loss(logits, targets)

    def predict_logits(self, texts: Texts) -> Float32:
        """Logits [texts, L] in the order of the texts.

        The same bits as a call's, whatever texts stand beside one another.
        """
        score = self._score_in_groups
        if self._has_scorer:
            scorer = self._scorer if self._scorer is not None else self._make_scorer()
            score = scorer.score
        return np.concatenate([score(block) for block in texts.blocks()])

    @property
    def _has_scorer(self) -> bool:
        """Whether the model is of the shape that ``ops.Scorer`` knows."""
        config = self.config
        plain = config.poolings == ("last",) and not config.layer_norm
        return plain and config.layers == 1 and not config.bidirectional

    def features(self, texts: TokenizedTexts) -> Float32:
        """[texts, F], the vector of each text that the output layer reads.

        F is ``state_size`` times the kinds of pooling. The same bits whatever texts stand beside
        one another; beside the result, memory does not grow with their number.
        """
        width = len(self.parameters["output.kernel"])
        return self._in_groups(texts, Chain(*self.layers[:-1]), width)

    def _score_in_groups(self, texts: TokenizedTexts) -> Float32:
        return self._in_groups(texts, self._chain, self.config.logits)

    def _in_groups(self, texts: TokenizedTexts, chain: Chain, width: int) -> Float32:
        """[texts, width] of the layers themselves, over texts of nearly one length at a time."""
        results = np.empty((len(texts), width), np.float32)
        order = np.argsort(-texts.lengths, kind="stable")
        for start in range(0, len(order), _SCORED_TOGETHER):
            rows = order[start : start + _SCORED_TOGETHER]
            batch = self.pack(texts, rows)
            results[rows[batch.rows]] = chain(batch)[0]
        return results

    def freeze(self) -> None:
        """Make every later prediction faster, and the model one that can't be changed.

        What predictions need is then prepared once and kept. ``parameters`` becomes read-only
        copies: arrays that the model was given, or that were taken from it before, stay
        writable and are the caller's alone. It is no training's peak of memory, as Adam holds two
        more numbers for each weight.
        """
        if not self._frozen:
            # Always copies: NumPy can't tell whether a view would still write to an array.
            own = {name: value.copy() for name, value in self.parameters.items()}
            for value in own.values():
                value.flags.writeable = False
            self._use(own)
            self._scorer = self._make_scorer() if self._has_scorer else None
            self._frozen = True

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
            self.recurrent_weights("recurrent"),
            self.parameters["output.kernel"],
            self.parameters["output.bias"],
            max_length=self.config.max_length,
            masked=self.config.masked,
            precision=self.precision,
        )

    def probabilities(self, logits: Float32) -> npt.NDArray[np.float64]:
        """[n, classes] float64 from logits [n, L]; every row adds up to 1 if targets is "one"."""
        wide = logits.astype(np.float64)
        if self.config.targets == "many":
            small = np.exp(-np.abs(wide))
            shares: npt.NDArray[np.float64] = np.where(wide >= 0.0, 1.0, small) / (1.0 + small)
            return shares
        if self.config.logits == 1:
            wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return result
