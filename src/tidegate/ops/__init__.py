"""One checked function for each kernel.

Kernels check nothing. Everything that reaches them passes here first: shapes, dtypes,
contiguity and ranges, with a ShapeError that names the array. Each function computes what the
function of the same name in ``reference`` states, in float32, on all threads.

``TIDEGATE_ISA`` forces an instruction set (``available_isas()`` and ``emulated_isas()`` list them);
``TIDEGATE_THREADS`` sets the number of threads; float32 results are the same bits for any number.
"""

from __future__ import annotations

from tidegate.ops.adam import (
    AdamSettings,
    adam_catch_up,
    adam_dense,
    adam_rows,
    sum_of_squares,
)
from tidegate.ops.batches import gather_rows, pack
from tidegate.ops.machine import (
    MAX_THREADS,
    PRECISIONS,
    Precision,
    available_isas,
    choose_precision,
    emulated_isas,
    isa,
    machine_info,
    set_threads,
    threads,
    usable_processors,
    use_isa,
)
from tidegate.ops.output import (
    linear_backward,
    linear_forward,
    logistic_loss,
    sigmoid,
    softmax_loss,
    tanh,
)
from tidegate.ops.recurrent import (
    RecurrentTape,
    recurrent_backward,
    recurrent_forward,
    recurrent_input_gradient,
)
from tidegate.ops.scorer import Scorer
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
    "usable_processors",
    "use_isa",
]
