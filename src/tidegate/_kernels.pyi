"""The compiled module. Its functions check only types and contiguity: ops and text call them.

Arrays are C-contiguous and never converted. What is written into, behind all that is read, is
allocated by the caller; shapes stand in ops and cpp/kernels.h.
"""

from typing import TypeAlias

import numpy as np

_Floats: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]
_FloatRows: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]
_Int32s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int32]]
_Int32Rows: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.int32]]
_Float64s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
_Int64s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]

# --- the machine

MAX_THREADS: int

def available() -> list[str]: ...
def emulated() -> list[str]: ...
def same_products(isa: str, precision: str, other_isa: str, other_precision: str) -> bool:
    """Whether two tables compute the same products of some whole numbers, as AMX has to."""

def active() -> str: ...
def table_for(precision: str) -> str: ...
def use(arg: str, /) -> bool: ...
def threads() -> int: ...
def set_threads(arg: int, /) -> None: ...

# --- batches

def pack(
    token_ids: _Int32s,
    offsets: _Int64s,
    rows: _Int64s,
    max_length: int,
    masked: bool,
    vocabulary_size: int,
) -> tuple[_Int32s, _Int32s, int, _Int32s, int, _Int32s, _Int32s, _Int32s, _Int32s]:
    """The fields of ``batch.PackedBatch`` in their order. IndexError for an id out of range."""

def gather_rows(table: _FloatRows, rows: _Int32s, out: _FloatRows) -> None: ...

# --- all states of a batch

def reverse_batch(
    lengths: _Int32s,
    step_offsets: _Int32s,
    index: _Int32s,
    occurrence_offsets: _Int32s,
    reversal: _Int32s,
    reversed_index: _Int32s,
    reversed_occurrences: _Int32s,
) -> None: ...
def copy_columns(
    source: _FloatRows,
    source_column: int,
    rows: _Int32s | None,
    out: _FloatRows,
    out_column: int,
    width: int,
) -> None: ...
def scale_rows(values: _FloatRows, rows: _Int32s, masks: _FloatRows) -> None: ...
def sum_rows(
    values: _FloatRows, occurrences: _Int32s, occurrence_offsets: _Int32s, sums: _FloatRows
) -> None: ...
def pool_states(
    pooling: int,
    lengths: _Int32s,
    step_offsets: _Int32s,
    padding_steps: int,
    states: _FloatRows,
    weights: _Floats | None,
    pooled: _FloatRows,
    chosen: _Int32Rows | None,
) -> None: ...
def pool_states_backward(
    pooling: int,
    lengths: _Int32s,
    step_offsets: _Int32s,
    padding_steps: int,
    d_pooled: _FloatRows,
    states: _FloatRows | None,
    weights: _Floats | None,
    chosen: _Int32Rows | None,
    d_states: _FloatRows,
    d_weights: _Floats | None,
) -> None: ...
def softmax_texts(
    lengths: _Int32s, step_offsets: _Int32s, scores: _Floats, shares: _Floats
) -> None: ...
def softmax_texts_backward(
    lengths: _Int32s,
    step_offsets: _Int32s,
    shares: _Floats,
    d_shares: _Floats,
    d_scores: _Floats,
) -> None: ...
def layer_norm(
    x: _FloatRows,
    gain: _Floats,
    bias: _Floats,
    epsilon: float,
    out: _FloatRows,
    mean: _Floats,
    inverse: _Floats,
) -> None: ...
def layer_norm_backward(
    x: _FloatRows,
    gain: _Floats,
    mean: _Floats,
    inverse: _Floats,
    d_out: _FloatRows,
    d_x: _FloatRows,
    d_gain: _Floats,
    d_bias: _Floats,
) -> None: ...

# --- text: as tokens.prepare makes it; rules: a number of tokens.TOKENIZERS

class WordIds:
    """The ids of a vocabulary's words. ``lines``: distinct words, newlines between them."""

    def __init__(self, rules: int, lines: bytes, start: int, unknown: int, first: int) -> None: ...
    def id_of(self, word: str) -> int: ...
    def encode(self, texts: list[str], max_length: int) -> tuple[_Int32s, _Int64s]:
        """The last ids of each text, row after row, and the rows' lengths."""

class WordCounts:
    """How often each word occurs. Not for two threads at once."""

    def __init__(self, rules: int) -> None: ...
    def add(self, texts: list[str]) -> None: ...
    def most_frequent(self, limit: int) -> list[str]:
        """The first seen one first where they are equally frequent."""

def hash_ngrams(rules: int, texts: list[str], longest: int, bits: int) -> tuple[_Int32s, _Int64s]:
    """Distinct buckets of each text's n-grams, ascending, row after row, and offsets."""

