"""What an import reads from any framework, before it has a vocabulary and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidegate.errors import ConversionError

Array = npt.NDArray[Any]
Activation = Literal["sigmoid", "softmax", "linear"]
# What one side computes, in order: of a sequence a list with a [length, F] array for each text, of
# all else an array [texts, F].
Stages = dict[str, "Array | list[Array]"]


@dataclass(frozen=True)
class Foreign:
    """A network of another framework, its weights in tidegate's order and sense.

    source: the framework and file. shape: fields of ModelConfig that the file tells. max_length:
    tokens of a text, if the file tells that. weights: by tidegate's names, all but the output
    layer's; the embedding's rows are the framework's ids. kernel [P, U], bias [U], activation: of
    the output layer. padding_id: the id that is padding, or None. run: what the framework computes
    of rows of its ids, which begin with padding where that is read; its last stage, "logits", is
    [texts, U], before the activation.
    """

    source: str
    shape: Mapping[str, Any]
    max_length: int | None
    weights: Mapping[str, Array]
    kernel: Array
    bias: Array
    activation: Activation
    padding_id: int | None
    run: Callable[[Sequence[Sequence[int]]], Stages]

    @property
    def units(self) -> int:
        """How many outputs there are."""
        return int(self.kernel.shape[1])

    @property
    def embedding(self) -> Array:
        """[ids, E] the words' vectors."""
        return self.weights["embedding.weight"]

    def turn(self, order: Sequence[int], *, many: bool) -> Array:
        """[U, L] the matrix from the output's units to tidegate's logits.

        order: which of the framework's classes is tidegate's first, second and so on. many:
        whether a text may have several of them.
        """
        units = self.units
        if units == 1:
            return np.array([[1.0 if list(order) == [0, 1] else -1.0]])
        identity = np.eye(units)[:, list(order)]
        return identity if units > 2 or many else identity[:, 1:] - identity[:, :1]


def check_head(kernel: Array, bias: Array, activation: object, inputs: int) -> Activation:
    """The output layer's activation. ConversionError for a layer that tidegate can't have."""
    units = kernel.shape[1] if kernel.ndim == 2 else 0
    if kernel.shape != (inputs, units) or bias.shape != (units,) or not units:
        raise ConversionError(
            f"the output layer has weights of {list(kernel.shape)} and {list(bias.shape)}, which "
            f"do not fit the {inputs} numbers before it; save the model again"
        )
    if activation == "linear" or activation == "sigmoid":
        return "linear" if activation == "linear" else "sigmoid"
    if activation == "softmax" and units > 1:
        return "softmax"
    raise ConversionError(
        f"the output layer has {units} units with activation {activation!r}; tidegate's have "
        "sigmoid, several units may have softmax, or they are linear"
    )
