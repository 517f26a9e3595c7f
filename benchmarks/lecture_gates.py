"""What the gates do on a real sentence, and which cell learns a word that stands far back?

The sentence is read by the lecture's model, which `tidegate train imdb -o lecture.safetensors`
makes: update gate and state of each unit after each word are drawn, and the numbers of one step of
one unit are kept.

The second question needs no data. In texts of 40 words one word, anywhere, decides, and all others
are filler. GRU, LSTM and plain RNN learn from 400 of them and are tested where the deciding word is
the first: how many are right, and how much of the gradient of a text's loss is left at the states
on the way back to it, as a share of that at the last state?

Needs matplotlib: `pip install '.[plot]'`. Afterwards, tables.py fills docs/lecture.md.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import numpy.typing as npt
from machine import add_output, versions, write_result
from plot import STYLE
from result_files import CELLS, FIGURES

from tidegate import TextClassifier, ops
from tidegate.compare.forgetting import state_gradient_norms
from tidegate.model import TextModel
from tidegate.trace import LayerTrace, cell_terms, trace_layers

mpl.use("agg")

import matplotlib.pyplot as plt  # type: ignore[import-not-found,import-untyped,unused-ignore]

SENTENCE = "The first hour is dull and far too long, but the end is wonderful and worth the wait."
WORD = "dull"  # whose step is computed by hand
LABEL = "positive"

LENGTH, TEXTS, EPOCHS = 40, 400, 15
FILLER = ["the", "a", "of", "film", "it", "was", "and", "in", "to", "that"]
CLUES = {"good": "lovely", "bad": "dreadful"}
# Okabe and Ito's, which the colour-blind tell apart.
COLOURS = {"gru": "#0072b2", "lstm": "#e69f00", "rnn": "#d55e00"}
DASHES = {"gru": "-", "lstm": "--", "rnn": ":"}


def main() -> None:
    options = parse_options()
    ops.set_threads(1)
    options.figures.mkdir(parents=True, exist_ok=True)
    with plt.style.context(["default", STYLE]):
        gates, heat = read_sentence(TextClassifier.load(options.model))
        heat.savefig(options.figures / "lecture-gates.png", dpi=90)
        runs = [one_cell(cell, seed) for seed in range(options.seeds) for cell in CELLS]
        draw_gradients(runs).savefig(options.figures / "lecture-gradients.png", dpi=90)
    write_result(
        options.output,
        versions=versions("tidegate", "numpy", "matplotlib"),
        settings={"sentence": SENTENCE, "length": LENGTH, "texts": TEXTS, "epochs": EPOCHS},
        runs=runs,
        summary={"gates": gates, "far_back": far_back_summary(runs)},
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the lecture's, of tidegate train imdb")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    add_output(parser)
    return parser.parse_args()


# --- the sentence ------------------------------------------------------------------------------


def read_sentence(classifier: TextClassifier) -> tuple[dict[str, Any], Any]:
    """What is kept of it, and the picture."""
    (trace,) = trace_layers(classifier, SENTENCE)
    probabilities = classifier.explain(SENTENCE, label=LABEL).probabilities
    update, moved = trace.gates["update"], np.abs(trace.states - trace.states_before)
    step = trace.tokens.index(WORD)
    unit = int(moved[step].argmax())
    terms = cell_terms(classifier, SENTENCE, layer=0, direction="forward", step=step, unit=unit)
    kept = {
        "tokens": trace.tokens,
        "probabilities": rounded(probabilities),
        "mean_update": rounded(update.mean(axis=1)),
        "mean_reset": rounded(trace.gates["reset"].mean(axis=1)),
        "moved": rounded(np.linalg.norm(trace.states - trace.states_before, axis=1)),
        "terms": terms.to_json(),
    }
    return kept, draw_sentence(trace, probabilities)


def rounded(values: npt.NDArray[Any]) -> list[float]:
    return [round(float(value), 4) for value in values]


def draw_sentence(trace: LayerTrace, probabilities: npt.NDArray[np.float64]) -> Any:
    tokens, update = trace.tokens, trace.gates["update"]
    order = update.mean(axis=0).argsort()  # on top the units that change slowest
    figure, (line, jump, first, second) = plt.subplots(
        4, 1, figsize=(9.0, 9.0), height_ratios=(1, 1, 3, 3), sharex=True, layout="constrained"
    )
    places = np.arange(len(tokens))
    # The mark of the beginning is no word, and has no probability of its own.
    line.plot(places[-len(probabilities) :], probabilities, color=COLOURS["gru"], marker="o", ms=4)
    line.axhline(0.5, color="#777777", lw=0.8, ls="--")
    line.set_ylim(0, 1)
    line.set_title(f"Probability of {LABEL} after each word", loc="left")
    jump.bar(
        places, np.linalg.norm(trace.states - trace.states_before, axis=1), color=COLOURS["rnn"]
    )
    jump.plot(places, update.mean(axis=1), color="black", marker="s", ms=4, label="mean update")
    jump.legend(loc="upper right")
    jump.set_title("How far the state moved (bars), and the mean update gate (line)", loc="left")
    largest = float(np.abs(trace.states).max())
    for axes, values, colours, low, high, title in (
        (first, update, "cividis", 0.0, 1.0, "Update gate of each unit: 1 takes all of the new"),
        (second, trace.states, "PuOr", -largest, largest, "State of each unit, in the same order"),
    ):
        drawn = axes.imshow(
            *(values[:, order].T, colours),
            aspect="auto",
            vmin=low,
            vmax=high,
            interpolation="none",
        )
        figure.colorbar(drawn, ax=axes, pad=0.01)
        axes.grid(visible=False)
        axes.set_ylabel("unit, slowest first")
        axes.set_title(title, loc="left")
    second.set_xticks(places, tokens, rotation=55, ha="right", rotation_mode="anchor")
    return figure


# --- a word far back ---------------------------------------------------------------------------


def far_back(
    seed: int, count: int, *, at_front: bool
) -> tuple[list[str], list[str], npt.NDArray[np.int32]]:
    """Texts of filler with one word that decides, their labels, and these as numbers."""
    random = np.random.default_rng([seed, at_front])
    numbers = np.arange(count, dtype=np.int32) % 2
    labels = [sorted(CLUES)[number] for number in numbers]
    texts = []
    for label in labels:
        words = random.choice(FILLER, LENGTH).tolist()
        words[0 if at_front else int(random.integers(LENGTH))] = CLUES[label]
        texts.append(" ".join(words))
    return texts, labels, numbers


def one_cell(cell: str, seed: int) -> dict[str, Any]:
    """Its accuracy where the first word decides, and the gradient's shares, untrained and not."""
    classifier = TextClassifier(
        cell=cell,
        embedding_size=8,
        hidden_size=16,
        batch_size=16,
        learning_rate=0.01,
        epochs=EPOCHS,
        calibrate=False,
        random_state=seed,
    )
    texts, labels, _ = far_back(seed, TEXTS, at_front=False)
    classifier.fit(texts, labels)
    probes, answers, numbers = far_back(seed, TEXTS, at_front=True)
    encoded = classifier.tokenizer_.encode_all(probes, LENGTH)
    model = classifier.model_
    shares: dict[str, list[float]] = {}
    for name, network in (
        ("untrained", TextModel.initialize(model.config, seed, model.precision)),
        ("trained", model),
    ):
        norms = state_gradient_norms(network, encoded, numbers)
        shares[name] = np.median(norms / norms[:, :1], axis=0).tolist()
    accuracy = classifier.score(probes, answers)
    print(f"{cell}, seed {seed}: {accuracy:.3f}", flush=True)
    return {"cell": cell, "seed": seed, "accuracy": accuracy, "shares": shares}


def far_back_summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """For each cell the seeds' accuracies, and medians of the share left at the first word."""
    found = {}
    for cell in CELLS:
        own = [run for run in runs if run["cell"] == cell]
        found[cell] = {
            "accuracies": [run["accuracy"] for run in own],
            **{
                name: statistics.median(run["shares"][name][-1] for run in own)
                for name in ("untrained", "trained")
            },
        }
    return found


def draw_gradients(runs: list[dict[str, Any]]) -> Any:
    """Untrained networks beside trained ones; a line for each seed."""
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 3.6), sharey=True, layout="constrained")
    for axes, which in zip(panels, ("untrained", "trained"), strict=True):
        for run in runs:
            cell = run["cell"]
            label = CELLS[cell] if run["seed"] == 0 else None
            axes.semilogy(
                run["shares"][which], color=COLOURS[cell], ls=DASHES[cell], lw=1.8, label=label
            )
        axes.set_title(which, loc="left")
        axes.set_xlabel("steps from the end")
    panels[0].set_ylabel("norm of the gradient, share of the last")
    panels[0].legend(loc="lower left")
    return figure


if __name__ == "__main__":
    main()
