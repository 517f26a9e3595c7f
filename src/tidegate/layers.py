"""Layers: a call returns the layer's output and its backward function.

    output, backward = layer(inputs, noise)
    d_inputs = backward(d_output, gradients)

``backward`` fills ``gradients`` with the layer's parameters' gradients under their full names,
such as "recurrent.kernel", and returns the gradient of what the layer was given; with None in
their place that alone, which takes a recurrent layer half the time. There is no tape and no graph:
a chain calls the layers in order and their backward functions in reverse. ``noise`` is the
training step's dropout, ``SILENT`` for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidegate import ops, sequence
from tidegate.batch import PackedBatch
from tidegate.errors import ShapeError
from tidegate.noise import SILENT, Noise

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowGradients:
    """The gradient of a table in which only some rows were used.

    rows: [W] int32, distinct. values: [W, width] float32.
    """

    rows: npt.NDArray[np.int32]
    values: Float32


Gradients = dict[str, "Float32 | RowGradients"]
Backward = Callable[[Any, "Gradients | None"], Any]


class Layer(Protocol):
    """What a chain needs of a layer."""

    parameters: dict[str, Float32]

    def __call__(self, inputs: Any, noise: Noise, /) -> tuple[Any, Backward]:
        """The output, and the function that takes its gradient back."""


@dataclass(frozen=True)
class Inputs:
    """What a recurrent layer reads.

    values: [W, I], a vector for each of batch.words; or if ``dense`` [N + P, I], one for each
    position.
    """

    batch: PackedBatch
    values: Float32
    dense: bool = False


@dataclass(frozen=True)
class States:
    """What a recurrent layer returns, in both directions side by side where it reads in both.

    last: [B, F], each packed row's final state. outputs: [N + P, F], the state after each
    position's step, or None where nobody asked for it.
    """

    batch: PackedBatch
    last: Float32
    outputs: Float32 | None = None

    def all(self) -> Float32:
        """The outputs. ShapeError if the layer was not asked for them."""
        if self.outputs is None:
            raise ShapeError("the recurrent layer kept no outputs; make it with all_outputs=True")
        return self.outputs


@dataclass(frozen=True)
class StatesGradient:
    """The gradient of States. None stands for zeros."""

    last: Float32 | None = None
    outputs: Float32 | None = None


class Embedding:
    """Turns a batch's distinct words into vectors. weight: [V, E]."""

    def __init__(self, weight: Float32, name: str = "embedding") -> None:
        self.parameters: dict[str, Float32] = {f"{name}.weight": weight}
        self._name = name

    def __call__(self, batch: PackedBatch, noise: Noise = SILENT) -> tuple[Inputs, Backward]:
        values = ops.gather_rows(self.parameters[f"{self._name}.weight"], batch.words)
        width = values.shape[1]
        words = noise.mask(f"{self._name} words", (len(values), 1), noise.rates.vocabulary)
        if words is not None:
            values *= words
        texts = noise.mask(self._name, (batch.batch_size, width), noise.rates.embedding)
        if texts is None:
            inputs = Inputs(batch, values)
        else:
            # A text's own mask makes a word another one in each text.
            rows = sequence.position_rows(batch)
            inputs = Inputs(batch, ops.gather_rows(values, batch.index), dense=True)
            sequence.scale_rows(inputs.values, rows, texts)

        def backward(d_values: Float32, gradients: Gradients | None) -> None:
            if texts is not None:
                sequence.scale_rows(d_values, rows, texts)
                d_values = sequence.sum_words(d_values, batch)
            if words is not None:
                d_values *= words
            if gradients is not None:
                gradients[f"{self._name}.weight"] = RowGradients(batch.words, d_values)

        return inputs, backward


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
        all_outputs: bool = False,
    ) -> None:
        self.kind = kind
        self.precision: ops.Precision = precision
        self.weights = weights
        self.hidden_size = len(weights.recurrent_kernel)
        self._name = name
        self._all_outputs = all_outputs
        self.parameters: dict[str, Float32] = {
            f"{name}.kernel": weights.kernel,
            f"{name}.recurrent_kernel": weights.recurrent_kernel,
            f"{name}.bias": weights.bias,
        }
        if weights.recurrent_bias is not None:
            self.parameters[f"{name}.recurrent_bias"] = weights.recurrent_bias
        self._free_tapes: list[ops.RecurrentTape] = []

    def __call__(self, inputs: Inputs, noise: Noise = SILENT) -> tuple[States, Backward]:
        lent = _LentTape(self._free_tapes)
        weights = self.weights
        shape = weights.recurrent_kernel.shape
        mask = noise.mask(f"{self._name}.recurrent_kernel", shape, noise.rates.recurrent)
        if mask is not None:
            weights = replace(weights, recurrent_kernel=weights.recurrent_kernel * mask)
        outputs, last, _ = ops.recurrent_forward(
            self.kind,
            inputs.batch,
            inputs.values,
            weights,
            dense=inputs.dense,
            all_outputs=self._all_outputs,
            tape=lent.tape,
            precision=self.precision,
        )

        def backward(d_states: StatesGradient, gradients: Gradients | None) -> Any:
            if gradients is None:
                d_inputs = ops.recurrent_input_gradient(lent.tape, d_states.last, d_states.outputs)
                lent.give_back()
                return d_inputs
            found = ops.recurrent_backward(lent.tape, d_states.last, d_states.outputs)
            lent.give_back()
            if mask is not None:
                np.multiply(found.recurrent_kernel, mask, out=found.recurrent_kernel)
            gradients[f"{self._name}.kernel"] = found.kernel
            gradients[f"{self._name}.recurrent_kernel"] = found.recurrent_kernel
            gradients[f"{self._name}.bias"] = found.bias
            if found.recurrent_bias is not None:
                gradients[f"{self._name}.recurrent_bias"] = found.recurrent_bias
            return found.inputs

        return States(inputs.batch, last, outputs), backward


