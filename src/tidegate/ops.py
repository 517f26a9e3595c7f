"""One checked function for each kernel.

Kernels check nothing. Everything that reaches them passes here first: shapes, dtypes,
contiguity and ranges, with a ShapeError that names the array. Each function computes what the
function of the same name in ``reference`` states, in float32, on all threads.

``TIDEGATE_ISA`` forces an instruction set (``available_isas()`` and ``emulated_isas()`` list them);
``TIDEGATE_THREADS`` sets the number of threads; float32 results are the same bits for any number.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.checks import check_array as _check
from tidegate.checks import check_range as _check_range
from tidegate.errors import ConfigError, ShapeError, unknown_choice
from tidegate.reference import GATES, KINDS, Kind, RecurrentGradients, RecurrentWeights

__all__ = [
    "GATES",
    "KINDS",
    "MAX_THREADS",
    "PRECISIONS",
    "AdamSettings",
    "Kind",
    "Precision",
    "RecurrentGradients",
    "RecurrentTape",
    "RecurrentWeights",
    "Scorer",
    "adam_catch_up",
    "adam_dense",
    "adam_rows",
    "available_isas",
    "choose_precision",
    "emulated_isas",
    "gather_rows",
    "isa",
    "linear_backward",
    "linear_forward",
    "logistic_loss",
    "machine_info",
    "pack",
    "recurrent_backward",
    "recurrent_forward",
    "recurrent_input_gradient",
    "set_threads",
    "sigmoid",
    "softmax_loss",
    "sum_of_squares",
    "tanh",
    "threads",
    "use_isa",
]

Float32 = npt.NDArray[np.float32]

# --- the machine -----------------------------------------------------------------------------

MAX_THREADS: int = _kernels.MAX_THREADS

# Of the operands of the recurrent layer's matrix products; sums and all else are float32.
Precision = Literal["float32", "bf16x3", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def choose_precision(asked: str) -> Precision:
    """What "auto", "float32", "bf16x3" or "bfloat16" means here. ConfigError for another one.

    "bfloat16" rounds the operands to 8 significant bits, which shows in the third digit of
    gradients. It is faster where the processor multiplies such numbers (AVX-512 BF16); elsewhere
    the same is computed without, somewhat slower than float32. "bf16x3" splits each operand into
    two such numbers and adds three products for each of float32's: outputs and gradients are within
    1e-4 of the largest, and most within 1e-5. It gains nothing without instructions that multiply
    such numbers more than three times as fast as float32. "auto" takes only what is as exact as
    float32, so it is float32, and stays so with AMX, whose speed nobody could measure yet.
    """
    if asked == "auto":
        return "float32"
    if asked not in PRECISIONS:
        raise unknown_choice("precision", asked, ("auto", *PRECISIONS))
    return asked


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this machine and build can run, best first."""
    return tuple(_kernels.available())


def emulated_isas() -> tuple[str, ...]:
    """AMX with emulated tiles: slow, never chosen unless by name, to test its kernels anywhere."""
    return tuple(_kernels.emulated())


def isa(precision: Precision | None = None) -> str:
    """The instruction set in use; with a precision, what its products really use of it."""
    return _kernels.active() if precision is None else _kernels.table_for(precision)


def use_isa(name: str) -> None:
    """Use the given instruction set from now on. ConfigError if the machine lacks it."""
    if not isinstance(name, str) or not _kernels.use(name):
        raise unknown_choice("TIDEGATE_ISA", name, available_isas())


def threads() -> int:
    """How many threads compute."""
    return int(_kernels.threads())


