"""The lecture's job in JAX, an epoch or a part of one on request. lecture_epoch.py starts it.

It needs jax and NumPy, not tidegate. The network is written by hand: one product of all inputs
with W, then a scan over the steps. A whole step of training, Adam included, is one compiled
function that is given its old arrays to write into (donated).
"""

from __future__ import annotations

import functools
import os
from typing import Any

from lecture import (
    BETA_1,
    BETA_2,
    EPSILON,
    KINDS,
    LEARNING_RATE,
    answer,
    load,
    parser,
    update_gate_turned,
)

os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # type: ignore[import-not-found,import-untyped,unused-ignore]
import jax.numpy as jnp  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np

Arrays = dict[str, Any]


def cell_step(cell: str, weights: Arrays, state: Any, projected: Any) -> Any:
    """The next state. state: [B, H], an LSTM's a pair. projected: [B, G * H], inputs @ W + bias."""
    kernel = weights["recurrent.recurrent_kernel"]
    if cell == "rnn":
        return jnp.tanh(projected + state @ kernel)
    if cell == "lstm":
        hidden, memory = state
        gates = jnp.split(projected + hidden @ kernel, 4, axis=-1)
        enter, forget, leave = (jax.nn.sigmoid(gates[i]) for i in (0, 1, 3))
        memory = forget * memory + enter * jnp.tanh(gates[2])
        return leave * jnp.tanh(memory), memory
    size = state.shape[-1]
    if cell == "gru_after":
        product = state @ kernel + weights["recurrent.recurrent_bias"]
        old, reset = jnp.split(
            jax.nn.sigmoid(projected[:, : 2 * size] + product[:, : 2 * size]), 2, axis=-1
        )
        candidate = jnp.tanh(projected[:, 2 * size :] + reset * product[:, 2 * size :])
    else:
        product = state @ kernel[:, : 2 * size]
        old, reset = jnp.split(jax.nn.sigmoid(projected[:, : 2 * size] + product), 2, axis=-1)
        candidate = jnp.tanh(projected[:, 2 * size :] + (reset * state) @ kernel[:, 2 * size :])
    return old * state + (1.0 - old) * candidate


def logits(cell: str, unroll: int, weights: Arrays, ids: Any) -> Any:
    """[B] from ids [B, T]."""
    inputs = weights["embedding.weight"][ids.T]
    projected = inputs @ weights["recurrent.kernel"] + weights["recurrent.bias"]
    zeros = jnp.zeros((ids.shape[0], len(weights["recurrent.recurrent_kernel"])))
    last, _ = jax.lax.scan(
        lambda state, step: (cell_step(cell, weights, state, step), None),
        (zeros, zeros) if cell == "lstm" else zeros,
        projected,
        unroll=unroll,
    )
    last = last[0] if cell == "lstm" else last
    return (last @ weights["output.kernel"] + weights["output.bias"])[:, 0]


def train_step(
    cell: str, unroll: int, state: tuple[Arrays, Arrays, Arrays, Any], ids: Any, targets: Any
) -> tuple[tuple[Arrays, Arrays, Arrays, Any], Any, Any]:
    """One step of training. state: weights, Adam's two moments, steps done."""
    weights, first, second, steps = state

    def loss_of(weights: Arrays) -> tuple[Any, Any]:
        found = logits(cell, unroll, weights, ids)
        loss = jnp.mean(jax.nn.softplus(found) - targets * found)
        return loss, jnp.sum((found > 0) == (targets > 0.5))

    (loss, right), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
    steps = steps + 1
    rate = LEARNING_RATE * jnp.sqrt(1.0 - BETA_2**steps) / (1.0 - BETA_1**steps)
    mapped = jax.tree_util.tree_map
    first = mapped(lambda m, g: m + (g - m) * (1.0 - BETA_1), first, gradients)
    second = mapped(lambda v, g: v + (g * g - v) * (1.0 - BETA_2), second, gradients)
    weights = mapped(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, first, second)
    return (weights, first, second, steps), loss, right


class Jax:
    """The network and its training."""

    def __init__(
        self, cell: str, weights: Arrays, batch: int, score_batch: int, unroll: int
    ) -> None:
        self.batch, self.score_batch, self.unroll = batch, score_batch, unroll
        self.initial = update_gate_turned(cell, weights)
        self.step = jax.jit(functools.partial(train_step, cell, unroll), donate_argnums=0)
        self.logits = jax.jit(functools.partial(logits, cell, unroll))
        self.reset()

    def about(self) -> dict[str, Any]:
        product = jax.jit(lambda a, b: a * b)(np.float32(1e-39), np.float32(1.0))
        return {
            "versions": {"jax": jax.__version__},
            "cores": len(os.sched_getaffinity(0)),
            "unroll": self.unroll,
            "flushes_denormals": not float(product),
        }

    def reset(self) -> None:
        weights = {name: jnp.array(values) for name, values in self.initial.items()}
        zeros = [{name: jnp.zeros_like(v) for name, v in weights.items()} for _ in range(2)]
        self.state = (weights, *zeros, jnp.zeros((), jnp.float32))

    def _batches(self, ids: Any, targets: Any) -> tuple[Any, Any]:
        """Each batch's loss, and how many texts were right."""
        losses, rights = [], []
        for start in range(0, len(ids), self.batch):
            self.state, loss, right = self.step(
                self.state, ids[start : start + self.batch], targets[start : start + self.batch]
            )
            losses.append(loss)
            rights.append(right)
        jax.block_until_ready(self.state)
        return np.array(losses), np.array(rights)

    def fit(self, ids: Any, targets: Any) -> tuple[float, float]:
        losses, rights = self._batches(ids, targets)
        sizes = np.minimum(self.batch, len(ids) - self.batch * np.arange(len(losses)))
        return float((losses * sizes).sum() / len(ids)), float(rights.sum() / len(ids))

    def curve(self, ids: Any, targets: Any) -> list[float]:
        losses, _ = self._batches(ids, targets)
        return [float(loss) for loss in losses]

    def predict(self, ids: Any) -> Any:
        starts = range(0, len(ids), self.score_batch)
        weights = self.state[0]
        return np.concatenate(
            [self.logits(weights, ids[start : start + self.score_batch]) for start in starts]
        )


def main() -> None:
    options = parser(__doc__, KINDS)
    options.add_argument("--unroll", type=int, default=1, help="steps of the scan in one")
    chosen = options.parse_args()
    # XLA takes as many threads as there are cores, and has no documented option for it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    data, weights = load(chosen.data)
    framework = Jax(chosen.cell, weights, chosen.batch_size, chosen.score_batch_size, chosen.unroll)
    answer(framework, data, chosen)


if __name__ == "__main__":
    main()