class Bidirectional:
    """Two recurrent layers, of which the second reads every text from its end.

    Their states stand side by side, the first layer's in front. A text's final states are the
    one after its last word and the one after its first.
    """

    def __init__(self, forward: Recurrent, reverse: Recurrent) -> None:
        self._layers = (forward, reverse)
        self.parameters = {**forward.parameters, **reverse.parameters}

    def __call__(self, inputs: Inputs, noise: Noise = SILENT) -> tuple[States, Backward]:
        batch = inputs.batch
        reversed_batch, reversal = sequence.reverse(batch)
        if inputs.dense:
            reversed_batch = sequence.permuted(batch, reversal)
        ahead, ahead_backward = self._layers[0](inputs, noise)
        back, back_backward = self._layers[1](Inputs(reversed_batch, inputs.values), noise)
        outputs = None
        if ahead.outputs is not None and back.outputs is not None:
            outputs = _side_by_side(ahead.outputs, back.outputs, reversal)
        widths = tuple(layer.hidden_size for layer in self._layers)

        def backward(d_states: StatesGradient, gradients: Gradients | None) -> Any:
            last = _columns(d_states.last, widths, None)
            outputs = _columns(d_states.outputs, widths, reversal)
            d_values = ahead_backward(StatesGradient(last[0], outputs[0]), gradients)
            d_values += back_backward(StatesGradient(last[1], outputs[1]), gradients)
            return d_values

        return States(batch, _side_by_side(ahead.last, back.last, None), outputs), backward


def _side_by_side(first: Float32, second: Float32, rows: npt.NDArray[np.int32] | None) -> Float32:
    """[n, A + B] of first [n, A] and second [n, B], whose rows are taken in the order ``rows``."""
    a, b = first.shape[1], second.shape[1]
    joined = np.empty((len(first), a + b), np.float32)
    sequence.copy_columns(first, joined, width=a)
    sequence.copy_columns(second, joined, width=b, out_column=a, rows=rows)
    return joined


def _columns(
    joined: Float32 | None, widths: tuple[int, ...], rows: npt.NDArray[np.int32] | None
) -> tuple[Float32 | None, Float32 | None]:
    """Both parts of what ``_side_by_side`` joined; ``rows`` are their own inverse."""
    if joined is None:
        return None, None
    a, b = widths
    first, second = (np.empty((len(joined), width), np.float32) for width in widths)
    sequence.copy_columns(joined, first, width=a)
    sequence.copy_columns(joined, second, width=b, source_column=a, rows=rows)
    return first, second


class NextInputs:
    """Hands one recurrent layer's states to the next, with dropout between them."""

    def __init__(self, name: str) -> None:
        self.parameters: dict[str, Float32] = {}
        self._name = name

    def __call__(self, states: States, noise: Noise = SILENT) -> tuple[Inputs, Backward]:
        batch, values = states.batch, states.all()
        shape = (batch.batch_size, values.shape[1])
        mask = noise.mask(self._name, shape, noise.rates.layers)
        if mask is not None:
            rows = sequence.position_rows(batch)
            sequence.scale_rows(values, rows, mask)

        def backward(d_values: Float32, gradients: Gradients | None) -> StatesGradient:
            if mask is not None:
                sequence.scale_rows(d_values, rows, mask)
            return StatesGradient(outputs=d_values)

        return Inputs(batch, values, dense=True), backward


class LayerNorm:
    """Normalises rows. Reads and returns [n, F], or the values of Inputs. gain, bias: [F]."""

    def __init__(self, gain: Float32, bias: Float32, name: str) -> None:
        self.parameters: dict[str, Float32] = {f"{name}.gain": gain, f"{name}.bias": bias}
        self._gain, self._bias, self._name = gain, bias, name

    def __call__(self, inputs: Any, noise: Noise = SILENT) -> tuple[Any, Backward]:
        x: Float32 = inputs.values if isinstance(inputs, Inputs) else inputs
        out, statistics = sequence.layer_norm(x, self._gain, self._bias)

        def backward(d_out: Float32, gradients: Gradients | None) -> Float32:
            d_x, d_gain, d_bias = sequence.layer_norm_backward(x, self._gain, statistics, d_out)
            if gradients is not None:
                gradients[f"{self._name}.gain"] = d_gain
                gradients[f"{self._name}.bias"] = d_bias
            return d_x

        return replace(inputs, values=out) if isinstance(inputs, Inputs) else out, backward


