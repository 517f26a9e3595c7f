"""Every numeric operation in NumPy float64, written to be read: the specification.

The compiled kernels are tested against this file, and this file against finite differences,
PyTorch and Keras. Nothing here is fast, and nothing is checked beyond what would otherwise give
a wrong number in silence: callers come through ``ops``, which checks.

One step of each recurrent cell, where ``x`` is what the step reads, ``h`` the hidden state before
it, sigmoid the logistic function, and ``*`` element-wise:

    gru_before   update    = sigmoid(x W_u + h U_u + b_u)             share of the new
                 reset     = sigmoid(x W_r + h U_r + b_r)             share of the past to keep
                 candidate = tanh(x W_c + (reset * h) U_c + b_c)
                 hidden    = h + update * (candidate - h)
    gru_after    the same, with a second bias r in every product with h, and
                 candidate = tanh(x W_c + b_c + reset * (h U_c + r_c))
    lstm         input, forget, output = sigmoid(x W + h U + b), each with its own weights
                 candidate = tanh(x W_c + h U_c + b_c)
                 cell      = forget * cell + input * candidate
                 hidden    = output * tanh(cell)
    rnn          hidden    = tanh(x W + h U + b)

Letters of shapes: B rows, T steps, N positions of text, P steps of the padding row, W distinct
words, I inputs, H hidden units, G gates, L logits. Gates lie side by side in the last axis, in
the order of ``GATES``: a kernel is [I, G*H], and its columns g*H to (g+1)*H belong to gate g.

Sources: GRU arXiv 1406.1078 (version 3 resets before the product, version 1 after); LSTM
Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; Adam arXiv 1412.6980.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError, unknown_choice

Floats = npt.NDArray[np.floating[Any]]  # what callers may pass
Float64 = npt.NDArray[np.float64]  # what is computed and returned
AnyFloats = npt.NDArray[Any]  # float64 here, float32 where the kernels fill the same records
Integers = npt.NDArray[np.integer[Any]]

Kind = Literal["gru_after", "gru_before", "lstm", "rnn"]
KINDS: tuple[Kind, ...] = ("gru_after", "gru_before", "lstm", "rnn")

GATES = {
    "gru": ("update", "reset", "candidate"),  # update = share of the new
    "lstm": ("input", "forget", "candidate", "output"),
    "rnn": ("hidden",),
}

_PADDING_ID = 0


def gates_of(kind: Kind) -> tuple[str, ...]:
    """Names of a kind's gates, in the order of their columns. ConfigError for another kind."""
    if kind not in KINDS:
        raise unknown_choice("kind", kind, KINDS)
    return GATES[kind.split("_")[0]]


