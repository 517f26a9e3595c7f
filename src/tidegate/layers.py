"""Layers: a call returns the layer's output and its backward function.

    output, backward = layer(inputs)
    d_inputs = backward(d_output, gradients)

``backward`` fills ``gradients`` with the layer's parameters' gradients under their full names,
such as "recurrent.kernel", and returns the gradient of what the layer was given. There is no tape
and no graph: a chain calls the layers in order and their backward functions in reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.batch import PackedBatch
from tidegate.errors import ShapeError

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowGradients:
    """The gradient of a table in which only some rows were used.

    rows: [W] int32, distinct. values: [W, width] float32.
    """

    rows: npt.NDArray[np.int32]
    values: Float32


Gradients = dict[str, "Float32 | RowGradients"]
Backward = Callable[[Any, Gradients], Any]


class Layer(Protocol):
    """What a chain needs of a layer."""

    parameters: dict[str, Float32]

    def __call__(self, inputs: Any, /) -> tuple[Any, Backward]:
        """The output, and the function that takes its gradient back."""


@dataclass(frozen=True)
class WordInputs:
    """What a recurrent layer reads: one vector for each distinct word of a batch.

    values: [W, I] float32, in the order of batch.words.
    """

    batch: PackedBatch
    values: Float32


@dataclass(frozen=True)
class States:
    """What a recurrent layer returns, and the gradient of that.

    last: [B, H], each packed row's final state. outputs: [N + P, H], the state after each
    position's step, or None where nobody asked for it (as a gradient: zeros).
    """

    last: Float32
    outputs: Float32 | None = None


class Embedding:
    """Turns a batch's distinct words into vectors. weight: [V, E]."""

    def __init__(self, weight: Float32, name: str = "embedding") -> None:
        self.parameters: dict[str, Float32] = {f"{name}.weight": weight}
        self._weight_name = f"{name}.weight"

    def __call__(self, batch: PackedBatch) -> tuple[WordInputs, Backward]:
        values = ops.gather_rows(self.parameters[self._weight_name], batch.words)

        def backward(d_values: Float32, gradients: Gradients) -> None:
            gradients[self._weight_name] = RowGradients(batch.words, d_values)

        return WordInputs(batch, values), backward


class _LentTape:
    """A tape on loan to one backward function; goes back when that has run or is dropped.

    A tape is tens of megabytes: a new one for each batch would spend more on fetching pages from
    the system than on arithmetic.
    """

    def __init__(self, home: list[ops.RecurrentTape]) -> None:
        self._home = home
        try:
            self._tape: ops.RecurrentTape | None = home.pop()
        except IndexError:
            self._tape = ops.RecurrentTape()

    @property
    def tape(self) -> ops.RecurrentTape:
        """The tape while it is on loan; ShapeError after that."""
        if self._tape is None:
            raise ShapeError("backward has run already; call the layer again first")
        return self._tape

    def give_back(self) -> None:
        """Hand the tape to whoever comes next."""
        tape, self._tape = self._tape, None
        if tape is not None:
            self._home.append(tape)

    __del__ = give_back


class Recurrent:
    """GRU (either form), LSTM or plain RNN over a packed batch.

    kernel: [I, G * H]; recurrent_kernel: [H, G * H]; bias: [G * H]; recurrent_bias: [3 * H] for
    the GRU with reset after, else None. Gate order and the sense of the gates: ``ops.GATES``.
    """

    def __init__(
        self,
        kind: ops.Kind,
        weights: ops.RecurrentWeights,
        name: str = "recurrent",
        precision: ops.Precision = "float32",
    ) -> None:
        self.kind = kind
        self.precision: ops.Precision = precision
        self.weights = weights
        self._name = name
        self.parameters: dict[str, Float32] = {
            f"{name}.kernel": weights.kernel,
            f"{name}.recurrent_kernel": weights.recurrent_kernel,
            f"{name}.bias": weights.bias,
        }
        if weights.recurrent_bias is not None:
            self.parameters[f"{name}.recurrent_bias"] = weights.recurrent_bias
        self._free_tapes: list[ops.RecurrentTape] = []

    def __call__(self, inputs: WordInputs) -> tuple[States, Backward]:
        lent = _LentTape(self._free_tapes)
        _, last, _ = ops.recurrent_forward(
            self.kind,
            inputs.batch,
            inputs.values,
            self.weights,
            tape=lent.tape,
            precision=self.precision,
        )

        def backward(d_states: States, gradients: Gradients) -> Any:
            found = ops.recurrent_backward(lent.tape, d_states.last, d_states.outputs)
            lent.give_back()
            gradients[f"{self._name}.kernel"] = found.kernel
            gradients[f"{self._name}.recurrent_kernel"] = found.recurrent_kernel
            gradients[f"{self._name}.bias"] = found.bias
            if found.recurrent_bias is not None:
                gradients[f"{self._name}.recurrent_bias"] = found.recurrent_bias
            return found.inputs

        return States(last), backward


class LastState:
    """Pools a text to the state after its last word."""

    def __init__(self) -> None:
        self.parameters: dict[str, Float32] = {}

    def __call__(self, states: States) -> tuple[Float32, Backward]:
        def backward(d_last: Float32, gradients: Gradients) -> States:
            return States(d_last)

        return states.last, backward


class Linear:
    """inputs [B, I] @ kernel [I, L] + bias [L]."""

    def __init__(self, kernel: Float32, bias: Float32, name: str = "output") -> None:
        self.parameters: dict[str, Float32] = {f"{name}.kernel": kernel, f"{name}.bias": bias}
        self._kernel, self._bias, self._name = kernel, bias, name

    def __call__(self, inputs: Float32) -> tuple[Float32, Backward]:
        def backward(d_outputs: Float32, gradients: Gradients) -> Float32:
            d_inputs, d_kernel, d_bias = ops.linear_backward(inputs, self._kernel, d_outputs)
            gradients[f"{self._name}.kernel"] = d_kernel
            gradients[f"{self._name}.bias"] = d_bias
            return d_inputs

        return ops.linear_forward(inputs, self._kernel, self._bias), backward


class Chain:
    """Layers one after another."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers
        self.parameters = {
            name: value for layer in layers for name, value in layer.parameters.items()
        }

    def __call__(self, inputs: Any) -> tuple[Any, Backward]:
        steps = []
        for layer in self.layers:
            inputs, step = layer(inputs)
            steps.append(step)

        def backward(gradient: Any, gradients: Gradients) -> Any:
            for step in reversed(steps):
                gradient = step(gradient, gradients)
            return gradient

        return inputs, backward
