"""PyTorch's side of conversions.py: runs tidegate's exports, and makes models of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Own(nn.Module):
    """As people write it: packed where padding is left out."""

    def __init__(self, job: dict[str, Any], pooling: str, outputs: int) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[job["cell"]]
        self.embedding = nn.Embedding(job["vocabulary_size"], job["embedding_size"])
        self.rnn = kind(
            job["embedding_size"],
            job["hidden_size"],
            num_layers=job["layers"],
            bidirectional=job["bidirectional"],
            batch_first=True,
            dropout=0.1 if job["layers"] > 1 else 0.0,
        )
        self.fc = nn.Linear(job["hidden_size"] * (1 + job["bidirectional"]), outputs)
        self.pooling, self.both, self.masked = pooling, job["bidirectional"], job["masked"]

    def forward(self, ids: Any, lengths: Any) -> Any:
        x = self.embedding(ids)
        if self.masked:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.rnn(x)
        if self.masked:
            states, _ = pad_packed_sequence(states, batch_first=True)
        last = last[0] if isinstance(last, tuple) else last
        if self.pooling == "last":
            return self.fc(torch.cat([last[-2], last[-1]], 1) if self.both else last[-1])
        if not self.masked:
            return self.fc(states.amax(1) if self.pooling == "max" else states.mean(1))
        is_word = (torch.arange(states.shape[1]) < lengths[:, None]).unsqueeze(2)
        if self.pooling == "max":
            return self.fc(states.masked_fill(~is_word, -1e9).amax(1))
        return self.fc((states * is_word).sum(1) / lengths[:, None])


def probabilities(logits: Any) -> Any:
    wide = logits.double()
    if wide.shape[1] == 1:
        wide = torch.cat([torch.zeros_like(wide), wide], dim=1)
    return torch.softmax(wide, dim=1).numpy()


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_grad_enabled(False)
    for job in json.loads((folder / "jobs.json").read_text()):
        seed = job["seed"]
        ids = torch.from_numpy(np.load(folder / f"ids{seed}.npy"))
        spec = importlib.util.spec_from_file_location("exported", folder / job["file"])
        if spec is None or spec.loader is None:
            raise SystemExit(f"{job['file']} is no module")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.load()
        np.savez(
            folder / f"of_ours{seed}.npz",
            logits=model(ids).numpy(),
            probabilities=model.probabilities(ids).numpy(),
        )
        kinds = [p for p in job["pooling"].split("+") if p != "attention"]
        pooling = kinds[0] if kinds else "last"
        torch.manual_seed(seed)
        own = Own(job, pooling, 1 if job["classes"] == 2 and seed % 3 else job["classes"]).eval()
        for name, weight in own.named_parameters():
            wide = weight.shape[0] // 4 if weight.ndim > 1 else 0  # about a gate's units
            weight += (min(0.2, 0.5 / wide**0.5) if wide else 0.2) * torch.randn_like(weight)
            if job["cell"] == "rnn" and "weight_hh" in name:
                weight *= 0.6
        lengths = torch.tensor(job["lengths"])
        some = lengths > 0 if job["masked"] else torch.ones_like(lengths, dtype=torch.bool)
        found = np.full((len(ids), job["classes"]), np.nan)  # PyTorch packs no empty text
        found[some.numpy()] = probabilities(own(ids[some], lengths[some]))
        file = f"theirs{seed}{'.safetensors' if seed % 2 else '.pt'}"
        if seed % 2:
            save_file(own.state_dict(), folder / file)
        else:
            torch.save(own.state_dict(), folder / file)
        np.save(folder / f"of_theirs{seed}.npy", found)
        told = {"file": file, "pooling": pooling}
        (folder / f"theirs{seed}.json").write_text(json.dumps(told))
    found_versions = {"torch": str(torch.__version__), "safetensors": safetensors.__version__}
    print(json.dumps(found_versions))


if __name__ == "__main__":
    main()
