"""The recurrent layer, forward and backward."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.batch import PackedBatch
from tidegate.checks import check_array
from tidegate.errors import ShapeError, unknown_choice
from tidegate.ops.batches import check_batch
from tidegate.ops.machine import Precision, check_precision
from tidegate.reference import GATES, KINDS, Kind, RecurrentGradients, RecurrentWeights

Float32 = npt.NDArray[np.float32]


class RecurrentTape:
    """What a backward pass needs of its forward pass, and the memory that holds it.

    Give a used tape to the next ``recurrent_forward`` to use its memory again; its old contents
    are gone then. A tape serves one forward and at most one backward pass at a time.
    """

    def __init__(self) -> None:
        self._native = _kernels.Recurrent()
        self.kind: Kind | None = None
        self.batch: PackedBatch | None = None
        self.weights: RecurrentWeights | None = None
        self.inputs: Float32 | None = None
        self.given_initial = False
        self.given_initial_cell = False

    @property
    def gates(self) -> dict[str, Float32]:
        """Each gate's values by name, [N + P, H], copied. Before the backward pass only."""
        if self.kind is None or self.batch is None or self.weights is None:
            raise ShapeError("the tape holds no forward pass, or its backward pass has run")
        if self.kind == "rnn":
            raise ShapeError("a plain RNN has no gates; its outputs are its states")
        shape = (self.batch.total_positions, len(self.weights.recurrent_kernel))
        values = {}
        for channel, name in enumerate(GATES[_cell_of(self.kind)]):
            values[name] = np.empty(shape, np.float32)
            self._native.read_channel(channel, values[name])
        return values


def _cell_of(kind: Kind) -> str:
    return "gru" if kind.startswith("gru") else kind


def check_weights(kind: Kind, weights: RecurrentWeights) -> int:
    """The hidden size, once kind and weights are known to fit together."""
    if kind not in KINDS:
        raise unknown_choice("kind", kind, KINDS)
    gates = len(GATES[_cell_of(kind)])
    kernel, recurrent_kernel = weights.kernel, weights.recurrent_kernel
    check_array("recurrent_kernel", recurrent_kernel, (None, None))
    hidden = len(recurrent_kernel)
    check_array("recurrent_kernel", recurrent_kernel, (hidden, gates * hidden))
    check_array("kernel", kernel, (None, gates * hidden))
    if not len(kernel) or not hidden:
        raise ShapeError("kernel and recurrent_kernel must have at least one row")
    check_array("bias", weights.bias, (gates * hidden,))
    if (weights.recurrent_bias is not None) != (kind == "gru_after"):
        raise ShapeError("recurrent_bias belongs to kind='gru_after', and to no other")
    if weights.recurrent_bias is not None:
        check_array("recurrent_bias", weights.recurrent_bias, (gates * hidden,))
    return hidden


def recurrent_forward(
    kind: Kind,
    batch: PackedBatch,
    inputs: Float32,
    weights: RecurrentWeights,
    *,
    dense: bool = False,
    initial: Float32 | None = None,
    initial_cell: Float32 | None = None,
    all_outputs: bool = False,
    tape: RecurrentTape | None = None,
    precision: Precision = "float32",
) -> tuple[Float32 | None, Float32, RecurrentTape]:
    """Run every row of the batch through the cell.

    kind: one of KINDS. inputs: [W, I], one row for each of batch.words, or with ``dense`` [N + P,
    I], one for each position. weights: see RecurrentWeights, float32. initial, initial_cell: [B, H]
    in packed order, the states that rows of a masked batch join with; zeros if not given.
    precision: see PRECISIONS; the backward pass uses the same.

    Returns outputs [N + P, H], the state after each position's step, or None without
    ``all_outputs``; last [B, H], each packed row's final state; and the tape. The arrays are
    borrowed until the backward pass: change none of them before it.
    """
    hidden = check_weights(kind, weights)
    check_precision(precision)
    kernel = weights.kernel
    check_batch(batch)
    check_array(
        "inputs", inputs, (batch.total_positions if dense else len(batch.words), len(kernel))
    )
    for name, state in (("initial", initial), ("initial_cell", initial_cell)):
        if state is None:
            continue
        if batch.padding_steps:
            raise ShapeError(f"{name} does not go with a padded batch; pack with masked=True")
        check_array(name, state, (batch.batch_size, hidden))
    if initial_cell is not None and kind != "lstm":
        raise ShapeError(f"initial_cell belongs to kind='lstm', not {kind!r}")

    tape = tape if tape is not None else RecurrentTape()
    last = np.empty((batch.batch_size, hidden), np.float32)
    outputs = np.empty((batch.total_positions, hidden), np.float32) if all_outputs else None
    tape.kind = None  # until the pass is complete
    tape._native.forward(
        cell=KINDS.index(kind),
        precision=precision,
        lengths=batch.lengths,
        step_offsets=batch.step_offsets,
        padding_steps=batch.padding_steps,
        index=None if dense else batch.index,
        occurrences=None if dense else batch.occurrences,
        occurrence_offsets=None if dense else batch.occurrence_offsets,
        inputs=inputs,
        kernel=kernel,
        recurrent_kernel=weights.recurrent_kernel,
        bias=weights.bias,
        recurrent_bias=weights.recurrent_bias,
        initial=initial,
        initial_cell=initial_cell,
        last=last,
        outputs=outputs,
    )
    tape.kind, tape.batch, tape.weights, tape.inputs = kind, batch, weights, inputs
    tape.given_initial, tape.given_initial_cell = initial is not None, initial_cell is not None
    return outputs, last, tape


