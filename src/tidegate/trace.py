"""What a network's gates did as it read a text, and the numbers of one step's equations.

A trace has a row for each token that is read, in the order of the text, also where a layer reads
from the end. ``cell_terms`` takes one row and one unit out of it and fills in that step's equations
(see ``reference`` and docs/equations.md), each product by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import ops, reference, sequence
from tidegate.batch import PackedBatch
from tidegate.errors import DataError, unknown_choice
from tidegate.layers import Bidirectional, Inputs, Pool, Recurrent, States
from tidegate.model import check_whole
from tidegate.noise import SILENT
from tidegate.tokens import tokens

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier
    from tidegate.model import TextModel

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

DIRECTIONS = ("forward", "backward")
_DECIMALS = 4  # of a trace as JSON: a picture shows fewer


@dataclass(frozen=True)
class LayerTrace:
    """What one recurrent layer did in one direction. T tokens, H units.

    layer: from 0. direction: of DIRECTIONS; "backward" reads from the text's end. cell, reset: as
    in ``ModelConfig``; reset is None but for a GRU. tokens: [T] as they are read, START_MARK among
    them; padding and what was cut away are not. gates: each gate's values by name, [T, H], in the
    order of ``ops.GATES``, none for a plain RNN; a GRU's update is the share of the new. states:
    [T, H] after each token's step. cells: [T, H] the LSTM's cell states, else None. initial,
    initial_cell: [H] before the first step that is shown: zeros, but where padding was read before.
    """

    layer: int
    direction: str
    cell: str
    reset: str | None
    tokens: list[str]
    gates: dict[str, Float32]
    states: Float32
    cells: Float32 | None
    initial: Float32
    initial_cell: Float32 | None

    @property
    def states_before(self) -> Float32:
        """[T, H] the state that each token's step began with."""
        return self._before(self.states, self.initial)

    @property
    def cells_before(self) -> Float32 | None:
        """[T, H] the LSTM's cell state that each token's step began with, else None."""
        if self.cells is None or self.initial_cell is None:
            return None
        return self._before(self.cells, self.initial_cell)

    def _before(self, states: Float32, initial: Float32) -> Float32:
        if self.direction == "forward":
            return np.concatenate([initial[None], states[:-1]])
        return np.concatenate([states[1:], initial[None]])

    def to_json(self) -> dict[str, Any]:
        """All but the initial states as JSON values, rounded to 4 decimals."""
        found: dict[str, Any] = {
            "layer": self.layer,
            "direction": self.direction,
            "cell": self.cell,
            "reset": self.reset,
            "tokens": self.tokens,
            "gates": {name: _rounded(values) for name, values in self.gates.items()},
            "states": _rounded(self.states),
        }
        if self.cells is not None:
            found["cells"] = _rounded(self.cells)
        return found


def _rounded(values: Float32) -> list[list[float]]:
    rows: list[list[float]] = np.round(values.astype(np.float64), _DECIMALS).tolist()
    return rows


@dataclass(frozen=True)
class GateTerms:
    """What one gate of one unit adds up, and what it makes of that.

    input: the unit's part of W x. recurrent: of U h; for the candidate of a GRU with reset before,
    of U (reset * h). bias; recurrent_bias: the second one, of a GRU with reset after, else None.
    value: sigmoid of their sum, for a candidate and a plain RNN's state tanh; for the candidate of
    a GRU with reset after, tanh(input + bias + reset * (recurrent + recurrent_bias)).
    """

    name: str
    input: float
    recurrent: float
    bias: float
    recurrent_bias: float | None
    value: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "name": self.name,
            "input": self.input,
            "recurrent": self.recurrent,
            "bias": self.bias,
            "recurrent_bias": self.recurrent_bias,
            "value": self.value,
        }