def set_threads(count: int) -> None:
    """Compute on ``count`` threads from now on, the calling one included."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise ConfigError(f"threads={count!r} is not a whole number")
    if not 1 <= count <= _kernels.MAX_THREADS:
        raise ConfigError(f"threads={count} is not between 1 and {_kernels.MAX_THREADS}")
    _kernels.set_threads(int(count))


def machine_info() -> dict[str, str | int]:
    """What computes: instruction set, threads, processor architecture."""
    return {
        "isa": isa(),
        "threads": threads(),
        "architecture": platform.machine(),
    }


def usable_processors(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use; a container or taskset may have cut them."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:  # processor time and period in microseconds, or "max" for no limit
        time, period = cgroup.read_text().split()
        return min(count, max(1, math.ceil(int(time) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def _configure_from_environment() -> None:
    forced = os.environ.get("TIDEGATE_ISA")
    if forced:
        use_isa(forced)
    asked = os.environ.get("TIDEGATE_THREADS")
    if not asked:
        set_threads(min(usable_processors(), MAX_THREADS))
    elif asked.isascii() and asked.isdigit() and len(asked) < 9 and 1 <= int(asked) <= MAX_THREADS:
        set_threads(int(asked))
    else:
        shown = asked if len(asked) <= 20 else asked[:20] + "..."
        raise ConfigError(
            f"TIDEGATE_THREADS={shown!r} is not a whole number from 1 to {MAX_THREADS}"
        )


_configure_from_environment()


# --- checks ----------------------------------------------------------------------------------


def _check_batch(batch: PackedBatch) -> None:
    """Everything that the kernels take for granted of a batch that ``pack`` did not make."""
    if batch.checked:
        return
    rows, steps = batch.batch_size, batch.steps
    _check("batch.step_offsets", batch.step_offsets, (steps + 1,), np.int32)
    _check("batch.lengths", batch.lengths, (rows,), np.int32)
    # Active rows follow from the lengths alone: a row joins at step T - length.
    lengths = batch.lengths
    falling = bool((lengths[1:] <= lengths[:-1]).all())
    if rows and (not falling or int(lengths[0]) > steps or int(lengths[-1]) < 0):
        raise ShapeError(f"batch.lengths must fall from at most steps={steps} to at least 0")
    expected = np.zeros(steps + 1, np.int64)
    joins = np.bincount(steps - lengths, minlength=steps + 1)[:steps]
    np.cumsum(np.cumsum(joins), out=expected[1:])
    if not np.array_equal(expected, batch.step_offsets):
        raise ShapeError("batch.step_offsets does not fit batch.lengths")
    last_join = steps - int(lengths[-1]) if rows else 0
    if batch.padding_steps not in (0, last_join):
        raise ShapeError(
            f"batch.padding_steps={batch.padding_steps} is neither 0 nor the last join step, "
            f"{last_join}"
        )
    positions, total, words = batch.positions, batch.total_positions, len(batch.words)
    _check("batch.words", batch.words, (None,), np.int32)
    _check("batch.index", batch.index, (total,), np.int32)
    _check("batch.occurrences", batch.occurrences, (total,), np.int32)
    _check("batch.occurrence_offsets", batch.occurrence_offsets, (words + 1,), np.int32)
    _check_range("batch.index", batch.index, words)
    if (batch.index[positions:] != batch.index[positions : positions + 1]).any():
        raise ShapeError("batch.index must name one and the same word at all padding steps")
    counts = np.bincount(batch.index, minlength=words)
    if not (
        np.array_equal(batch.occurrences, np.argsort(batch.index, kind="stable"))
        and batch.occurrence_offsets[0] == 0
        and np.array_equal(batch.occurrence_offsets[1:], np.cumsum(counts))
    ):
        raise ShapeError("batch.occurrences and occurrence_offsets do not fit batch.index")


# --- batches ---------------------------------------------------------------------------------


def pack(
    texts: TokenizedTexts,
    rows: npt.ArrayLike,
    *,
    max_length: int,
    masked: bool,
    vocabulary_size: int,
) -> PackedBatch:
    """Pack the given rows of ``texts`` (see ``batch.PackedBatch``).

    rows: [B] whole numbers. Texts longer than ``max_length`` keep their last tokens. Unmasked
    batches have ``max_length`` steps, masked ones as many as the longest text has tokens.
    Raises ShapeError for a row or an id that does not exist.
    """
    given = np.asarray(rows)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ShapeError(
            f"rows has shape {given.shape} and dtype {given.dtype}; give one-dimensional whole "
            "row numbers"
        )
    _check_range("rows", given, len(texts))
    chosen = np.ascontiguousarray(given, np.int64)
    if not 1 <= vocabulary_size < 2**31:
        raise ShapeError(f"vocabulary_size={vocabulary_size} is not between 1 and 2^31")
    if max_length < 1 or max(1, len(chosen)) * (int(max_length) + 1) >= 2**31:
        raise ShapeError(
            f"{len(chosen)} rows of max_length={max_length} do not fit a batch, which counts "
            "positions from 1 to 2^31; use fewer rows"
        )
    try:
        packed = _kernels.pack(
            texts.token_ids, texts.offsets, chosen, int(max_length), masked, vocabulary_size
        )
    except IndexError as error:
        raise ShapeError(f"{error} is outside the vocabulary, 0..{vocabulary_size - 1}") from None
    for array in packed:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    batch = PackedBatch(*packed)
    object.__setattr__(batch, "checked", True)
    return batch


def gather_rows(table: Float32, rows: npt.NDArray[np.int32]) -> Float32:
    """[len(rows), width] copies of the rows of ``table`` [any, width]."""
    _check("table", table, (None, None))
    _check("rows", rows, (None,), np.int32)
    _check_range("rows", rows, len(table))
    out = np.empty((len(rows), table.shape[1]), np.float32)
    _kernels.gather_rows(table, rows, out)
    return out


# --- the recurrent layer ---------------------------------------------------------------------


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


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)


def _check_weights(kind: Kind, weights: RecurrentWeights) -> int:
    """The hidden size, once kind and weights are known to fit together."""
    if kind not in KINDS:
        raise unknown_choice("kind", kind, KINDS)
    gates = len(GATES[_cell_of(kind)])
    kernel, recurrent_kernel = weights.kernel, weights.recurrent_kernel
    _check("recurrent_kernel", recurrent_kernel, (None, None))
    hidden = len(recurrent_kernel)
    _check("recurrent_kernel", recurrent_kernel, (hidden, gates * hidden))
    _check("kernel", kernel, (None, gates * hidden))
    if not len(kernel) or not hidden:
        raise ShapeError("kernel and recurrent_kernel must have at least one row")
    _check("bias", weights.bias, (gates * hidden,))
    if (weights.recurrent_bias is not None) != (kind == "gru_after"):
        raise ShapeError("recurrent_bias belongs to kind='gru_after', and to no other")
    if weights.recurrent_bias is not None:
        _check("recurrent_bias", weights.recurrent_bias, (gates * hidden,))
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
    hidden = _check_weights(kind, weights)
    _check_precision(precision)
    kernel = weights.kernel
    _check_batch(batch)
    _check("inputs", inputs, (batch.total_positions if dense else len(batch.words), len(kernel)))
    for name, state in (("initial", initial), ("initial_cell", initial_cell)):
        if state is None:
            continue
        if batch.padding_steps:
            raise ShapeError(f"{name} does not go with a padded batch; pack with masked=True")
        _check(name, state, (batch.batch_size, hidden))
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
        _check("d_last", d_last, (batch.batch_size, hidden))
    if d_outputs is not None:
        _check("d_outputs", d_outputs, (batch.total_positions, hidden))
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


# --- prediction ------------------------------------------------------------------------------


class Scorer:
    """A whole model's snapshot that only predicts, for any number of texts and from any thread.

    Bit for bit the logits of ``recurrent_forward`` and ``linear_forward``, without what training
    needs. embedding: [V, I], read in place and so not to be changed afterwards; the others are
    copied. weights: see RecurrentWeights. output_kernel: [H, L]. output_bias: [L]. max_length,
    masked: as in ``pack``. precision: as in ``recurrent_forward``. memory: bytes that words' input
    products may take, kept for all words or, where these need more, made for some texts at a time.
    """

    def __init__(
        self,
        kind: Kind,
        embedding: Float32,
        weights: RecurrentWeights,
        output_kernel: Float32,
        output_bias: Float32,
        *,
        max_length: int,
        masked: bool,
        precision: Precision = "float32",
        memory: int = 256 << 20,
    ) -> None:
        hidden = _check_weights(kind, weights)
        _check_precision(precision)
        _check("embedding", embedding, (None, len(weights.kernel)))
        _check_kernel(output_kernel)
        _check("output_kernel", output_kernel, (hidden, None))
        _check("output_bias", output_bias, (output_kernel.shape[1],))
        if not 1 <= len(embedding) < 2**31:
            raise ShapeError(f"embedding has {len(embedding)} rows; give 1 to 2^31 - 1")
        if not 1 <= max_length < 2**24:
            raise ShapeError(f"max_length={max_length} is not between 1 and 2^24 - 1")
        self._vocabulary_size = len(embedding)
        self._logits = output_kernel.shape[1]
        self._native = _kernels.Scorer(
            cell=KINDS.index(kind),
            precision=precision,
            max_length=max_length,
            masked=masked,
            embedding=embedding,
            kernel=weights.kernel,
            recurrent_kernel=weights.recurrent_kernel,
            bias=weights.bias,
            recurrent_bias=weights.recurrent_bias,
            output_kernel=output_kernel,
            output_bias=output_bias,
            memory=memory,
        )

    def score(self, texts: TokenizedTexts) -> Float32:
        """Logits [texts, L]. Raises ShapeError for an id that the embedding does not have."""
        logits = np.empty((len(texts), self._logits), np.float32)
        try:
            self._native.score(texts.token_ids, texts.offsets, logits)
        except IndexError as error:
            raise ShapeError(
                f"{error} is outside the vocabulary, 0..{self._vocabulary_size - 1}"
            ) from None
        return logits


# --- the output layer and losses -------------------------------------------------------------


def _check_kernel(kernel: Float32) -> None:
    _check("kernel", kernel, (None, None))
    if not kernel.size:
        raise ShapeError(f"kernel is {list(kernel.shape)}; it needs a row and a column at least")


def linear_forward(inputs: Float32, kernel: Float32, bias: Float32) -> Float32:
    """Inputs [B, I] @ kernel [I, L] + bias [L]: [B, L]."""
    _check_kernel(kernel)
    _check("inputs", inputs, (None, kernel.shape[0]))
    _check("bias", bias, (kernel.shape[1],))
    out = np.empty((len(inputs), kernel.shape[1]), np.float32)
    _kernels.linear_forward(inputs, kernel, bias, out)
    return out


def linear_backward(
    inputs: Float32, kernel: Float32, d_outputs: Float32
) -> tuple[Float32, Float32, Float32]:
    """Gradients of inputs, kernel and bias, given the outputs' [B, L]."""
    _check_kernel(kernel)
    _check("inputs", inputs, (None, kernel.shape[0]))
    _check("d_outputs", d_outputs, (len(inputs), kernel.shape[1]))
    d_inputs, d_kernel = np.empty_like(inputs), np.empty_like(kernel)
    d_bias = np.empty(kernel.shape[1], np.float32)
    _kernels.linear_backward(inputs, kernel, d_outputs, d_inputs, d_kernel, d_bias)
    return d_inputs, d_kernel, d_bias


