"""The output layer, its losses, and the gates' two functions alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError

Float32 = npt.NDArray[np.float32]


def check_kernel(kernel: Float32) -> None:
    check_array("kernel", kernel, (None, None))
    if not kernel.size:
        raise ShapeError(f"kernel is {list(kernel.shape)}; it needs a row and a column at least")


def linear_forward(inputs: Float32, kernel: Float32, bias: Float32) -> Float32:
    """Inputs [B, I] @ kernel [I, L] + bias [L]: [B, L]."""
    check_kernel(kernel)
    check_array("inputs", inputs, (None, kernel.shape[0]))
    check_array("bias", bias, (kernel.shape[1],))
    out = np.empty((len(inputs), kernel.shape[1]), np.float32)
    _kernels.linear_forward(inputs, kernel, bias, out)
    return out


def linear_backward(
    inputs: Float32, kernel: Float32, d_outputs: Float32
) -> tuple[Float32, Float32, Float32]:
    """Gradients of inputs, kernel and bias, given the outputs' [B, L]."""
    check_kernel(kernel)
    check_array("inputs", inputs, (None, kernel.shape[0]))
    check_array("d_outputs", d_outputs, (len(inputs), kernel.shape[1]))
    d_inputs, d_kernel = np.empty_like(inputs), np.empty_like(kernel)
    d_bias = np.empty(kernel.shape[1], np.float32)
    _kernels.linear_backward(inputs, kernel, d_outputs, d_inputs, d_kernel, d_bias)
    return d_inputs, d_kernel, d_bias


def logistic_loss(logits: Float32, targets: npt.NDArray[np.int32]) -> tuple[float, Float32, int]:
    """Mean binary cross-entropy in nats.

    logits: [B]. targets: [B], 0 or 1. Returns the loss, its gradient [B] and how many logits lie
    on their target's side of 0.
    """
    check_array("logits", logits, (None,))
    check_array("targets", targets, logits.shape, np.int32)
    _check_loss_targets(targets, 2)
    d_logits = np.empty_like(logits)
    loss, correct = _kernels.logistic_loss(logits, targets, d_logits)
    return loss, d_logits, correct


def softmax_loss(logits: Float32, targets: npt.NDArray[np.int32]) -> tuple[float, Float32, int]:
    """Mean cross-entropy in nats.

    logits: [B, C]. targets: [B], 0 to C - 1. Returns the loss, its gradient [B, C] and how many
    rows have their largest logit (the first of equals) at the target.
    """
    check_array("logits", logits, (None, None))
    check_array("targets", targets, (len(logits),), np.int32)
    _check_loss_targets(targets, logits.shape[1])
    d_logits = np.empty_like(logits)
    loss, correct = _kernels.softmax_loss(logits, targets, d_logits)
    return loss, d_logits, correct


def _check_loss_targets(targets: npt.NDArray[np.int32], classes: int) -> None:
    if not len(targets):
        raise ShapeError("targets is empty; a mean loss needs at least one row")
    check_range("targets", targets, classes)


def sigmoid(x: Float32) -> Float32:
    """The kernels' logistic function of a one-dimensional array."""
    check_array("x", x, (None,))
    y = np.empty_like(x)
    _kernels.sigmoid(x, y)
    return y


def tanh(x: Float32) -> Float32:
    """The kernels' hyperbolic tangent of a one-dimensional array."""
    check_array("x", x, (None,))
    y = np.empty_like(x)
    _kernels.tanh(x, y)
    return y