def _float64(values: Floats | Integers) -> Float64:
    return np.asarray(values, dtype=np.float64)


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x)), without overflow and with full relative accuracy far below zero."""
    shrunk = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, shrunk) / (1 + shrunk)
    return result


# --- Packing -----------------------------------------------------------------------------------


def pack(
    texts: TokenizedTexts, rows: Sequence[int] | Integers, *, max_length: int, masked: bool
) -> PackedBatch:
    """Right-align the chosen texts, longest first, and store their steps without padding.

    texts: token ids of all texts. rows: [B] the texts to pack, by number; the result's ``rows``
    say which of *these* (0 to B-1) stands in each packed row. max_length: of a longer text the
    last max_length tokens are kept. masked: rows begin with their own state, and T is the longest
    length; otherwise T is max_length, and rows branch off a row of nothing but padding, which
    runs the P steps up to the last branch.
    """
    kept = [ids[max(0, len(ids) - max_length) :] for ids in (texts.row(int(r)) for r in rows)]
    order = sorted(range(len(kept)), key=lambda row: -len(kept[row]))  # stable
    lengths = [len(kept[row]) for row in order]
    longest, shortest = max(lengths, default=0), min(lengths, default=0)
    steps = longest if masked else max_length
    padding_steps = 0 if masked or not lengths else steps - shortest

    token_ids: list[int] = []
    step_offsets = [0]
    for step in range(steps):
        for row, length in zip(order, lengths, strict=True):
            joined_at = steps - length
            if step >= joined_at:
                token_ids.append(int(kept[row][step - joined_at]))
        step_offsets.append(len(token_ids))
    token_ids += [_PADDING_ID] * padding_steps

    words = list(dict.fromkeys(token_ids))  # order of first appearance
    place = {word: number for number, word in enumerate(words)}
    positions_of_word: list[list[int]] = [[] for _ in words]
    for position, token_id in enumerate(token_ids):
        positions_of_word[place[token_id]].append(position)

    def int32(values: Sequence[int]) -> npt.NDArray[np.int32]:
        return np.array(values, dtype=np.int32)

    return PackedBatch(
        rows=int32(order),
        lengths=int32(lengths),
        steps=steps,
        step_offsets=int32(step_offsets),
        padding_steps=padding_steps,
        words=int32(words),
        index=int32([place[token_id] for token_id in token_ids]),
        occurrences=int32([p for positions in positions_of_word for p in positions]),
        occurrence_offsets=int32([0, *np.cumsum([len(p) for p in positions_of_word])]),
    )


# --- Recurrent cells: one step forward, one step back ------------------------------------------


@dataclass(frozen=True)
class RecurrentWeights:
    """Parameters of one recurrent layer.

    kernel: [I, G*H]. recurrent_kernel: [H, G*H]. bias: [G*H]. recurrent_bias: [3*H] for
    ``gru_after``, None for all others.
    """

    kernel: AnyFloats
    recurrent_kernel: AnyFloats
    bias: AnyFloats
    recurrent_bias: AnyFloats | None = None


@dataclass(frozen=True)
class _Weights:
    """The same in float64; recurrent_bias is zero where a kind has none."""

    kernel: Float64
    recurrent_kernel: Float64
    bias: Float64
    recurrent_bias: Float64


@dataclass(frozen=True)
class _StepGradients:
    """What one step gives back. R rows ran in it.

    hidden, cell: [R, H] of the state before the step. projection: [R, G*H] of x W + b.
    recurrent_kernel: [H, G*H] and recurrent_bias: [G*H], this step's summands.
    """

    hidden: Float64
    cell: Float64
    projection: Float64
    recurrent_kernel: Float64
    recurrent_bias: Float64 | None = None


# A step gets the projection x W + b [R, G*H], the hidden state and the LSTM's cell state before
# it [R, H] and the weights; it returns both states after it and the gates by name. Kinds without
# a cell state pass it through. The way back gets the gates and states of the same step and the
# gradients of both states after it.
_Gates = dict[str, Float64]
_Step = Callable[[Float64, Float64, Float64, _Weights], tuple[Float64, Float64, _Gates]]
_StepBackward = Callable[[_Gates, Float64, Float64, _Weights, Float64, Float64], _StepGradients]


def _gru_after_step(
    projection: Float64, hidden: Float64, cell: Float64, weights: _Weights
) -> tuple[Float64, Float64, _Gates]:
    recurrent = hidden @ weights.recurrent_kernel + weights.recurrent_bias
    x_update, x_reset, x_candidate = np.split(projection, 3, axis=1)
    h_update, h_reset, h_candidate = np.split(recurrent, 3, axis=1)
    update = sigmoid(x_update + h_update)
    reset = sigmoid(x_reset + h_reset)
    candidate = np.tanh(x_candidate + reset * h_candidate)
    hidden = hidden + update * (candidate - hidden)
    return hidden, cell, {"update": update, "reset": reset, "candidate": candidate}


def _gru_after_step_backward(
    gates: _Gates,
    hidden: Float64,
    cell: Float64,
    weights: _Weights,
    d_hidden: Float64,
    d_cell: Float64,
) -> _StepGradients:
    update, reset, candidate = gates["update"], gates["reset"], gates["candidate"]
    recurrent = hidden @ weights.recurrent_kernel + weights.recurrent_bias
    h_candidate = np.split(recurrent, 3, axis=1)[2]
    # Gradients of what goes into the sigmoids and the tanh
    d_update = d_hidden * (candidate - hidden) * update * (1 - update)
    d_candidate = d_hidden * update * (1 - candidate * candidate)
    d_reset = d_candidate * h_candidate * reset * (1 - reset)
    d_projection = np.concatenate([d_update, d_reset, d_candidate], axis=1)
    d_recurrent = np.concatenate([d_update, d_reset, d_candidate * reset], axis=1)
    return _StepGradients(
        hidden=d_hidden * (1 - update) + d_recurrent @ weights.recurrent_kernel.T,
        cell=d_cell,
        projection=d_projection,
        recurrent_kernel=hidden.T @ d_recurrent,
        recurrent_bias=d_recurrent.sum(axis=0),
    )


def _gru_before_step(
    projection: Float64, hidden: Float64, cell: Float64, weights: _Weights
) -> tuple[Float64, Float64, _Gates]:
    update_kernel, reset_kernel, candidate_kernel = np.split(weights.recurrent_kernel, 3, axis=1)
    x_update, x_reset, x_candidate = np.split(projection, 3, axis=1)
    update = sigmoid(x_update + hidden @ update_kernel)
    reset = sigmoid(x_reset + hidden @ reset_kernel)
    candidate = np.tanh(x_candidate + (reset * hidden) @ candidate_kernel)
    hidden = hidden + update * (candidate - hidden)
    return hidden, cell, {"update": update, "reset": reset, "candidate": candidate}


def _gru_before_step_backward(
    gates: _Gates,
    hidden: Float64,
    cell: Float64,
    weights: _Weights,
    d_hidden: Float64,
    d_cell: Float64,
) -> _StepGradients:
    update, reset, candidate = gates["update"], gates["reset"], gates["candidate"]
    update_kernel, reset_kernel, candidate_kernel = np.split(weights.recurrent_kernel, 3, axis=1)
    d_update = d_hidden * (candidate - hidden) * update * (1 - update)
    d_candidate = d_hidden * update * (1 - candidate * candidate)
    d_kept = d_candidate @ candidate_kernel.T  # of reset * hidden
    d_reset = d_kept * hidden * reset * (1 - reset)
    return _StepGradients(
        hidden=d_hidden * (1 - update)
        + d_kept * reset
        + d_update @ update_kernel.T
        + d_reset @ reset_kernel.T,
        cell=d_cell,
        projection=np.concatenate([d_update, d_reset, d_candidate], axis=1),
        recurrent_kernel=np.concatenate(
            [hidden.T @ d_update, hidden.T @ d_reset, (reset * hidden).T @ d_candidate], axis=1
        ),
    )


def _lstm_step(
    projection: Float64, hidden: Float64, cell: Float64, weights: _Weights
) -> tuple[Float64, Float64, _Gates]:
    total = projection + hidden @ weights.recurrent_kernel
    to_input, to_forget, to_candidate, to_output = np.split(total, 4, axis=1)
    input_ = sigmoid(to_input)
    forget = sigmoid(to_forget)
    candidate = np.tanh(to_candidate)
    output = sigmoid(to_output)
    cell = forget * cell + input_ * candidate
    hidden = output * np.tanh(cell)
    gates = {"input": input_, "forget": forget, "candidate": candidate, "output": output}
    return hidden, cell, gates


def _lstm_step_backward(
    gates: _Gates,
    hidden: Float64,
    cell: Float64,
    weights: _Weights,
    d_hidden: Float64,
    d_cell: Float64,
) -> _StepGradients:
    input_, forget = gates["input"], gates["forget"]
    candidate, output = gates["candidate"], gates["output"]
    squashed = np.tanh(forget * cell + input_ * candidate)
    d_cell = d_cell + d_hidden * output * (1 - squashed * squashed)
    d_input = d_cell * candidate * input_ * (1 - input_)
    d_forget = d_cell * cell * forget * (1 - forget)
    d_candidate = d_cell * input_ * (1 - candidate * candidate)
    d_output = d_hidden * squashed * output * (1 - output)
    d_total = np.concatenate([d_input, d_forget, d_candidate, d_output], axis=1)
    return _StepGradients(
        hidden=d_total @ weights.recurrent_kernel.T,
        cell=d_cell * forget,
        projection=d_total,
        recurrent_kernel=hidden.T @ d_total,
    )


def _rnn_step(
    projection: Float64, hidden: Float64, cell: Float64, weights: _Weights
) -> tuple[Float64, Float64, _Gates]:
    hidden = np.tanh(projection + hidden @ weights.recurrent_kernel)
    return hidden, cell, {"hidden": hidden}


def _rnn_step_backward(
    gates: _Gates,
    hidden: Float64,
    cell: Float64,
    weights: _Weights,
    d_hidden: Float64,
    d_cell: Float64,
) -> _StepGradients:
    d_total = d_hidden * (1 - gates["hidden"] * gates["hidden"])
    return _StepGradients(
        hidden=d_total @ weights.recurrent_kernel.T,
        cell=d_cell,
        projection=d_total,
        recurrent_kernel=hidden.T @ d_total,
    )


_CELLS: dict[Kind, tuple[_Step, _StepBackward]] = {
    "gru_after": (_gru_after_step, _gru_after_step_backward),
    "gru_before": (_gru_before_step, _gru_before_step_backward),
    "lstm": (_lstm_step, _lstm_step_backward),
    "rnn": (_rnn_step, _rnn_step_backward),
}


# --- Recurrent layers over a packed batch ------------------------------------------------------


@dataclass(frozen=True)
class RecurrentTape:
    """What a forward pass leaves for the way back and for explanations.

    gates: each gate's values by name, [N + P, H]. hidden_before, cell_before: [N + P, H], the
    states that each position's step began with (cell_before is zero but for the LSTM).
    """

    batch: PackedBatch
    inputs: Float64
    weights: _Weights
    dense: bool
    gates: dict[str, Float64]
    hidden_before: Float64
    cell_before: Float64
    given_initial: bool
    given_initial_cell: bool


@dataclass(frozen=True)
class RecurrentGradients:
    """inputs: [W, I], or [N + P, I] if dense. kernel: [I, G*H]. recurrent_kernel: [H, G*H].

    bias: [G*H]. recurrent_bias: [3*H] for ``gru_after``, else None. initial, initial_cell:
    [B, H] in packed order if the forward pass was given these states, else None.
    """

    inputs: AnyFloats
    kernel: AnyFloats
    recurrent_kernel: AnyFloats
    bias: AnyFloats
    recurrent_bias: AnyFloats | None
    initial: AnyFloats | None
    initial_cell: AnyFloats | None


def recurrent_forward(
    kind: Kind,
    batch: PackedBatch,
    inputs: Floats,
    weights: RecurrentWeights,
    *,
    dense: bool = False,
    initial: Floats | None = None,
    initial_cell: Floats | None = None,
) -> tuple[Float64, Float64, RecurrentTape]:
    """Run every row of the batch through the cell.

    inputs: [W, I], what each distinct word is to the cell; or [N + P, I] with dense=True, what
    each position reads. initial, initial_cell: [B, H] in packed order, states before the rows'
    first steps, for batches without padding steps; zero if not given.

    Returns outputs [N + P, H], the hidden state after each position's step; last [B, H], each
    packed row's hidden state after all steps (a row of length 0 ends as it began, or where the
    padding row ended); and the tape for ``recurrent_backward``.
    """
    weights64 = _checked_weights(kind, weights)
    if batch.padding_steps and (initial is not None or initial_cell is not None):
        raise ShapeError(
            f"initial states given for a batch with {batch.padding_steps} padding steps, where "
            "rows begin with the padding row's state; pack with masked=True"
        )
    if initial_cell is not None and kind != "lstm":
        raise ConfigError(f"initial_cell given for kind={kind!r}; only 'lstm' has a cell state")

    step_forward, _ = _CELLS[kind]
    inputs64 = _float64(inputs)
    projection = inputs64 @ weights64.kernel + weights64.bias
    if not dense:
        projection = projection[batch.index]  # [N + P, G*H]

    size = weights64.recurrent_kernel.shape[0]
    positions = batch.total_positions
    outputs, hidden_before, cell_before = (np.empty((positions, size)) for _ in range(3))
    gates = {name: np.empty((positions, size)) for name in gates_of(kind)}

    padding_row = batch.batch_size  # kept below the packed rows
    hidden, cell = (np.zeros((batch.batch_size + 1, size)) for _ in range(2))
    if initial is not None:
        hidden[:padding_row] = initial
    if initial_cell is not None:
        cell[:padding_row] = initial_cell

    for joining, rows, at in _schedule(batch):
        if batch.padding_steps:
            hidden[joining] = hidden[padding_row]
            cell[joining] = cell[padding_row]
        hidden_before[at] = hidden[rows]
        cell_before[at] = cell[rows]
        hidden[rows], cell[rows], step_gates = step_forward(
            projection[at], hidden[rows], cell[rows], weights64
        )
        outputs[at] = hidden[rows]
        for name, values in step_gates.items():
            gates[name][at] = values

    tape = RecurrentTape(
        batch=batch,
        inputs=inputs64,
        weights=weights64,
        dense=dense,
        gates=gates,
        hidden_before=hidden_before,
        cell_before=cell_before,
        given_initial=initial is not None,
        given_initial_cell=initial_cell is not None,
    )
    return outputs, hidden[:padding_row].copy(), tape


def recurrent_backward(
    kind: Kind,
    tape: RecurrentTape,
    d_last: Floats,
    d_outputs: Floats | None = None,
    d_states: Float64 | None = None,
) -> RecurrentGradients:
    """Gradients of everything that went into ``recurrent_forward``.

    d_last: [B, H], gradient of each packed row's last hidden state. d_outputs: [N + P, H],
    gradient of the state after each position's step (beyond what reaches it from d_last), or None.
    d_states: [N + P, H] out, if given: the gradient of that state with all that reaches it, an
    LSTM's cell state held.
    """
    batch, weights = tape.batch, tape.weights
    _, step_backward = _CELLS[kind]

    padding_row = batch.batch_size
    d_hidden, d_cell = (np.zeros((padding_row + 1, d_last.shape[1])) for _ in range(2))
    d_hidden[:padding_row] = d_last
    d_projection = np.empty((batch.total_positions, weights.kernel.shape[1]))
    d_recurrent_kernel = np.zeros(weights.recurrent_kernel.shape)
    d_recurrent_bias = np.zeros(weights.bias.shape)

    for joining, rows, at in reversed(list(_schedule(batch))):
        if d_outputs is not None:
            d_hidden[rows] += d_outputs[at]
        if d_states is not None:
            d_states[at] = d_hidden[rows]
        gradients = step_backward(
            {name: values[at] for name, values in tape.gates.items()},
            tape.hidden_before[at],
            tape.cell_before[at],
            weights,
            d_hidden[rows],
            d_cell[rows],
        )
        d_hidden[rows], d_cell[rows] = gradients.hidden, gradients.cell
        d_projection[at] = gradients.projection
        d_recurrent_kernel += gradients.recurrent_kernel
        if gradients.recurrent_bias is not None:
            d_recurrent_bias += gradients.recurrent_bias
        if batch.padding_steps:
            # These rows were copies of the padding row's state: what they leave is its gradient
            d_hidden[padding_row] += d_hidden[joining].sum(axis=0)
            d_cell[padding_row] += d_cell[joining].sum(axis=0)

    if not tape.dense:
        d_by_position = d_projection
        d_projection = np.zeros((len(batch.words), weights.kernel.shape[1]))
        np.add.at(d_projection, batch.index, d_by_position)  # [W, G*H]
    return RecurrentGradients(
        inputs=d_projection @ weights.kernel.T,
        kernel=tape.inputs.T @ d_projection,
        recurrent_kernel=d_recurrent_kernel,
        bias=d_projection.sum(axis=0),
        recurrent_bias=d_recurrent_bias if kind == "gru_after" else None,
        initial=d_hidden[:padding_row].copy() if tape.given_initial else None,
        initial_cell=d_cell[:padding_row].copy() if tape.given_initial_cell else None,
    )


def _schedule(batch: PackedBatch) -> Iterator[tuple[slice, Integers, Integers]]:
    """For each step: the packed rows that join before it, the rows that run in it, and where.

    Active rows are always a prefix of the packed rows; the padding row, number B, runs beside
    them while there are padding steps. Rows without a token join when all steps are over: a last
    entry, in which no row runs.
    """
    joined = 0
    for step in range(batch.steps):
        start, stop = (int(offset) for offset in batch.step_offsets[step : step + 2])
        rows, at = np.arange(stop - start), np.arange(start, stop)
        if step < batch.padding_steps:
            rows = np.append(rows, batch.batch_size)
            at = np.append(at, batch.positions + step)
        yield slice(joined, stop - start), rows, at
        joined = stop - start
    nothing = np.arange(0)
    yield slice(joined, batch.batch_size), nothing, nothing


def _checked_weights(kind: Kind, weights: RecurrentWeights) -> _Weights:
    gates_of(kind)  # raises for an unknown kind
    if (weights.recurrent_bias is not None) != (kind == "gru_after"):
        given = "none" if weights.recurrent_bias is None else "one"
        raise ShapeError(
            f"recurrent_bias: {given} given for kind={kind!r}; 'gru_after' needs one, others none"
        )
    bias = _float64(weights.bias)
    return _Weights(
        kernel=_float64(weights.kernel),
        recurrent_kernel=_float64(weights.recurrent_kernel),
        bias=bias,
        recurrent_bias=np.zeros_like(bias)
        if weights.recurrent_bias is None
        else _float64(weights.recurrent_bias),
    )


# --- Output layer, losses and optimiser --------------------------------------------------------


def linear_forward(inputs: Floats, kernel: Floats, bias: Floats) -> Float64:
    """Inputs [B, I], kernel [I, L], bias [L] -> logits [B, L]."""
    return _float64(inputs) @ _float64(kernel) + _float64(bias)


def linear_backward(
    inputs: Floats, kernel: Floats, d_logits: Floats
) -> tuple[Float64, Float64, Float64]:
    """d_logits [B, L] -> gradients of inputs [B, I], kernel [I, L] and bias [L]."""
    d_logits64 = _float64(d_logits)
    return d_logits64 @ _float64(kernel).T, _float64(inputs).T @ d_logits64, d_logits64.sum(axis=0)


def logistic_loss(logits: Floats, targets: Integers | Floats) -> tuple[float, Float64, int]:
    """Mean binary cross-entropy in nats of logits [B] against targets [B] of 0 and 1.

    Returns the mean, the mean's gradient of logits [B], and how many rows are right (a logit
    above 0 says 1).
    """
    scores, wanted = _float64(logits), _float64(targets)
    # log(1 + exp(score)) without overflow
    losses = np.maximum(scores, 0) + np.log1p(np.exp(-np.abs(scores))) - wanted * scores
    d_logits = (sigmoid(scores) - wanted) / len(scores)
    correct = np.count_nonzero((scores > 0) == (wanted == 1))
    return float(losses.mean()), d_logits, int(correct)


def softmax_loss(logits: Floats, targets: Integers) -> tuple[float, Float64, int]:
    """Mean cross-entropy in nats of logits [B, C] against class numbers [B].

    Returns the mean, the mean's gradient of logits [B, C], and how many rows are right (the
    first of the largest logits names the class).
    """
    scores = _float64(logits)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    each = np.arange(len(scores))
    d_logits = np.exp(log_shares)
    d_logits[each, targets] -= 1
    correct = np.count_nonzero(scores.argmax(axis=1) == targets)
    return float(-log_shares[each, targets].mean()), d_logits / len(scores), int(correct)


def adam_update(
    parameter: Floats,
    gradient: Floats,
    first_moment: Floats,
    second_moment: Floats,
    *,
    step: int,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """One step of Adam as Keras writes it: changes parameter and both moments in place.

    All arrays have one shape and any float dtype; step counts from 1. epsilon is added to the
    root of the second moment *before* the correction of its bias (the paper's epsilon-hat), as
    Keras does and PyTorch does not.
    """
    gradient64 = _float64(gradient)
    alpha = learning_rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    first_moment += (gradient64 - first_moment) * (1 - beta_1)
    second_moment += (gradient64 * gradient64 - second_moment) * (1 - beta_2)
    parameter -= alpha * _float64(first_moment) / (np.sqrt(_float64(second_moment)) + epsilon)