def logistic_loss(logits: Float32, targets: npt.NDArray[np.int32]) -> tuple[float, Float32, int]:
    """Mean binary cross-entropy in nats.

    logits: [B]. targets: [B], 0 or 1. Returns the loss, its gradient [B] and how many logits lie
    on their target's side of 0.
    """
    _check("logits", logits, (None,))
    _check("targets", targets, logits.shape, np.int32)
    _check_loss_targets(targets, 2)
    d_logits = np.empty_like(logits)
    loss, correct = _kernels.logistic_loss(logits, targets, d_logits)
    return loss, d_logits, correct


def softmax_loss(logits: Float32, targets: npt.NDArray[np.int32]) -> tuple[float, Float32, int]:
    """Mean cross-entropy in nats.

    logits: [B, C]. targets: [B], 0 to C - 1. Returns the loss, its gradient [B, C] and how many
    rows have their largest logit (the first of equals) at the target.
    """
    _check("logits", logits, (None, None))
    _check("targets", targets, (len(logits),), np.int32)
    _check_loss_targets(targets, logits.shape[1])
    d_logits = np.empty_like(logits)
    loss, correct = _kernels.softmax_loss(logits, targets, d_logits)
    return loss, d_logits, correct


def _check_loss_targets(targets: npt.NDArray[np.int32], classes: int) -> None:
    if not len(targets):
        raise ShapeError("targets is empty; a mean loss needs at least one row")
    _check_range("targets", targets, classes)