POOLINGS = ("last", "max", "mean", "attention")


class Pool:
    """Turns a text's states into one vector: [B, F] for each kind of pooling, side by side.

    kinds: of POOLINGS. query: [F], which attention scores states by; None without it. The score
    of a state is its product with the query (Source: Yang et al. 2016, without their hidden layer).
    """

    def __init__(
        self, kinds: Sequence[str], query: Float32 | None = None, name: str = "attention"
    ) -> None:
        self.parameters: dict[str, Float32] = {}
        if query is not None:
            self.parameters[f"{name}.query"] = query
        self._kinds, self._query, self._name = tuple(kinds), query, name

    def __call__(self, states: States, noise: Noise = SILENT) -> tuple[Float32, Backward]:
        width = states.last.shape[1]
        parts: list[Float32] = []
        steps: list[Callable[[Float32, Float32, Gradients | None], None]] = []
        for kind in self._kinds:
            if kind == "last":
                part = states.last
            elif kind == "attention":
                part, step = self._attend(states)
                steps.append(step)
            else:
                part, step = _pool(kind, states)
                steps.append(step)
            parts.append(part)
        pooled = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

        def backward(d_pooled: Float32, gradients: Gradients | None) -> StatesGradient:
            d_parts = [
                np.ascontiguousarray(d_pooled[:, i * width : (i + 1) * width])
                for i in range(len(self._kinds))
            ]
            last = d_parts[self._kinds.index("last")] if "last" in self._kinds else None
            if not steps:
                return StatesGradient(last)
            d_outputs = np.zeros_like(states.all())
            others = [d for kind, d in zip(self._kinds, d_parts, strict=True) if kind != "last"]
            for step, d_part in zip(steps, others, strict=True):
                step(d_part, d_outputs, gradients)
            return StatesGradient(last, d_outputs)

        return pooled, backward

    def _attend(
        self, states: States
    ) -> tuple[Float32, Callable[[Float32, Float32, Gradients | None], None]]:
        batch, outputs, query = states.batch, states.all(), self._query
        if query is None:
            raise ShapeError("attention needs a query")
        kernel = query.reshape(-1, 1)
        scores = ops.linear_forward(outputs, kernel, np.zeros(1, np.float32)).reshape(-1)
        pooled, weights = sequence.attend(batch, outputs, scores)

        def step(d_pooled: Float32, d_outputs: Float32, gradients: Gradients | None) -> None:
            d_scores = sequence.attend_backward(batch, outputs, weights, d_pooled, d_outputs)
            d_states, d_kernel, _ = ops.linear_backward(outputs, kernel, d_scores.reshape(-1, 1))
            d_outputs += d_states
            if gradients is not None:
                gradients[f"{self._name}.query"] = d_kernel.reshape(-1)

        return pooled, step


def _pool(
    kind: str, states: States
) -> tuple[Float32, Callable[[Float32, Float32, Gradients | None], None]]:
    pooling: sequence.Pooling = "max" if kind == "max" else "mean"
    pooled, chosen = sequence.pool_states(pooling, states.batch, states.all())

    def step(d_pooled: Float32, d_outputs: Float32, gradients: Gradients | None) -> None:
        sequence.pool_states_backward(pooling, states.batch, d_pooled, chosen, d_outputs)

    return pooled, step


class OutputDropout:
    """Dropout of what the output layer reads, [B, F]."""

    def __init__(self, name: str = "output") -> None:
        self.parameters: dict[str, Float32] = {}
        self._name = name

    def __call__(self, inputs: Float32, noise: Noise = SILENT) -> tuple[Float32, Backward]:
        mask = noise.mask(self._name, inputs.shape, noise.rates.output)
        if mask is None:
            return inputs, lambda d_outputs, gradients: d_outputs
        return inputs * mask, lambda d_outputs, gradients: d_outputs * mask


class Linear:
    """inputs [B, I] @ kernel [I, L] + bias [L]."""

    def __init__(self, kernel: Float32, bias: Float32, name: str = "output") -> None:
        self.parameters: dict[str, Float32] = {f"{name}.kernel": kernel, f"{name}.bias": bias}
        self._kernel, self._bias, self._name = kernel, bias, name

    def __call__(self, inputs: Float32, noise: Noise = SILENT) -> tuple[Float32, Backward]:
        def backward(d_outputs: Float32, gradients: Gradients | None) -> Float32:
            d_inputs, d_kernel, d_bias = ops.linear_backward(inputs, self._kernel, d_outputs)
            if gradients is not None:
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

    def __call__(self, inputs: Any, noise: Noise = SILENT) -> tuple[Any, Backward]:
        steps = []
        for layer in self.layers:
            inputs, step = layer(inputs, noise)
            steps.append(step)

        def backward(gradient: Any, gradients: Gradients | None) -> Any:
            for step in reversed(steps):
                gradient = step(gradient, gradients)
            return gradient

        return inputs, backward
