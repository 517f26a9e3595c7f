"""Reading tests/data/keras_*.npz (make_keras_golden.py says what they hold); needs NumPy only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.batch import TokenizedTexts

DATA = Path(__file__).resolve().parent.parent / "data"
KINDS = ("gru_after", "gru_before", "lstm", "rnn")


@dataclass(frozen=True)
class KerasRun:
    """One training run of Keras, in tidegate's names and conventions.

    texts, targets: all batches, one after another; batch s is rows s*batch to (s+1)*batch.
    length: texts are padded to it in front. masked: the network does not see that padding.
    stock: Keras's Adam had one embedding gradient for each occurrence of a word, which it squares
    before adding, and not their sum. losses: [steps] of each batch, before its update. initial,
    final: weights by name, float32; final is empty for stock runs.
    """

    kind: str
    name: str
    texts: TokenizedTexts
    targets: npt.NDArray[np.int32]
    batch: int
    length: int
    classes: int  # 2 have one logit
    masked: bool
    stock: bool
    learning_rate: float
    adam: dict[str, Any]
    initial: dict[str, npt.NDArray[np.float32]]
    losses: npt.NDArray[np.float64]
    final: dict[str, npt.NDArray[np.float32]]


def read_keras_runs(kind: str) -> list[KerasRun]:
    """All runs of tests/data/keras_{kind}.npz."""
    with np.load(DATA / f"keras_{kind}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    settings: dict[str, Any] = json.loads(str(arrays["settings"]))

    def below(prefix: str) -> dict[str, Any]:
        names = [name for name in arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): arrays[name] for name in names}

    runs = []
    for run in settings["runs"]:
        texts = below(f"texts/{run['texts']}/")
        binary = run["initial"] == "binary"
        runs.append(
            KerasRun(
                kind=kind,
                name=run["name"],
                texts=TokenizedTexts(texts["token_ids"], texts["offsets"]),
                targets=texts["labels" if binary else "classes"],
                batch=settings["sizes"]["batch"],
                length=settings["sizes"]["length"],
                classes=2 if binary else settings["sizes"]["classes"],
                masked=run["masked"],
                stock=run["embedding_gradient"] == "stock",
                learning_rate=run["learning_rate"],
                adam=settings["adam"],
                initial=below(f"initial/{run['initial']}/"),
                losses=arrays[f"{run['name']}/losses"],
                final=below(f"{run['name']}/final/"),
            )
        )
    return runs
