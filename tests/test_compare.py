"""A comparison of small models, each trained in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import browser
from tidegate import TextClassifier, ops
from tidegate.compare import (
    Comparison,
    Done,
    Going,
    Part,
    Parts,
    Plan,
    Probing,
    compare_steps,
    hold_out,
    process,
)
from tidegate.compare import compare as compare_texts
from tidegate.compare.linear import fit_linear
from tidegate.compare.page import page
from tidegate.compare.runs import RunResult
from tidegate.compare.table import lines, markdown
from tidegate.errors import (
    ConfigError,
    DataError,
    OutputExistsError,
    TidegateError,
    TrainingError,
)

WORDS = [f"word{i}" for i in range(30)]
LOUD = {"good": ["lovely", "fine"], "bad": ["dreadful", "dull"], "odd": ["queer", "strange"]}
SMALL: dict[str, Any] = {
    **{"hidden_size": 4, "embedding_size": 3, "max_length": 24, "batch_size": 16, "epochs": 2},
    **{"learning_rate": 0.02, "masked": True, "validation_fraction": 0.25},
}


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def corpus(count: int, labels: list[str], seed: int) -> Part:
    draw = np.random.default_rng(seed)
    texts, found = [], []
    for i in range(count):
        label = labels[i % len(labels)]
        words = draw.choice(WORDS, 30).tolist()
        words[12:14] = draw.choice(LOUD[label], 2).tolist()
        texts.append(" ".join(words))
        found.append(label)
    return Part(texts, found)


PARTS = Parts(corpus(120, ["good", "bad"], 1), corpus(60, ["good", "bad"], 2))
PLAN = Plan(models=("rnn", "gru", "linear"), seeds=2, first_seed=3, preset="lecture", options=SMALL)


def finished(
    events: Iterator[Probing | Going | Done | Comparison],
) -> tuple[list[Done], dict[str, Any]]:
    done: list[Done] = []
    for event in events:
        if isinstance(event, Done):
            done.append(event)
        elif isinstance(event, Comparison):
            return done, event.report
    raise AssertionError("no comparison")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, Any], Path]:
    work = tmp_path_factory.mktemp("work") / "work.json"
    ops.set_threads(1)
    events = list(compare_steps(PLAN, PARTS, work=work))
    assert isinstance(events[-1], Comparison)
    return events, events[-1].report, work


Compared = tuple[list[Any], dict[str, Any], Path]


def row_of(report: dict[str, Any], model: str) -> dict[str, Any]:
    return next(row for row in report["models"] if row["model"] == model)


def test_models_take_turns_and_tell_what_they_do(compared: Compared) -> None:
    done = [event for event in compared[0] if isinstance(event, Done)]
    turns = [(event.turn.number, event.turn.model, event.turn.seed) for event in done]
    models = ["rnn", "gru", "linear"]
    assert turns == [(i + 1, models[i % 3], 3 + i // 3) for i in range(6)]
    epochs = [e for e in compared[0] if isinstance(e, Going) and hasattr(e.event, "val_loss")]
    assert [(e.turn.model, e.event.epoch, e.epochs) for e in epochs] == [
        *(("rnn", 1, 2), ("rnn", 2, 2), ("gru", 1, 2), ("gru", 2, 2)) * 2
    ]


def test_the_linear_model_of_the_probes_is_told(compared: Compared) -> None:
    assert [event for event in compared[0] if isinstance(event, Probing)] == [Probing(90)]
    assert isinstance(compared[0][0], Probing)


def test_a_network_is_the_one_that_fit_trains(compared: Compared, tmp_path: Path) -> None:
    """Bit for bit, as far as accuracies and losses can tell."""
    found = row_of(compared[1], "gru")
    for place, seed in enumerate((3, 4)):
        options = {**SMALL, "random_state": seed, "ngrams": 0}
        own = TextClassifier.from_preset("lecture", cell="gru", **options)
        own.fit(PARTS.train.texts, PARTS.train.labels)
        result = own.report(PARTS.test.texts, PARTS.test.labels, intervals=False)
        kept = found["seeds"][place]
        assert kept["test_accuracy"] == result.accuracy
        assert kept["test_loss"] == result.loss
        assert kept["calibration_error"] == result.calibration_error
        assert [e["val_loss"] for e in kept["epochs"]] == [e.val_loss for e in own.history_]
        own.save(tmp_path / "model")
        assert kept["file_bytes"] == (tmp_path / "model").stat().st_size
    assert found["parameters"] == sum(p.size for p in own.model_.parameters.values())
    assert (found["gates"], found["state"], found["epochs"]) == (2, 4, 2)
    assert row_of(compared[1], "rnn")["gates"] == 0


def test_the_linear_model_learns_from_the_same_texts(compared: Compared) -> None:
    found = row_of(compared[1], "linear")
    options = PLAN.classifier("linear", 3)
    own = fit_linear(options, PARTS.train.texts, PARTS.train.labels)
    held = options.split(120)[1].tolist()
    right = own.classes[own.predict_proba(PARTS.train.select(held).texts).argmax(axis=1)]
    expected = float(np.mean(right == np.array(PARTS.train.select(held).labels)))
    assert found["seeds"][0]["validation_accuracy"] == expected
    assert found["parameters"] == own.ngrams.weights.size + 1
    assert found["gates"] is found["epoch_seconds"] is found["gradients"] is None
    # What it has not seen does not change it: the others alone give the same weights.
    others = PARTS.train.select(options.split(120)[0].tolist())
    assert len(others) == 90
    assert found["test"]["accuracy"] > 0.9


def test_the_report_has_all_that_is_measured(compared: Compared) -> None:
    report = compared[1]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["texts"] == {
        **{"train": 90, "validation": 30, "validation_shared": False, "test": 60},
        "guessing": 0.5,
    }
    for row in report["models"]:
        assert row["text_milliseconds"]["least"] > 0
        assert row["memory_peak"] >= row["memory_before"] > 10_000_000
        low, high = row["test"]["interval"]
        assert low <= row["test"]["accuracy"] <= high
        assert row["cost"] >= 1.0
    assert min(row["cost"] for row in report["models"]) == 1.0
    for row in report["models"][:2]:
        for stage in ("initial", "trained"):
            curve = row["gradients"][stage]
            assert curve["texts"] == 60
            assert curve["median"][0] == 1.0
            assert len(curve["distances"]) == len(curve["mean_norm"]) == len(curve["seeds"][0])
        assert row["distances"]["distances"][0] == 0
        assert len(row["distances"]["seeds"]) == 2
    pairs = [(test["first"], test["second"]) for test in report["tests"]]
    assert pairs == [("rnn", "gru"), ("linear", "gru"), ("rnn", "linear")]
    assert all(test["p_holm"] >= test["p"] for test in report["tests"])
    assert report["choice"]["by"] == "validation"


def test_the_documents_tables_name_the_reports_keys(compared: Compared) -> None:
    document = (Path(__file__).parent.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
    tables = re.findall(r"\| --- \| --- \|\n((?:\|.*\n)+)", document)
    keys = [re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) for table in tables]
    report = {"source": None, **compared[1]}
    first = [name for name in report if name not in ("tidegate", "source")]
    assert keys[-2] == ["tidegate", "source", *first]
    assert keys[-1] == list(row_of(report, "gru"))


def test_finished_runs_are_not_done_again(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work.json"
    stored = json.loads(compared[2].read_text())
    stored["runs"] = stored["runs"][:5]
    work.write_text(json.dumps(stored))
    with pytest.raises(OutputExistsError, match="resume"):
        next(compare_steps(PLAN, PARTS, work=work))
    done, report = finished(compare_steps(PLAN, PARTS, work=work, resume=True))
    assert [event.kept for event in done] == [True] * 5 + [False]
    assert len(json.loads(work.read_text())["runs"]) == 6
    # The linear model was fitted again, and all but its times are the same.
    times = {"train_seconds", "text_milliseconds", "memory_peak", "seconds", "cost"}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in times}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert timeless(row_of(report, "linear")["seeds"]) == timeless(
        row_of(compared[1], "linear")["seeds"]
    )
    assert timeless(report["tests"]) == timeless(compared[1]["tests"])
    # With all there, no process is begun.
    monkeypatch.setattr(process, "run", None)
    done, again = finished(compare_steps(PLAN, PARTS, work=work, resume=True))
    assert all(event.kept for event in done)
    assert again["models"] == report["models"]


def test_kept_runs_of_another_comparison_are_refused(compared: Compared, tmp_path: Path) -> None:
    work = compared[2]
    other = Parts(PARTS.train, corpus(60, ["good", "bad"], 9))
    with pytest.raises(ConfigError, match="differs in texts"):
        next(compare_steps(PLAN, other, work=work, resume=True))
    plan = Plan(**{**PLAN.to_json(), "models": PLAN.models, "seeds": 3})
    with pytest.raises(ConfigError, match="differs in plan"):
        next(compare_steps(plan, PARTS, work=work, resume=True))
    broken = '{"comparison": 1, "runs": [{}], "seconds": 1}'
    for content in ("", "{}", "[]", broken, broken.replace("{}", ""), "[" * 100_000, "\0"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(ConfigError, match="keeps no runs"):
            next(compare_steps(PLAN, PARTS, work=tmp_path / "bad", resume=True))


def test_results_survive_being_kept(compared: Compared) -> None:
    for event in compared[0]:
        if isinstance(event, Done):
            fields = json.loads(json.dumps(event.result.to_json()))
            again = RunResult.from_json(fields)
            assert again.to_json() == event.result.to_json()
            assert again.test is not None
            assert event.result.test is not None
            assert (again.test.right == event.result.test.right).all()


def test_the_tables_show_the_reports_numbers(compared: Compared) -> None:
    report = compared[1]
    for text in ("\n".join(lines(report)), markdown(report), page(report)):
        plain = text.replace("\N{NO-BREAK SPACE}", " ")
        for row in report["models"]:
            assert f"{100 * row['test']['accuracy']:.2f} %" in plain
            assert f"{row['parameters']:,}" in plain
        assert "Take the " in plain
    assert markdown(report).count("\n| plain RNN, trained |") == 1


def test_the_page_is_one_file_that_asks_for_nothing(compared: Compared) -> None:
    report = json.loads(json.dumps(compared[1]))
    report["source"] = {"name": "<script>alert(1)</script>", "origin": "a|b\n<img src=x>"}
    text = page(report)
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"<[^>]* (src|href)=|url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    assert "<code>tidegate train SOURCE " in text
    charts = re.findall(r"<svg.*?</svg>", text)
    assert len(charts) == 7
    for chart in charts:
        assert 'role="img" aria-label="' in chart
        assert "NaN" not in chart
        assert "inf" not in chart
    # Lines differ by more than colour: by dashes, marks and their names.
    lines_of = next(chart for chart in charts if "Validation accuracy over epoch" in chart)
    assert 'class="line rnn" stroke-dasharray="2 4"' in lines_of
    assert 'class="line gru" points=' in lines_of
    assert {"plain RNN", "GRU", "linear model"} <= set(re.findall(r"<text[^>]*>([^<]*)<", lines_of))
    assert "a\\|b &lt;img src=x>" in markdown(report)


def test_the_page_is_readable_on_screens_of_any_width(compared: Compared, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(compared[1]), encoding="utf-8")
    with browser() as opened:
        for width in (320, 390, 1280):
            shown = opened.new_page(viewport={"width": width, "height": 800})
            shown.goto((tmp_path / "page.html").as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") == width
            # No letter leaves its plot, and none lies on another.
            cut = shown.evaluate(
                """() => [...document.querySelectorAll("svg")].flatMap(svg => {
                  const all = svg.getBoundingClientRect();
                  return [...svg.querySelectorAll("text")].filter(text => {
                    const own = text.getBoundingClientRect();
                    return own.left < all.left - 1 || own.right > all.right + 1
                      || own.top < all.top - 1 || own.bottom > all.bottom + 1;
                  }).map(text => text.textContent);
                })"""
            )
            assert cut == []
            # A row's name stays where it is while its table is moved.
            table = shown.locator(".scroll").first
            table.evaluate("table => table.scrollLeft = 200")
            name = table.locator("tbody th").first.bounding_box()
            frame = table.bounding_box()
            assert name is not None
            assert frame is not None
            assert name["x"] == frame["x"]


def test_a_training_that_diverges_is_told_and_left_out() -> None:
    wild = {**SMALL, "learning_rate": 1e34}
    plan = Plan(models=("gru", "linear"), seeds=1, preset="lecture", options=wild)
    _, report = finished(compare_steps(plan, PARTS))
    assert "lower learning_rate" in row_of(report, "gru")["failure"]
    assert report["choice"]["chosen"] == "linear"
    assert report["tests"] == []
    for text in ("\n".join(lines(report)), markdown(report), page(report)):
        assert "GRU could not be trained" in text


def test_a_budget_buys_whole_epochs_the_same_for_each_seed() -> None:
    options = {name: value for name, value in SMALL.items() if name != "epochs"}
    plan = Plan(models=("rnn",), seeds=1, preset="lecture", options=options, budget=1e-6)
    _, report = finished(compare_steps(plan, PARTS))
    assert len(row_of(report, "rnn")["seeds"][0]["epochs"]) == 1
    plan = Plan(models=("rnn",), seeds=2, preset="lecture", options=options, budget=0.5)
    _, report = finished(compare_steps(plan, PARTS))
    counts = [len(seed["epochs"]) for seed in row_of(report, "rnn")["seeds"]]
    assert counts[0] == counts[1] > 1
    assert "0.5 s of training" in markdown(report)


def test_three_classes_and_texts_to_choose_by() -> None:
    three = ["good", "bad", "odd"]
    part = corpus(120, three, 1)
    found = compare_texts(
        part.texts,
        np.array([three.index(label) for label in part.labels]),
        validation=(corpus(30, three, 5).texts, [0, 1, 2] * 10),
        test=0.25,
        models=("lstm", "linear"),
        seeds=2,
        preset="lecture",
        options={**SMALL, "epochs": 1},
    )
    report = found.report
    assert report["texts"] == {
        **{"train": 90, "validation": 30, "validation_shared": True, "test": 30},
        "guessing": 1 / 3,
    }
    assert row_of(report, "lstm")["validation"]["method"] == "seeds and texts"
    assert row_of(report, "lstm")["state"] == 8
    assert found.to_html().startswith("<!doctype html>")
    assert found.to_markdown().startswith("# Comparison")


def test_several_labels_a_text() -> None:
    draw = np.random.default_rng(0)
    table = (draw.random((160, 3)) < 0.4).astype(int)
    names = list(LOUD)
    texts = [
        " ".join([*draw.choice(WORDS, 20), *(LOUD[names[k]][0] for k in np.flatnonzero(row))])
        for row in table
    ]
    found = compare_texts(
        texts, table, models=("gru-before", "linear"), seeds=1, preset="default", options=SMALL
    )
    linear = row_of(found.report, "linear")
    assert linear["test"]["accuracy"] > 0.8  # in all three labels at once
    assert row_of(found.report, "gru-before")["distances"]["texts"] >= 20
    assert "These networks pool their states (max+mean)" in found.to_markdown()
    assert "GRU (before): its reset gate" in found.to_markdown()


def test_files_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's process works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("vectors.txt").write_text("lovely 1 2 3\ndull 3 2 1\n", encoding="utf-8")
    options = {**SMALL, "vectors": Path("vectors.txt"), "epochs": 1}
    plan = Plan(models=("rnn",), seeds=1, preset="lecture", options=options)
    assert plan.options["vectors"] == str(tmp_path / "vectors.txt")
    _, report = finished(compare_steps(plan, PARTS))
    assert row_of(report, "rnn")["failure"] is None


def test_what_is_held_out_to_test_on() -> None:
    part = Part([f"text {i}" for i in range(100)], ["a"] * 89 + ["b"] * 10 + ["c"])
    train, test = hold_out(part, 0.2)
    assert [test.labels.count(label) for label in "abc"] == [17, 2, 0]
    assert sorted(train.texts + test.texts) == sorted(part.texts)
    assert hold_out(part, 0.2) == (train, test)
    many = Part([str(i) for i in range(50)], [["a"], ["a", "b"], []] * 16 + [["c"], ["a"]])
    train, test = hold_out(many, 0.5)
    assert len(test) == 25
    assert {label for row in train.labels for label in row} == {"a", "b", "c"}
    with pytest.raises(DataError, match="too few"):
        hold_out(Part(["a", "b"], ["x", "y"]), 0.2)
    for share in (0.0, 1.0, True):
        with pytest.raises(ConfigError, match="neither a file nor a share"):
            hold_out(part, share)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": ("gru", "gur")}, "did you mean 'gru'"),
        ({"models": ("gru", "gru")}, "names one twice"),
        ({"models": ("linear",)}, "no network"),
        ({"models": "gru"}, "give a list"),
        ({"seeds": 0}, "seeds=0"),
        ({"budget": -1.0}, "budget=-1.0"),
        ({"budget": 5.0, "options": {"epochs": 2}}, "both a budget and epochs"),
        ({"margin": 2}, "margin=2"),
        ({"preset": "fats"}, "preset='fats'"),
        ({"options": {"cell": "lstm"}}, "cell is what a comparison decides"),
        ({"options": {"hidden_size": 0}}, "hidden_size=0"),
        ({"options": {"class_weight": {0: 2.0}}}, "JSON values"),
        ({"options": {"validation_fraction": 0.0}}, "nothing to choose"),
    ],
)
def test_plans_that_can_not_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Plan(**given)


def test_a_process_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process.write_texts(tmp_path / "texts", PARTS, None)
    job = process.Job(PLAN, "rnn", 3, str(tmp_path / "texts"))
    monkeypatch.setattr(process, "_WORKER", ("-c", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(TrainingError, match="rnn with seed 3 was killed by signal 9"):
        list(process.run(job, tmp_path))
    monkeypatch.setattr(process, "_WORKER", ("-c", "raise SystemExit('no such thing')"))
    with pytest.raises(TrainingError, match="ended with status 1: no such thing"):
        list(process.run(job, tmp_path))
    line = json.dumps({"error": "DataError", "message": "bad texts"})
    monkeypatch.setattr(process, "_WORKER", ("-c", f"print({line!r})"))
    with pytest.raises(DataError, match="bad texts"):
        list(process.run(job, tmp_path))
    assert issubclass(DataError, TidegateError)


def test_a_process_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    """The system closes the pipe of a process that is killed, too."""
    process.write_texts(tmp_path / "texts", PARTS, None)
    long = Plan(**{**PLAN.to_json(), "models": ("rnn",), "options": SMALL | {"epochs": 10_000}})
    process.Job(long, "rnn", 3, str(tmp_path / "texts")).write(tmp_path / "job")
    with subprocess.Popen(
        [sys.executable, *process._WORKER, str(tmp_path / "job")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert b'"epochs": 10000' in worker.stdout.readline()
        worker.stdin.close()
        assert worker.wait(60) == 1


def test_texts_and_labels_that_can_not_be_compared() -> None:
    def refuse(message: str, *parts: Part) -> None:
        with pytest.raises(DataError, match=message):
            next(compare_steps(PLAN, Parts(*parts)))

    refuse("there are no test texts", PARTS.train, Part([], []))
    refuse("there are no validation texts", PARTS.train, PARTS.test, Part([], []))
    refuse("every label is 'good'", Part(["a", "b"], ["good", "good"]), PARTS.test)
    refuse("label 'odd' is not one", PARTS.train, Part(["a"], ["odd"]))
    with pytest.raises(DataError, match="text 1 is a bytes"):
        Part.of(["a", b"b"], [0, 1])  # type: ignore[list-item]
    with pytest.raises(DataError, match="2 texts have 1 labels"):
        Part.of(["a", "b"], [0])


def test_texts_go_to_the_process_as_they_are(tmp_path: Path) -> None:
    odd = Part(["a\nb", "\ud800", "“ü”\u2028"], [["x", "y"], [], ["x"]])
    parts = Parts(odd, Part(["t"], [["y"]]), None)
    probes = process.ProbeTexts([0], (0, 5), [["a"], ["a b"], ["b a"]])
    process.write_texts(tmp_path / "texts", parts, probes)
    assert process.read_texts(tmp_path / "texts") == (parts, probes)
