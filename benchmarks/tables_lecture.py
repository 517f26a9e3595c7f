"""The tables of docs/lecture.md."""

from __future__ import annotations

from result_files import CELLS, SIDES, Result, Results, Table, between, made_by, of, table

from tidegate.compare.table import distances, fading, figures


@of("lecture_gates.json")
def lecture_step(found: Result) -> str:
    """One step of a GRU with the reset gate after the product: its terms, then the equations."""
    terms = found["summary"]["gates"]["terms"]
    rows = [
        [gate["name"]]
        + [f"{gate[key]:.4f}" for key in ("input", "recurrent", "bias", "recurrent_bias", "value")]
        for gate in terms["gates"]
    ]
    update, reset, candidate = terms["gates"]
    keys = ("input", "recurrent", "bias", "recurrent_bias")
    lines = [f"unit {terms['unit']} at {terms['token']!r}, before: h = {terms['previous']:.4f}", ""]
    for letter, gate in (("z", update), ("r", reset)):
        numbers = " + ".join(signed(gate[key]) for key in keys)
        total = sum(gate[key] for key in keys)
        lines.append(f"{letter} = σ({numbers}) = σ({total:.4f}) = {gate['value']:.4f}")
    w, u, b, second = (signed(candidate[key]) for key in keys)
    r, z, c = (f"{gate['value']:.4f}" for gate in (reset, update, candidate))
    lines.append(f"c = tanh({w} + {b} + {r} * ({u} + {second})) = {c}")
    lines.append(
        f"h = (1 - {z}) * {signed(terms['previous'])} + {z} * {signed(candidate['value'])}"
    )
    lines[-1] += f" = {terms['state']:.4f}"
    shown = "".join(f"    {line}".rstrip() + "\n" for line in lines)
    return table(["gate", "W x", "U h", "b", "b′", "value"], rows) + "\n" + shown


def signed(value: float) -> str:
    """With four decimals; below 0 in brackets."""
    return f"{value:.4f}" if value >= 0 else f"({value:.4f})"


@of("lecture_gates.json")
def lecture_words(found: Result) -> str:
    gates = found["summary"]["gates"]
    tokens, after = gates["tokens"], [f"{each:.2f}" for each in gates["probabilities"]]
    # The mark of the beginning is no word of the text.
    after = [""] * (len(tokens) - len(after)) + after
    columns = [[f"{each:.2f}" for each in gates[key]] for key in ("moved", "mean_update")]
    rows = zip([f"`{token}`" for token in tokens], after, *columns, strict=True)
    return table(["word", "positive", "state moved by", "mean update gate"], rows)


@of("lecture_seeds.json")
def lecture_seeds(found: Result) -> str:
    accuracy = found["summary"]["test accuracy"]
    accuracies = f"{accuracy['mean']:.4f}, the least {accuracy['min']:.4f}"
    return f"{accuracies}, the greatest {accuracy['max']:.4f}.\n"


@of("compare_imdb.json")
def compare_models(found: Result) -> str:
    """What `tidegate compare` says of the models, in its own words."""
    report = found["summary"]["report"]
    head, rows = figures(report)
    left = ("against", "memory", "calibration", "state", "gates")
    keep = [i for i, name in enumerate(head) if not name.startswith(left)]
    shown = table([head[i] for i in keep], ([row[i] for i in keep] for row in rows))
    about = f"{found['machine']['cpu']}, {report['machine']['threads']} threads"
    seconds = found["summary"]["seconds"]
    return f"{shown}\nAll of it took {seconds:.0f} s ({about}; {made_by(found)}).\n"


@of("compare_imdb.json")
def compare_gradients(found: Result) -> str:
    """How much of the gradient is left, so many steps from the end."""
    return table(*fading(found["summary"]["report"]))


@of("compare_imdb.json")
def compare_distances(found: Result) -> str:
    """Accuracy by how far the deciding words are from the end."""
    return table(*distances(found["summary"]["report"]))


def lecture_epochs(results: Results) -> str:
    rows = []
    found = results.by_cell("lecture_epoch_{}.json")
    sides = ("tidegate", "keras", "torch", "jax")
    for side in sides:
        seconds = [each["summary"]["train"].get(f"{side}_s") for each in found.values()]
        rows.append([SIDES[side], *(between(each) if each else "" for each in seconds)])
    return table(["seconds for an epoch", *(CELLS[cell] for cell in found)], rows)


@of("lecture_gates.json")
def lecture_far_back(found: Result) -> str:
    rows = [
        [
            CELLS[cell],
            ", ".join(f"{100 * each:.0f} %" for each in each_cell["accuracies"]),
            *(
                ", ".join(
                    f"{run['shares'][which][-1]:.0e}"
                    for run in found["runs"]
                    if run["cell"] == cell
                )
                for which in ("untrained", "trained")
            ),
        ]
        for cell, each_cell in found["summary"]["far_back"].items()
    ]
    head = ["", "right, for each seed", "gradient left, untrained", "gradient left, trained"]
    return table(head, rows)


TABLES: dict[str, Table] = {
    "compare-models": compare_models,
    "compare-gradients": compare_gradients,
    "compare-distances": compare_distances,
    "lecture-step": lecture_step,
    "lecture-words": lecture_words,
    "lecture-seeds": lecture_seeds,
    "lecture-epochs": lecture_epochs,
    "lecture-far-back": lecture_far_back,
}
