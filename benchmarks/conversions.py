"""Do converted models compute what they did, in the frameworks themselves?

Random models of every shape (cell and form, sizes, layers, directions, pooling, padding, labels) go
from tidegate to Keras, PyTorch and ONNX Runtime, and as many from Keras and PyTorch to tidegate.
Both sides read the same texts: ragged ones, some without a word, some as long as they may be. The
frameworks run in processes of their own (``peers/keras_conversions.py`` and so on).

The exit status is 1 if an output of any model differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, versions, write_result

from tidegate import TextClassifier, ops
from tidegate.batch import TokenizedTexts
from tidegate.interop.exporting import TARGETS, export_model
from tidegate.interop.importing import ImportOptions, import_model
from tidegate.model import ModelConfig, TextModel
from tidegate.text import FIRST_WORD_ID, Tokenizer, Vocabulary

MOST = 1e-5
PEERS = Path(__file__).resolve().parent / "peers"
TEXTS = 24
RNN_SHARE = 0.6  # of a plain RNN's recurrent weights: larger ones magnify float32's rounding


def main() -> None:
    options = parse_options()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            python = getattr(options, f"{target}_python")
            if python is not None:
                place = Path(folder) / target
                place.mkdir()
                runs += measure(target, python, options.models, place)
    summary = summarize(runs)
    for way, found in summary.items():
        print(f"{way:<24}{found['models']:>4} models, largest difference {found['largest']:.2g}")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy", "safetensors"),
        settings={
            "tolerance": MOST,
            "texts": TEXTS,
            "tidegate": ops.machine_info(),
            "peers": {run["way"]: run.pop("versions") for run in runs if "versions" in run},
        },
        runs=runs,
        summary=summary,
    )
    raise SystemExit(0 if runs and all(run["difference"] <= MOST for run in runs) else 1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=200, metavar="N")
    for target, what in (
        ("keras", "Keras and TensorFlow"),
        ("torch", "PyTorch and safetensors"),
        ("onnx", "ONNX Runtime"),
    ):
        parser.add_argument(
            f"--{target}-python", type=Path, metavar="PATH", help=f"of an environment with {what}"
        )
    add_output(parser)
    return parser.parse_args()


def draw_config(seed: int) -> ModelConfig:
    draw = random.Random(seed)  # noqa: S311
    cells = [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]
    cell, reset = cells[seed % len(cells)]
    masked = draw.random() < 0.6
    kinds = ["last", "max", "mean", *(["attention"] if masked else [])]
    pooled = draw.sample(kinds, draw.randint(1, len(kinds))) if draw.random() < 0.5 else ["last"]
    return ModelConfig(
        cell=cell,
        reset=reset,
        vocabulary_size=draw.randint(5, 200),
        embedding_size=draw.randint(1, 48),
        hidden_size=draw.randint(2, 48),
        classes=draw.choice([2, 2, 3, 7]),
        max_length=draw.randint(2, 40),
        masked=masked,
        layers=draw.choice([1, 1, 2, 3]),
        bidirectional=draw.random() < 0.5,
        pooling="+".join(pooled),
        layer_norm=draw.random() < 0.25,
    )


def draw_rows(config: ModelConfig, seed: int) -> list[Any]:
    generator = np.random.default_rng(seed)
    longest = config.max_length
    lengths = [0, 1, longest, 0, *generator.integers(0, longest + 1, TEXTS - 4)]
    ids = np.array([1, 2, *range(FIRST_WORD_ID, config.vocabulary_size)], np.int32)
    return [generator.choice(ids, n) for n in lengths]


def spread(shape: tuple[int, ...]) -> float:
    """Of random weights."""
    return 0.2 if len(shape) == 1 else min(0.2, 0.5 / float(np.sqrt(shape[-1])))


def make_classifier(config: ModelConfig, seed: int) -> TextClassifier:
    """A classifier of random weights."""
    model = TextModel.initialize(config, seed)
    generator = np.random.default_rng(seed)
    for name, value in model.parameters.items():
        value += (spread(value.shape) * generator.standard_normal(value.shape)).astype(np.float32)
        if config.cell == "rnn" and name.endswith("recurrent_kernel"):
            value *= np.float32(RNN_SHARE)
    fields = config.to_json()
    del fields["classes"]
    classifier = TextClassifier(**fields)
    classifier.model_ = model
    words = tuple(f"w{i}" for i in range(FIRST_WORD_ID, config.vocabulary_size))
    classifier.tokenizer_ = Tokenizer("words", Vocabulary(words))
    classifier.classes_ = np.arange(config.classes)
    classifier.training_ = classifier.get_params()
    classifier.history_ = []
    classifier.ngrams_, classifier.mix_ = None, (1.0, 0.0)
    return classifier


def padded(config: ModelConfig, rows: list[Any], target: str) -> Any:
    """[B, T] as the exports want their ids. Keras takes padding on either side."""
    ids = np.zeros((len(rows), config.max_length), np.int64)
    behind = config.masked and target != "keras"
    for line, row in zip(ids, rows, strict=True):
        start = 0 if behind else len(line) - len(row)
        line[start : start + len(row)] = row
    return ids


def measure(target: str, python: Path, models: int, folder: Path) -> list[dict[str, Any]]:
    """Both ways between tidegate and one framework."""
    jobs = []
    for seed in range(models):
        config = draw_config(seed)
        rows = draw_rows(config, seed)
        path = folder / f"ours{seed}{TARGETS[target]}"
        made = export_model(make_classifier(config, seed), path, target)
        np.save(folder / f"ids{seed}.npy", padded(config, rows, target))
        lengths = [len(row) for row in rows]
        jobs.append(
            {
                "seed": seed,
                "file": path.name,
                "proven": made.difference,
                "lengths": lengths,
                **dataclasses.asdict(config),
            }
        )
    (folder / "jobs.json").write_text(json.dumps(jobs))
    peer = PEERS / f"{target}_conversions.py"
    done = subprocess.run([python, peer, folder], check=True, stdout=subprocess.PIPE, text=True)
    peer_versions = json.loads(done.stdout.strip().splitlines()[-1])
    runs = [to_framework(target, job, folder) for job in jobs]
    runs += [
        from_framework(target, job, folder)
        for job in jobs
        if (folder / f"theirs{job['seed']}.json").exists() or target == "onnx"
    ]
    for way in (f"to {target}", f"from {target}"):
        next(run for run in runs if run["way"] == way)["versions"] = peer_versions
    return runs


def logits_and_probabilities(model: TextModel, rows: list[Any]) -> tuple[Any, Any]:
    logits = model.predict_logits(TokenizedTexts.from_rows(rows))
    return logits.astype(np.float64), model.probabilities(logits)


def to_framework(target: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    seed = job["seed"]
    config = draw_config(seed)
    rows = draw_rows(config, seed)
    logits, probabilities = logits_and_probabilities(make_classifier(config, seed).model_, rows)
    with np.load(folder / f"of_ours{seed}.npz") as found:
        gaps = [np.abs(found["probabilities"] - probabilities).max()]
        if "logits" in found:
            gaps.append(np.abs(found["logits"] - logits).max())
    return {
        "way": f"to {target}",
        "difference": float(max(gaps)),
        "proven": job["proven"],
        **config.to_json(),
    }


def from_framework(target: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A model that the framework made; for ONNX, tidegate's own export read back."""
    seed = job["seed"]
    config = draw_config(seed)
    rows = draw_rows(config, seed)
    if target == "onnx":
        path = folder / job["file"]
        words = path.with_name(f"ours{seed}.vocabulary.json")
        imported = import_model(path, words)
        told = {"file": path.name}
        outputs = np.load(folder / f"of_ours{seed}.npz")["probabilities"]
    else:
        told = json.loads((folder / f"theirs{seed}.json").read_text())
        words = folder / "words.json"
        ids = {f"w{i}": i for i in range(3, config.vocabulary_size)}
        words.write_text(json.dumps({"[START]": 1, "[UNK]": 2, "": 0, **ids}))
        options = ImportOptions(max_length=config.max_length)
        if target == "torch":
            options = dataclasses.replace(options, masked=config.masked, pooling=told["pooling"])
        imported = import_model(folder / told["file"], words, options)
        outputs = np.load(folder / f"of_theirs{seed}.npy")
    model = imported.trained.model
    # Here id 3 is a word's, so that ids from there on are one larger in tidegate.
    moved = rows if target == "onnx" else [np.where(row > 2, row + 1, row) for row in rows]
    _, probabilities = logits_and_probabilities(model, moved)
    there = np.isfinite(outputs).all(axis=1)  # a mean of no steps is no number in Keras
    return {
        "way": f"from {target}",
        "difference": float(np.abs(outputs - probabilities)[there].max()),
        "proven": imported.difference,
        "file": Path(told["file"]).suffix,
        **model.config.to_json(),
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """For each way, how many models, and the largest differences."""
    summary = {}
    for way in dict.fromkeys(run["way"] for run in runs):
        found = [run for run in runs if run["way"] == way]
        summary[way] = {
            "models": len(found),
            "largest": max(run["difference"] for run in found),
            "largest_of_proofs": max(run["proven"] for run in found),
            "cells": {
                cell: sum(run["cell"] == cell for run in found) for cell in ("gru", "lstm", "rnn")
            },
        }
    return summary


if __name__ == "__main__":
    main()