@dataclass(frozen=True)
class CellTerms:
    """The equations of one unit at one step, with their numbers.

    step: row of the trace. unit: from 0. previous, state: of the unit, before and after the step.
    gates: in the order of ``ops.GATES``; of a plain RNN one, named "state". cell_before,
    cell_after: of an LSTM, else None. All in float64 from the float32 state before the step and the
    vector that the layer read: the equations hold to float64, and give the trace's state to
    float32, or to the precision that the model multiplies with.
    """

    layer: int
    direction: str
    step: int
    unit: int
    token: str
    cell: str
    reset: str | None
    previous: float
    gates: tuple[GateTerms, ...]
    state: float
    cell_before: float | None = None
    cell_after: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, unrounded; cell_before and cell_after of an LSTM alone."""
        found: dict[str, Any] = {
            "layer": self.layer,
            "direction": self.direction,
            "step": self.step,
            "unit": self.unit,
            "token": self.token,
            "cell": self.cell,
            "reset": self.reset,
            "previous": self.previous,
            "gates": [gate.to_json() for gate in self.gates],
            "state": self.state,
        }
        if self.cell == "lstm":
            found |= {"cell_before": self.cell_before, "cell_after": self.cell_after}
        return found


def trace_layers(classifier: TextClassifier, text: str) -> tuple[LayerTrace, ...]:
    """The trace of each layer and direction over ``text``, the first layer first.

    Raises NotFittedError, and DataError for a text of which the model reads no word.
    """
    with classifier._own_threads():
        return tuple(one.trace for one in _passes(classifier, text))


def cell_terms(
    classifier: TextClassifier, text: str, *, layer: int, direction: str, step: int, unit: int
) -> CellTerms:
    """The equations of one unit at one step of ``text``, with their numbers.

    layer, step, unit: from 0; step is a row of the layer's trace. direction: of DIRECTIONS. Raises
    NotFittedError, ConfigError for one that is not there, and DataError as ``trace_layers`` does.
    """
    config = classifier._fitted().config
    check_whole("layer", layer, 0, config.layers - 1)
    check_whole("unit", unit, 0, config.hidden_size - 1)
    known = DIRECTIONS if config.bidirectional else DIRECTIONS[:1]
    if not isinstance(direction, str) or direction not in known:
        raise unknown_choice("direction", direction, known)
    with classifier._own_threads():
        for one in _passes(classifier, text):
            if (one.trace.layer, one.trace.direction) == (layer, direction):
                break
    check_whole("step", step, 0, len(one.trace.tokens) - 1)
    return _terms(one, int(step), int(unit))


# --- the passes


@dataclass(frozen=True)
class _Pass:
    """A trace, and what made it. inputs: [T, I], what the layer read of each token."""

    trace: LayerTrace
    inputs: Float32
    weights: ops.RecurrentWeights


def _passes(classifier: TextClassifier, text: str) -> Iterator[_Pass]:
    """The layers one after another, as ``TextModel`` runs them."""
    model, tokenizer = classifier._fitted(), classifier.tokenizer_
    config = model.config
    encoded = tokenizer.encode_all([text], config.max_length)
    read = tokenizer.token_strings(text, config.max_length)
    if not tokens(tokenizer.kind, text):
        raise DataError("the text has no words to trace; give at least one")
    if not read:
        raise DataError("the model reads none of the text's words; give some that it knows")
    batch = model.pack(encoded, [0])
    value: Any = batch
    layer = 0
    for step in model.layers:
        if isinstance(step, Pool):
            return
        if not isinstance(step, (Recurrent, Bidirectional)):
            value, _ = step(value, SILENT)
            continue
        states = []
        for name, direction in zip(config.recurrent_names[layer], DIRECTIONS, strict=False):
            found, outputs = _pass(model, layer, name, direction, value, read)
            yield found
            states.append(outputs)
        value = States(batch, states[0][-1:], np.concatenate(states, axis=1))
        layer += 1


def _pass(
    model: TextModel, layer: int, name: str, direction: str, inputs: Inputs, read: list[str]
) -> tuple[_Pass, Float32]:
    """One direction of a layer, and its states [N + P, H] by the batch's positions."""
    config, batch, weights = model.config, inputs.batch, model.recurrent_weights(name)
    backward, dense, run = direction == "backward", inputs.dense, batch
    if backward:
        run, reversal = sequence.reverse(batch)
        if dense:  # a word of its own at each position, as ``layers.Bidirectional`` has it
            run, dense = sequence.permuted(batch, reversal), False
    outputs, _, tape = ops.recurrent_forward(
        config.kind,
        run,
        inputs.values,
        weights,
        dense=dense,
        all_outputs=True,
        precision=model.precision,
    )
    states = np.zeros((0, config.hidden_size), np.float32) if outputs is None else outputs
    gates = {} if config.cell == "rnn" else tape.gates
    cells = _cell_states(gates, batch) if config.cell == "lstm" else None
    begin = batch.positions - len(read)  # padding that is read like words stands before it

    def shown(values: Float32) -> Float32:
        """The rows of the tokens, in the order of the text."""
        if backward:
            return values[: len(read)][::-1]
        return values[begin : batch.positions]

    def before(values: Float32) -> Float32:
        """The row before the first that is shown: of padding, if any was read before."""
        if backward or not (begin or batch.padding_steps):
            return np.zeros(config.hidden_size, np.float32)
        row: Float32 = values[(begin or batch.total_positions) - 1]
        return row

    trace = LayerTrace(
        layer=layer,
        direction=direction,
        cell=config.cell,
        reset=config.reset if config.cell == "gru" else None,
        tokens=read,
        gates={gate: shown(values) for gate, values in gates.items()},
        states=shown(states),
        cells=None if cells is None else shown(cells),
        initial=before(states),
        initial_cell=None if cells is None else before(cells),
    )
    positions = np.arange(begin, batch.positions)
    rows = positions if inputs.dense else batch.index[positions]
    return _Pass(trace, inputs.values[rows], weights), states[::-1] if backward else states


