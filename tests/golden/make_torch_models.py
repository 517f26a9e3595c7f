"""Make tests/data/foreign_*.pt, foreign_*.safetensors, foreign_*.onnx and foreign_torch.json.

Made with Python 3.11, PyTorch 2.13.0 (CPU, float32), safetensors 0.8.0 and onnx 1.23.2; run with
``python tests/golden/make_torch_models.py`` where these are installed.

The JSON holds, for each file, the logits that PyTorch computes of 12 texts of 0 to 9 ids: packed
ones (where an empty text has none), and for "unmasked" files texts padded in front with 0.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]
from safetensors.torch import save_file  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import nn
from torch.nn.utils.rnn import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    pack_padded_sequence,
    pad_packed_sequence,
)

DATA = Path(__file__).resolve().parent.parent / "data"
VOCABULARY, EMBEDDING, HIDDEN, LENGTH = 12, 3, 4, 9

# File, module, layers, both directions, pooling, outputs, packed
FILES = (
    ("foreign_gru.pt", "GRU", 2, True, "last", 1, True),
    ("foreign_rnn.pt", "RNN", 1, False, "last", 2, False),
    ("foreign_lstm.safetensors", "LSTM", 1, True, "max", 3, True),
    ("foreign_gru.onnx", "GRU", 2, True, "last", 2, False),
    ("foreign_lstm.onnx", "LSTM", 1, False, "mean", 3, False),
)


class Classifier(nn.Module):  # type: ignore[misc,unused-ignore]
    def __init__(self, kind: str, layers: int, both: bool, pooling: str, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, EMBEDDING)
        self.rnn = getattr(nn, kind)(
            EMBEDDING, HIDDEN, num_layers=layers, bidirectional=both, batch_first=True
        )
        self.head = nn.Linear(HIDDEN * (2 if both else 1), outputs)
        self.pooling, self.both = pooling, both

    def forward(self, ids: Any, lengths: Any = None) -> Any:
        x = self.embed(ids)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.rnn(x)
        if lengths is not None:
            states, _ = pad_packed_sequence(states, batch_first=True, padding_value=-9.0)
        last = last[0] if isinstance(last, tuple) else last
        if self.pooling == "last":
            pooled = torch.cat([last[-2], last[-1]], dim=1) if self.both else last[-1]
        else:
            pooled = states.amax(dim=1) if self.pooling == "max" else states.mean(dim=1)
        return self.head(pooled)


def main() -> None:
    warnings.simplefilter("ignore")  # the exporter's, of batches of other sizes
    torch.manual_seed(20261123)
    random = np.random.default_rng(20261123)
    lengths = [0, 1, LENGTH, *random.integers(1, LENGTH + 1, 9)]
    texts = [random.integers(1, VOCABULARY, n).tolist() for n in lengths]
    front = torch.tensor([[0] * (LENGTH - len(text)) + text for text in texts])
    behind = torch.tensor([text + [0] * (LENGTH - len(text)) for text in texts])
    files = {}
    for name, kind, layers, both, pooling, outputs, packed in FILES:
        model = Classifier(kind, layers, both, pooling, outputs).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(0.5 * torch.randn_like(weight))
            if packed:
                logits = model(behind[1:], torch.tensor(lengths[1:])).double().tolist()
                logits.insert(0, None)
            else:
                logits = model(front).double().tolist()
        path = DATA / name
        if path.suffix == ".pt":
            torch.save(model.state_dict(), path)
        elif path.suffix == ".safetensors":
            save_file(model.state_dict(), path)
        else:
            axes = {"ids": {0: "batch"}, "logits": {0: "batch"}}
            names: Any = {"input_names": ["ids"], "output_names": ["logits"]}
            torch.onnx.export(
                model, (front,), path, dynamo=False, dynamic_axes=axes, opset_version=17, **names
            )
        files[name] = {"masked": packed, "pooling": pooling, "logits": logits}
    settings = {"torch": str(torch.__version__), "length": LENGTH, "vocabulary": VOCABULARY}
    told = {**settings, "texts": texts, "files": files}
    (DATA / "foreign_torch.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
