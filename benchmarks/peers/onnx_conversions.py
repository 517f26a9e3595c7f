"""ONNX Runtime's side of conversions.py: runs tidegate's exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    folder = Path(sys.argv[1])
    for job in json.loads((folder / "jobs.json").read_text()):
        seed = job["seed"]
        session = onnxruntime.InferenceSession(folder / job["file"])
        ids = np.load(folder / f"ids{seed}.npy")
        logits, probabilities = session.run(["logits", "probabilities"], {"ids": ids})
        np.savez(folder / f"of_ours{seed}.npz", logits=logits, probabilities=probabilities)
    print(json.dumps({"onnxruntime": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