def count_contexts(
    ids: _Int32s, offsets: _Int64s, words: int, first: int, window: int, least: int
) -> tuple[_Int64s, _Int32s, _Floats]:
    """Offsets, columns and values of a sparse [words, words] matrix; see contexts.h."""

def multiply_sparse(
    offsets: _Int64s, columns: _Int32s, values: _Floats, dense: _FloatRows, out: _FloatRows
) -> None: ...
def fit_linear(
    buckets: _Int32s,
    offsets: _Int64s,
    classes: _Int32s,
    counts: _Float64s | None,
    cost: float,
    rounds: int,
    tolerance: float,
    seed: int,
    goes_on: bool,
    weights: _FloatRows,
    bias: _Floats,
) -> None: ...
def score_linear(
    buckets: _Int32s,
    offsets: _Int64s,
    weights: _FloatRows,
    bias: _Floats,
    scores: _FloatRows,
) -> None: ...

# --- layers

class Recurrent:
    """One recurrent pass: borrows the arrays of its forward call until the next one."""

    def __init__(self) -> None: ...
    def forward(
        self,
        cell: int,
        precision: str,
        lengths: _Int32s,
        step_offsets: _Int32s,
        padding_steps: int,
        index: _Int32s | None,
        occurrences: _Int32s | None,
        occurrence_offsets: _Int32s | None,
        inputs: _FloatRows,
        kernel: _FloatRows,
        recurrent_kernel: _FloatRows,
        bias: _Floats,
        recurrent_bias: _Floats | None,
        initial: _FloatRows | None,
        initial_cell: _FloatRows | None,
        last: _FloatRows,
        outputs: _FloatRows | None,
    ) -> None: ...
    def backward(
        self,
        d_last: _FloatRows | None,
        d_outputs: _FloatRows | None,
        d_inputs: _FloatRows,
        d_kernel: _FloatRows | None,
        d_recurrent_kernel: _FloatRows | None,
        d_bias: _Floats | None,
        d_recurrent_bias: _Floats | None,
        d_initial: _FloatRows | None,
        d_initial_cell: _FloatRows | None,
    ) -> None: ...
    def read_channel(self, channel: int, out: _FloatRows) -> None: ...

class Scorer:
    """A model's snapshot for prediction: borrows the embedding, copies the other weights."""

    def __init__(
        self,
        cell: int,
        precision: str,
        max_length: int,
        masked: bool,
        embedding: _FloatRows,
        kernel: _FloatRows,
        recurrent_kernel: _FloatRows,
        bias: _Floats,
        recurrent_bias: _Floats | None,
        output_kernel: _FloatRows,
        output_bias: _Floats,
        memory: int,
    ) -> None: ...
    def score(self, token_ids: _Int32s, offsets: _Int64s, logits: _FloatRows) -> None:
        """Fill logits, a row a text. IndexError for an id out of range."""

def linear_forward(
    inputs: _FloatRows, kernel: _FloatRows, bias: _Floats, outputs: _FloatRows
) -> None: ...
def linear_backward(
    inputs: _FloatRows,
    kernel: _FloatRows,
    d_outputs: _FloatRows,
    d_inputs: _FloatRows,
    d_kernel: _FloatRows,
    d_bias: _Floats,
) -> None: ...

# --- losses: the mean, and how many rows are right

def logistic_loss(logits: _Floats, targets: _Int32s, d_logits: _Floats) -> tuple[float, int]: ...
def softmax_loss(
    logits: _FloatRows, targets: _Int32s, d_logits: _FloatRows
) -> tuple[float, int]: ...

# --- the optimiser

def adam_dense(
    parameter: _Floats,
    gradient: _Floats,
    first: _Floats,
    second: _Floats,
    rates: _Floats,
    step: int,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    gradient_scale: float,
) -> None: ...
def adam_catch_up(
    parameter: _FloatRows,
    first: _FloatRows,
    second: _FloatRows,
    last_step: _Int64s,
    words: _Int32s | None,
    rates: _Floats,
    step: int,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None: ...
def adam_rows(
    parameter: _FloatRows,
    first: _FloatRows,
    second: _FloatRows,
    last_step: _Int64s,
    words: _Int32s,
    gradients: _FloatRows,
    rates: _Floats,
    step: int,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    gradient_scale: float,
) -> None: ...
def sum_of_squares(x: _Floats) -> float: ...

# --- element by element

def sigmoid(x: _Floats, y: _Floats) -> None: ...
def tanh(x: _Floats, y: _Floats) -> None: ...
