"""The lecture's job in PyTorch, an epoch or a part of one on request. lecture_epoch.py starts it.

It needs torch and NumPy, not tidegate. nn.GRU, nn.LSTM or nn.RNN, eager, on torch's own kernels,
with denormals flushed and the fused Adam. Adam's epsilon is moved at each step to where Keras has
it, which costs nothing, so all sides compute the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]
from lecture import BETA_1, BETA_2, EPSILON, LEARNING_RATE, answer, load, parser, update_gate_turned
from torch import nn

LAYERS = {"gru_after": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}  # it has no GRU with reset before


class Network(nn.Module):  # type: ignore[misc]
    """Embedding, recurrent layer, last state, one logit."""

    def __init__(self, cell: str, weights: dict[str, Any]) -> None:
        super().__init__()
        vocabulary, embedding = weights["embedding.weight"].shape
        hidden = len(weights["recurrent.recurrent_kernel"])
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = LAYERS[cell](embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)
        if cell != "gru_after":
            # These cells have one bias; torch would train its second one, too.
            self.recurrent.bias_hh_l0.requires_grad_(False)

    def forward(self, ids: Any) -> Any:
        states, _ = self.recurrent(self.embedding(ids))
        return self.output(states[:, -1])[:, 0]


def to_torch(cell: str, weights: dict[str, Any]) -> dict[str, Any]:
    """Torch's names, order of gates (a GRU's: reset, update, candidate) and transposition."""
    weights = update_gate_turned(cell, weights)

    def gates(name: str) -> Any:
        values = weights[name]
        if cell == "gru_after":
            update, reset, candidate = np.split(values, 3, axis=-1)
            values = np.concatenate([reset, update, candidate], axis=-1)
        return torch.tensor(np.ascontiguousarray(values.T))

    bias = gates("recurrent.bias")
    second = gates("recurrent.recurrent_bias") if cell == "gru_after" else torch.zeros_like(bias)
    return {
        "embedding.weight": torch.tensor(weights["embedding.weight"]),
        "recurrent.weight_ih_l0": gates("recurrent.kernel"),
        "recurrent.weight_hh_l0": gates("recurrent.recurrent_kernel"),
        "recurrent.bias_ih_l0": bias,
        "recurrent.bias_hh_l0": second,
        "output.weight": torch.tensor(weights["output.kernel"].T.copy()),
        "output.bias": torch.tensor(weights["output.bias"]),
    }


class Torch:
    """The network and its training."""

    def __init__(self, cell: str, weights: dict[str, Any], batch: int, score_batch: int) -> None:
        self.batch, self.score_batch = batch, score_batch
        self.network = Network(cell, weights)
        self.initial = to_torch(cell, weights)
        self.reset()

    def about(self) -> dict[str, Any]:
        return {
            "versions": {"torch": torch.__version__},
            "intra_op_threads": torch.get_num_threads(),
            "adam": "fused",
            "flushes_denormals": not (torch.full((1,), 1e-39) * torch.ones(1)).item(),
        }

    def reset(self) -> None:
        self.network.load_state_dict(self.initial)
        self.optimizer = torch.optim.Adam(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=LEARNING_RATE,
            betas=(BETA_1, BETA_2),
            fused=True,
        )
        self.steps = 0

    def _step(self, ids: Any, targets: Any) -> tuple[float, int]:
        self.steps += 1
        # Torch adds epsilon to the corrected root, Keras to the root itself.
        self.optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1.0 - BETA_2**self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(ids)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        loss.backward()
        self.optimizer.step()
        right = ((logits > 0) == (targets > 0.5)).sum()
        return loss.item(), int(right)

    def _batches(self, ids: Any, targets: Any) -> list[tuple[float, int]]:
        steps, wanted = torch.from_numpy(ids).long(), torch.from_numpy(targets)
        return [
            self._step(steps[start : start + self.batch], wanted[start : start + self.batch])
            for start in range(0, len(ids), self.batch)
        ]

    def fit(self, ids: Any, targets: Any) -> tuple[float, float]:
        found = self._batches(ids, targets)
        sizes = [min(self.batch, len(ids) - i * self.batch) for i in range(len(found))]
        loss = sum(loss * size for (loss, _), size in zip(found, sizes, strict=True))
        return loss / len(ids), sum(right for _, right in found) / len(ids)

    def curve(self, ids: Any, targets: Any) -> list[float]:
        return [loss for loss, _ in self._batches(ids, targets)]

    def predict(self, ids: Any) -> Any:
        with torch.inference_mode():
            parts = torch.from_numpy(ids).long().split(self.score_batch)
            return torch.cat([self.network(part) for part in parts]).numpy()


def main() -> None:
    options = parser(__doc__, tuple(LAYERS)).parse_args()
    torch.set_flush_denormal(True)  # before there are other threads: they inherit it
    torch.set_num_threads(options.threads)
    data, weights = load(options.data)
    answer(
        Torch(options.cell, weights, options.batch_size, options.score_batch_size), data, options
    )


if __name__ == "__main__":
    main()