# --- the optimiser ---------------------------------------------------------------------------


@dataclass(frozen=True)
class AdamSettings:
    """Adam's constants. ``gradient_scale`` multiplies every gradient first (clipping)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    gradient_scale: float = 1.0


def _check_rates(rates: Float32, step: int) -> None:
    _check("rates", rates, (None,))
    if not 0 <= step < len(rates):
        raise ShapeError(f"step={step} has no rate; rates ends before {len(rates)}")


def adam_dense(
    parameter: Float32,
    gradient: Float32,
    first: Float32,
    second: Float32,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """One Adam step in place, any shape.

    rates: [more than step]; rates[t] = learning rate * sqrt(1 - beta_2^t) / (1 - beta_1^t).
    """
    _check("parameter", parameter, None, written=True)
    _check("gradient", gradient, parameter.shape)
    _check("first", first, parameter.shape, written=True)
    _check("second", second, parameter.shape, written=True)
    _check_rates(rates, step)
    _kernels.adam_dense(
        parameter.reshape(-1),
        gradient.reshape(-1),
        first.reshape(-1),
        second.reshape(-1),
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        settings.gradient_scale,
    )


def _check_rowwise(
    parameter: Float32, first: Float32, second: Float32, last_step: npt.NDArray[np.int64]
) -> None:
    _check("parameter", parameter, (None, None), written=True)
    _check("first", first, parameter.shape, written=True)
    _check("second", second, parameter.shape, written=True)
    _check("last_step", last_step, (len(parameter),), np.int64, written=True)


def _check_distinct(words: npt.NDArray[np.int32], rows: int) -> None:
    seen = np.zeros(rows, np.bool_)
    seen[words] = True
    if np.count_nonzero(seen) != len(words):
        raise ShapeError("words holds a word twice; give each row once")


def adam_catch_up(
    parameter: Float32,
    first: Float32,
    second: Float32,
    last_step: npt.NDArray[np.int64],
    words: npt.NDArray[np.int32] | None,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """Give rows the steps without gradient that they missed, up to and with ``step``.

    parameter, first, second: [V, E]. last_step: [V] int64, the last step each row has had; updated.
    words: distinct rows, or None for all. Bit for bit what ``adam_dense`` with zero gradients does.
    """
    _check_rowwise(parameter, first, second, last_step)
    _check_rates(rates, step)
    if words is not None:
        _check("words", words, (None,), np.int32)
        _check_range("words", words, len(parameter))
        _check_distinct(words, len(parameter))
    behind = last_step if words is None else last_step[words]
    if behind.size and int(behind.min()) < 0:
        raise ShapeError(f"last_step holds {behind.min()}; the first step is 1, none is 0")
    _kernels.adam_catch_up(
        parameter,
        first,
        second,
        last_step,
        words,
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
    )


def adam_rows(
    parameter: Float32,
    first: Float32,
    second: Float32,
    last_step: npt.NDArray[np.int64],
    words: npt.NDArray[np.int32],
    gradients: Float32,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """One Adam step for the given distinct rows, which have caught up with ``step - 1``.

    gradients: [len(words), E].
    """
    _check_rowwise(parameter, first, second, last_step)
    _check_rates(rates, step)
    _check("words", words, (None,), np.int32)
    _check_range("words", words, len(parameter))
    _check("gradients", gradients, (len(words), parameter.shape[1]))
    _check_distinct(words, len(parameter))
    if (last_step[words] != step - 1).any():
        raise ShapeError(f"some rows do not stand at step {step - 1}; call adam_catch_up first")
    _kernels.adam_rows(
        parameter,
        first,
        second,
        last_step,
        words,
        gradients,
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        settings.gradient_scale,
    )


def sum_of_squares(array: Float32) -> float:
    """Sum of the squares of all elements, in float64 over short float32 runs."""
    _check("array", array, None)
    return float(_kernels.sum_of_squares(array.reshape(-1)))


def sigmoid(x: Float32) -> Float32:
    """The kernels' logistic function of a one-dimensional array."""
    _check("x", x, (None,))
    y = np.empty_like(x)
    _kernels.sigmoid(x, y)
    return y


def tanh(x: Float32) -> Float32:
    """The kernels' hyperbolic tangent of a one-dimensional array."""
    _check("x", x, (None,))
    y = np.empty_like(x)
    _kernels.tanh(x, y)
    return y
