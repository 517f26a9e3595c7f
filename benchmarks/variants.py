"""tidegate with techniques switched off, so that saved work and fast kernels can be told apart.

The library has no such switch: these are the same kernels, given more to do. Two techniques save
work. The input product is computed once for each distinct word of a batch, and the padding before
the texts is one trajectory that all of them branch off. What is computed stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.layers import Backward, Gradients, RowGradients
from tidegate.model import ModelConfig, TextModel
from tidegate.text import PADDING_ID

Float32 = npt.NDArray[np.float32]


class PerPosition(TextModel):
    """Multiplies every position's vector by W, as frameworks do, not every distinct word's.

    The embedding's gradient is added up word by word in NumPy, on one thread: a few milliseconds
    of a batch that a kernel for it would not need.
    """

    def __init__(
        self,
        config: ModelConfig,
        parameters: Mapping[str, Float32],
        precision: ops.Precision = "float32",
    ) -> None:
        super().__init__(config, parameters, precision)
        self._tape = ops.RecurrentTape()

    def __call__(self, batch: PackedBatch) -> tuple[Float32, Backward]:
        p = self.parameters
        inputs = ops.gather_rows(p["embedding.weight"], batch.words[batch.index])
        _, last, _ = ops.recurrent_forward(
            self.config.kind,
            batch,
            inputs,
            self._weights,
            dense=True,
            tape=self._tape,
            precision=self.precision,
        )
        logits = ops.linear_forward(last, p["output.kernel"], p["output.bias"])

        def backward(d_logits: Float32, gradients: Gradients) -> None:
            d_last, d_kernel, d_bias = ops.linear_backward(last, p["output.kernel"], d_logits)
            gradients["output.kernel"], gradients["output.bias"] = d_kernel, d_bias
            found = ops.recurrent_backward(self._tape, d_last)
            gradients["recurrent.kernel"] = found.kernel
            gradients["recurrent.recurrent_kernel"] = found.recurrent_kernel
            gradients["recurrent.bias"] = found.bias
            if found.recurrent_bias is not None:
                gradients["recurrent.recurrent_bias"] = found.recurrent_bias
            ordered = ops.gather_rows(found.inputs, batch.occurrences)
            values = np.add.reduceat(ordered, batch.occurrence_offsets[:-1], axis=0)
            gradients["embedding.weight"] = RowGradients(batch.words, values)

        return logits, backward


def padded(texts: TokenizedTexts, length: int) -> np.ndarray:
    """[texts, length] int32: the last ids of each text, zeros in front."""
    ids = np.full((len(texts), length), PADDING_ID, np.int32)
    for i in range(len(texts)):
        row = texts.row(i)[-length:]
        ids[i, length - len(row) :] = row
    return ids


def filled(texts: TokenizedTexts, length: int) -> TokenizedTexts:
    """The texts with their padding as words of their own, so that each has ``length``."""
    ids = padded(texts, length)
    return TokenizedTexts(ids.reshape(-1), np.arange(0, ids.size + 1, length, dtype=np.int64))


def unshared_padding(config: ModelConfig) -> ModelConfig:
    """For texts that are ``filled``: nothing is left to pad, so there is no padding row."""
    return replace(config, masked=True)


def work(batch: PackedBatch, config: ModelConfig, *, per_position: bool = False) -> dict[str, Any]:
    """What the recurrent layer's products have to do for a batch, in GFLOP.

    A multiplication and an addition are two operations. Backward, each product has two gradients.
    """
    projected = batch.total_positions if per_position else len(batch.words)
    columns = len(ops.GATES[config.cell]) * config.hidden_size
    steps = batch.total_positions * config.hidden_size
    forward = 2e-9 * (projected * config.embedding_size + steps) * columns
    return {
        "words": len(batch.words),
        "positions": batch.total_positions,
        "forward_gflop": forward,
        "backward_gflop": 2 * forward,
    }