def _cell_states(gates: dict[str, Float32], batch: PackedBatch) -> Float32:
    """[N + P, H] the LSTM's cell states of a batch of one text; the kernels keep only the gates."""
    padding = range(batch.positions, batch.total_positions)
    cells = np.empty_like(gates["input"])
    cell = np.zeros(cells.shape[1])
    forget, written = gates["forget"], gates["input"].astype(np.float64) * gates["candidate"]
    for position in (*padding, *range(batch.positions)):
        cell = forget[position] * cell + written[position]
        cells[position] = cell
    return cells


# --- one step of one unit


def _terms(one: _Pass, step: int, unit: int) -> CellTerms:
    trace, weights = one.trace, one.weights
    names = ops.GATES[trace.cell]
    hidden = len(weights.recurrent_kernel)
    columns = [number * hidden + unit for number in range(len(names))]
    x = one.inputs[step].astype(np.float64)
    h = trace.states_before[step].astype(np.float64)
    inputs = x @ weights.kernel[:, columns]
    recurrent = h @ weights.recurrent_kernel[:, columns]
    biases = weights.bias[columns].astype(np.float64)
    second = weights.recurrent_bias
    if trace.reset == "before":
        kept = trace.gates["reset"][step] * h
        recurrent[2] = kept @ weights.recurrent_kernel[:, columns[2]]
    total = inputs + recurrent + biases
    if second is not None:
        total += second[columns]
    values: dict[str, float] = {}
    for number, name in enumerate(names):
        squash = np.tanh if name in ("candidate", "hidden") else reference.sigmoid
        if name == "candidate" and second is not None:
            from_past = recurrent[number] + second[columns[number]]
            total[number] = inputs[number] + biases[number] + values["reset"] * from_past
        values[name] = float(squash(total[number]))
    previous = float(h[unit])
    cells = trace.cells_before
    cell_before = None if cells is None else float(cells[step, unit])
    cell_after = None
    if trace.cell == "gru":
        state = previous + values["update"] * (values["candidate"] - previous)
    elif cell_before is not None:
        cell_after = values["forget"] * cell_before + values["input"] * values["candidate"]
        state = values["output"] * float(np.tanh(cell_after))
    else:
        state = values["hidden"]
    return CellTerms(
        layer=trace.layer,
        direction=trace.direction,
        step=step,
        unit=unit,
        token=trace.tokens[step],
        cell=trace.cell,
        reset=trace.reset,
        previous=previous,
        gates=tuple(
            GateTerms(
                name="state" if name == "hidden" else name,
                input=float(inputs[number]),
                recurrent=float(recurrent[number]),
                bias=float(biases[number]),
                recurrent_bias=None if second is None else float(second[columns[number]]),
                value=values[name],
            )
            for number, name in enumerate(names)
        ),
        state=state,
        cell_before=cell_before,
        cell_after=cell_after,
    )
