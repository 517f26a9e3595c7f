"""The proof of a conversion: both sides compute the same numbers of the same random texts.

tidegate's side are its compiled kernels in float32. The other side is another program: the
framework's documented arithmetic in NumPy float64 (``keras_statement``, ``torch_statement``,
``onnx_statement``), which shares no line with the conversion, or the framework itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tidegate.batch import TokenizedTexts
from tidegate.errors import ConversionError
from tidegate.interop.network import Array, Stages
from tidegate.layers import Embedding, Inputs, LayerNorm, Linear, Pool, States
from tidegate.model import ModelConfig, TextModel
from tidegate.noise import SILENT
from tidegate.reference_sequence import positions_of
from tidegate.text import FIRST_WORD_ID, PADDING_ID

TOLERANCE = 1e-5  # of logits, and of their size where they are above 1

_LONGEST = 40  # tokens of the proof's texts: rounding grows with a plain RNN's steps
_TEXTS = 24


def draw_rows(config: ModelConfig, specials: Sequence[int] = (1, 2), seed: int = 0) -> list[Array]:
    """Texts of random ids, some of no word at all and some as long as they may be.

    specials: of the ids below the words', those that a text may hold.
    """
    random = np.random.default_rng(seed)
    longest = min(config.max_length, _LONGEST)
    ids = np.concatenate([list(specials), np.arange(FIRST_WORD_ID, config.vocabulary_size)])
    lengths = [0, 1, longest, 2, 0, longest, *random.integers(0, longest + 1, _TEXTS - 6)]
    return [random.choice(ids, min(n, longest)).astype(np.int32) for n in lengths]


def read_ids(config: ModelConfig, row: Array) -> Array:
    """The ids that the network reads of a text: with the padding in front, if it reads that."""
    if config.masked:
        return row
    return np.concatenate([np.full(config.max_length - len(row), PADDING_ID, row.dtype), row])


def float32_model(model: TextModel) -> TextModel:
    """The same weights, with float32 products: what the other side computes, too."""
    return TextModel(model.config, dict(model.parameters), "float32")


def prove(
    model: TextModel,
    rows: Sequence[Array],
    other: Callable[[], Stages],
    side: str,
    tolerance: float = TOLERANCE,
) -> float:
    """The largest difference of the logits, relative where they are above 1.

    rows: texts in tidegate's ids. other: what the other side computes of them, the last stage
    being tidegate's "logits" [texts, L]. ConversionError if it is above the tolerance; it names
    the first tensor that differs.
    """
    texts = TokenizedTexts.from_rows(rows)
    found = model.predict_logits(texts)
    stages = other()
    # Of a text without a word a framework may have no number at all (a mean of nothing).
    theirs = np.array(stages["logits"], np.float64)
    undefined = (texts.lengths == 0) & np.isnan(theirs.reshape(len(rows), -1)).all(axis=1)
    theirs[undefined] = found[undefined]
    difference = _difference(found, theirs)
    if difference <= tolerance:
        return difference
    own = own_stages(model, texts)
    first = next(
        (name for name in own if name in stages and not _near(own[name], stages[name], tolerance)),
        "logits",
    )
    raise ConversionError(
        f"tidegate and {side} differ by {difference:.2g}, more than {tolerance:g}, first in the "
        f"tensor {first!r}; nothing was written"
    )


def _near(ours: Array | list[Array], theirs: Array | list[Array], tolerance: float) -> bool:
    if isinstance(ours, list) or isinstance(theirs, list):
        return len(ours) == len(theirs) and all(
            _difference(a, b) <= tolerance for a, b in zip(ours, theirs, strict=True)
        )
    return _difference(ours, theirs) <= tolerance


def _difference(ours: Array | list[Array], theirs: Array | list[Array]) -> float:
    """The largest one; infinite where one side is no number or has another shape."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    gap = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")


def own_stages(model: TextModel, texts: TokenizedTexts) -> Stages:
    """What tidegate's layers compute one after another, in the order of the texts."""
    batch = model.pack(texts, np.arange(len(texts)))
    order = np.argsort(batch.rows)
    places = [np.array(positions_of(batch, int(row)), np.int64) for row in order]
    value: Any = batch
    stages: Stages = {}
    layer_names = iter(names[0] for names in model.config.recurrent_names)
    name = "embedding"
    for layer in model.layers:
        value, _ = layer(value, SILENT)
        if isinstance(layer, Embedding):
            everywhere = value.values[batch.index]
            stages["embedding"] = [everywhere[p] for p in places]
        elif isinstance(layer, LayerNorm) and isinstance(value, Inputs):
            stages[f"{name}_norm"] = [value.values[p] for p in places]
        elif isinstance(value, States):
            name = next(layer_names)
            if value.outputs is not None:
                stages[name] = [value.outputs[p] for p in places]
        elif isinstance(layer, Pool):
            stages["pooled"] = value[order]
        elif isinstance(layer, LayerNorm):
            stages["output_norm"] = value[order]
        elif isinstance(layer, Linear):
            stages["logits"] = value[order]
    return stages