def recurrent_backward(
    tape: RecurrentTape, d_last: Float32 | None, d_outputs: Float32 | None = None
) -> RecurrentGradients:
    """Gradients of everything that ``recurrent_forward`` was given, shaped alike, float32.

    d_last: [B, H], gradient of the final states. d_outputs: [N + P, H], gradient of the state
    after each position's step. None stands for zeros.
    """
    batch, weights, inputs = _recorded(tape)
    initial_shape = (batch.batch_size, len(weights.recurrent_kernel))
    gradients = RecurrentGradients(
        inputs=np.empty_like(inputs),
        kernel=np.empty_like(weights.kernel),
        recurrent_kernel=np.empty_like(weights.recurrent_kernel),
        bias=np.empty_like(weights.bias),
        recurrent_bias=None
        if weights.recurrent_bias is None
        else np.empty_like(weights.recurrent_bias),
        initial=np.empty(initial_shape, np.float32) if tape.given_initial else None,
        initial_cell=np.empty(initial_shape, np.float32) if tape.given_initial_cell else None,
    )
    _run_backward(
        tape,
        d_last,
        d_outputs,
        d_inputs=gradients.inputs,
        d_kernel=gradients.kernel,
        d_recurrent_kernel=gradients.recurrent_kernel,
        d_bias=gradients.bias,
        d_recurrent_bias=gradients.recurrent_bias,
        d_initial=gradients.initial,
        d_initial_cell=gradients.initial_cell,
    )
    return gradients


def recurrent_input_gradient(
    tape: RecurrentTape, d_last: Float32 | None, d_outputs: Float32 | None = None
) -> Float32:
    """``recurrent_backward``'s gradient of the inputs, bit for bit, without the weights' work."""
    _, _, inputs = _recorded(tape)
    d_inputs = np.empty_like(inputs)
    _run_backward(tape, d_last, d_outputs, d_inputs=d_inputs)
    return d_inputs


def _recorded(tape: RecurrentTape) -> tuple[PackedBatch, RecurrentWeights, Float32]:
    """The batch, weights and inputs of the tape's forward pass."""
    if tape.kind is None or tape.batch is None or tape.weights is None or tape.inputs is None:
        raise ShapeError("the tape holds no forward pass, or its backward pass has run already")
    return tape.batch, tape.weights, tape.inputs


def _run_backward(
    tape: RecurrentTape,
    d_last: Float32 | None,
    d_outputs: Float32 | None,
    *,
    d_inputs: Float32,
    d_kernel: Float32 | None = None,
    d_recurrent_kernel: Float32 | None = None,
    d_bias: Float32 | None = None,
    d_recurrent_bias: Float32 | None = None,
    d_initial: Float32 | None = None,
    d_initial_cell: Float32 | None = None,
) -> None:
    """Fill the gradients; without ``d_kernel``, those of weights and biases are not computed."""
    batch, weights, _ = _recorded(tape)
    hidden = len(weights.recurrent_kernel)
    if d_last is not None:
        check_array("d_last", d_last, (batch.batch_size, hidden))
    if d_outputs is not None:
        check_array("d_outputs", d_outputs, (batch.total_positions, hidden))
    tape.kind = None  # the gates are overwritten by their gradients
    tape._native.backward(
        d_last=d_last,
        d_outputs=d_outputs,
        d_inputs=d_inputs,
        d_kernel=d_kernel,
        d_recurrent_kernel=d_recurrent_kernel,
        d_bias=d_bias,
        d_recurrent_bias=d_recurrent_bias,
        d_initial=d_initial,
        d_initial_cell=d_initial_cell,
    )
