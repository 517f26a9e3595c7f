"""Gates, states and equations: held to the float64 reference, one text at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import TextClassifier, ops, reference, sequence
from tidegate import reference_sequence as plain
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, DataError, NotFittedError
from tidegate.model import ModelConfig, TextModel
from tidegate.model_file import TrainedModel
from tidegate.text import START_MARK, UNKNOWN_ID, Tokenizer, Vocabulary
from tidegate.trace import LayerTrace, cell_terms, trace_layers

Float64 = npt.NDArray[np.float64]

WORDS = ("a", "lovely", "film", "and", "warm", "cold", "end")
SMALL = ModelConfig(
    vocabulary_size=4 + len(WORDS), embedding_size=5, hidden_size=3, max_length=6, classes=3
)
CELLS = [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]

configs = st.builds(
    lambda cell, pooling, **changed: replace(
        SMALL, cell=cell[0], reset=cell[1], pooling=pooling, **changed
    ),
    cell=st.sampled_from(CELLS),
    pooling=st.sampled_from(["last", "max+mean"]),
    masked=st.booleans(),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    layer_norm=st.booleans(),
)
tokenizers = st.builds(
    Tokenizer,
    st.just("words"),
    st.just(Vocabulary(WORDS)),
    st.sampled_from(["end", "start", "both"]),
    start=st.booleans(),
    unknown=st.booleans(),
)
texts = st.lists(st.sampled_from([*WORDS, "zyzzyva"]), min_size=1, max_size=9).map(" ".join)


def make_classifier(config: ModelConfig, tokenizer: Tokenizer | None = None) -> TextClassifier:
    """One whose weights are neither 0 nor 1."""
    model = TextModel.initialize(config, 3)
    generator = np.random.default_rng(1)
    for value in model.parameters.values():
        value += (0.4 * generator.standard_normal(value.shape)).astype(np.float32)
    classifier = TextClassifier()
    tokenizer = tokenizer or Tokenizer("words", Vocabulary(WORDS))
    classifier._take(TrainedModel(model, tokenizer, np.array(["x", "y", "z"]), {}, []))
    return classifier


Expected = dict[str, Float64]


def expected_traces(classifier: TextClassifier, text: str) -> tuple[list[str], list[Expected]]:
    """The tokens that are read, and for each layer and direction what the reference computes."""
    model, tokenizer = classifier.model_, classifier.tokenizer_
    config = model.config
    p = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    read = tokenizer.token_strings(text, config.max_length)
    special = {START_MARK: 1}
    ids = [special.get(token) or tokenizer.vocabulary.id_of(token) for token in read]
    padding = 0 if config.masked else config.max_length - len(ids)
    x = p["embedding.weight"][[0] * padding + ids]
    found = []
    for layer, names in enumerate(config.recurrent_names):
        if layer and config.layer_norm:
            gain, bias = p[f"{names[0]}_norm.gain"], p[f"{names[0]}_norm.bias"]
            x = plain.layer_norm(x, gain, bias, sequence.NORM_EPSILON)
        both = []
        for name, turn in zip(names, (1, -1), strict=False):
            batch = reference.pack(
                TokenizedTexts.from_rows([range(len(x))]), [0], max_length=99, masked=True
            )
            weights = reference.RecurrentWeights(
                p[f"{name}.kernel"],
                p[f"{name}.recurrent_kernel"],
                p[f"{name}.bias"],
                p.get(f"{name}.recurrent_bias"),
            )
            states, _, tape = reference.recurrent_forward(
                config.kind, batch, x[::turn], weights, dense=True
            )
            gates = {} if config.cell == "rnn" else tape.gates
            each = {**gates, "states": states, "before": tape.hidden_before}
            if config.cell == "lstm":
                each["cells"] = gates["forget"] * tape.cell_before
                each["cells"] += gates["input"] * gates["candidate"]
                each["cells before"] = tape.cell_before
            found.append({name: values[::turn][padding:] for name, values in each.items()})
            both.append(states[::turn])
        x = np.concatenate(both, axis=1)
    return read, found


def near(found: Any, expected: Any) -> None:
    # Layer norm of a step's nearly equal numbers makes small differences large.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=5e-5)


@given(configs, tokenizers, texts)
def test_a_trace_is_what_the_reference_computes(
    config: ModelConfig, tokenizer: Tokenizer, text: str
) -> None:
    classifier = make_classifier(config, tokenizer)
    read, expected = expected_traces(classifier, text)
    if not read:
        with pytest.raises(DataError, match="the model reads none of the text's words"):
            trace_layers(classifier, text)
        return
    traces = trace_layers(classifier, text)
    places = [(i, way) for i in range(config.layers) for way in ("forward", "backward")]
    assert [(trace.layer, trace.direction) for trace in traces] == (
        places if config.bidirectional else places[::2]
    )
    for trace, wanted in zip(traces, expected, strict=True):
        assert (trace.cell, trace.tokens) == (config.cell, read)
        assert trace.reset == (config.reset if config.cell == "gru" else None)
        assert list(trace.gates) == ([] if config.cell == "rnn" else list(ops.GATES[config.cell]))
        for name, values in trace.gates.items():
            near(values, wanted[name])
        near(trace.states, wanted["states"])
        near(trace.states_before, wanted["before"])
        if trace.cells is None:
            assert config.cell != "lstm"
            assert trace.cells_before is None
        else:
            near(trace.cells, wanted["cells"])
            near(trace.cells_before, wanted["cells before"])


def lecture_state(terms: dict[str, Any]) -> float:
    """The equations of docs/equations.md with these numbers."""

    def sigmoid(x: float) -> float:
        return 1.0 / (1.0 + math.exp(-x))

    def total(gate: dict[str, Any]) -> float:
        return float(
            gate["input"] + gate["recurrent"] + gate["bias"] + (gate["recurrent_bias"] or 0.0)
        )

    gates = {gate["name"]: gate for gate in terms["gates"]}
    if terms["cell"] == "rnn":
        return math.tanh(total(gates["state"]))
    if terms["cell"] == "gru":
        z, r = sigmoid(total(gates["update"])), sigmoid(total(gates["reset"]))
        c = gates["candidate"]
        if terms["reset"] == "after":
            past = c["recurrent"] + c["recurrent_bias"]
            candidate = math.tanh(c["input"] + c["bias"] + r * past)
        else:
            assert c["recurrent_bias"] is None
            candidate = math.tanh(total(c))
        for gate, value in (("update", z), ("reset", r), ("candidate", candidate)):
            assert gates[gate]["value"] == pytest.approx(value, abs=1e-12)
        return float((1 - z) * terms["previous"] + z * candidate)
    i, f, o = (sigmoid(total(gates[name])) for name in ("input", "forget", "output"))
    g = math.tanh(total(gates["candidate"]))
    cell = f * terms["cell_before"] + i * g
    assert terms["cell_after"] == pytest.approx(cell, abs=1e-12)
    return o * math.tanh(cell)


@settings(max_examples=60)
@given(configs, texts, st.data())
def test_the_equations_with_these_numbers_give_the_state(
    config: ModelConfig, text: str, data: st.DataObject
) -> None:
    classifier = make_classifier(config)
    traces = trace_layers(classifier, text)
    _, expected = expected_traces(classifier, text)
    at = data.draw(st.integers(0, len(traces) - 1))
    trace = traces[at]
    step = data.draw(st.integers(0, len(trace.tokens) - 1))
    unit = data.draw(st.integers(0, config.hidden_size - 1))
    where: dict[str, Any] = {
        "layer": trace.layer, "direction": trace.direction, "step": step, "unit": unit,
    }  # fmt: skip
    terms = json.loads(json.dumps(cell_terms(classifier, text, **where).to_json()))
    assert {name: terms[name] for name in where} == where
    assert terms["token"] == trace.tokens[step]
    assert terms["state"] == pytest.approx(lecture_state(terms), abs=1e-12)
    assert terms["state"] == pytest.approx(float(trace.states[step, unit]), abs=2e-6)
    near(terms["previous"], expected[at]["before"][step, unit])
    for gate in terms["gates"]:
        values = expected[at]["states" if gate["name"] == "state" else gate["name"]]
        near(gate["value"], values[step, unit])
    if config.cell == "lstm":
        near(terms["cell_before"], expected[at]["cells before"][step, unit])
    else:
        assert "cell_before" not in terms


def test_what_is_padded_begins_where_the_padding_ended() -> None:
    """The lecture's model reads padding first: the first word does not begin with zeros."""
    classifier = make_classifier(replace(SMALL, cell="lstm"))
    (trace,) = trace_layers(classifier, "a film")
    padding = np.zeros(3, np.int32)
    _, _, tape = ops.recurrent_forward(
        "lstm",
        ops.pack(
            TokenizedTexts.from_rows([padding]), [0], max_length=6, masked=True, vocabulary_size=5
        ),
        classifier.model_.parameters["embedding.weight"][:1],
        classifier.model_.recurrent_weights("recurrent"),
    )
    gates = tape.gates
    cell = np.zeros(3)
    for step in range(3):
        cell = gates["forget"][step] * cell + gates["input"][step] * gates["candidate"][step]
    assert trace.initial_cell is not None
    np.testing.assert_allclose(trace.initial_cell, cell, rtol=1e-5)
    np.testing.assert_allclose(trace.initial, gates["output"][2] * np.tanh(cell), rtol=1e-5)
    # A text that fills the length has no padding before it, nor has a masked model.
    for other in (classifier, make_classifier(replace(SMALL, cell="lstm", masked=True))):
        (full,) = trace_layers(other, "a film and a cold end")
        assert not full.initial.any()


def test_the_last_state_is_what_decides() -> None:
    classifier = make_classifier(replace(SMALL, masked=True, layers=2))
    text = "a lovely film and a cold cold end zyzzyva"
    model = classifier.model_
    assert classifier.tokenizer_.encode(text)[-1] == UNKNOWN_ID
    last = trace_layers(classifier, text)[-1].states[-1:]
    logits = last @ model.parameters["output.kernel"] + model.parameters["output.bias"]
    shares = model.probabilities(logits)
    np.testing.assert_allclose(classifier.predict_proba([text]), shares, rtol=1e-5)


def test_json_has_what_the_page_reads() -> None:
    classifier = make_classifier(replace(SMALL, cell="lstm", masked=True, bidirectional=True))
    ahead, back = trace_layers(classifier, "a lovely film")
    told = json.loads(json.dumps(back.to_json()))
    assert list(told) == [
        "layer", "direction", "cell", "reset", "tokens", "gates", "states", "cells",
    ]  # fmt: skip
    assert told["tokens"] == [START_MARK, "a", "lovely", "film"]
    assert (told["layer"], told["direction"], told["reset"]) == (0, "backward", None)
    assert list(told["gates"]) == ["input", "forget", "candidate", "output"]
    assert back.cells is not None
    for name, values in {**back.gates, "states": back.states, "cells": back.cells}.items():
        shown = told["gates"].get(name) or told[name]
        np.testing.assert_allclose(shown, values, atol=5.1e-5)
        assert all(value == round(value, 4) for row in shown for value in row)
    gru = make_classifier(SMALL)
    told = trace_layers(gru, "a film")[0].to_json()
    assert told["reset"] == "after"
    assert "cells" not in told
    assert isinstance(ahead, LayerTrace)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layer": 1}, "layer=1 is not between 0 and 0"),
        ({"direction": "backward"}, "direction='backward' is not one of forward"),
        ({"step": 3}, "step=3 is not between 0 and 2"),
        ({"step": -1}, "step=-1 is not between 0 and 2"),
        ({"step": True}, "step=True is not a whole number"),
        ({"unit": 3}, "unit=3 is not between 0 and 2"),
    ],
)
def test_terms_that_are_not_there(changed: dict[str, Any], message: str) -> None:
    where: dict[str, Any] = {"layer": 0, "direction": "forward", "step": 0, "unit": 0, **changed}
    with pytest.raises(ConfigError, match=message):
        cell_terms(make_classifier(SMALL), "a film", **where)


def test_texts_that_cannot_be_traced() -> None:
    classifier = make_classifier(SMALL)
    with pytest.raises(DataError, match="no words to trace"):
        trace_layers(classifier, " \n")
    with pytest.raises(DataError, match="not a str"):
        trace_layers(classifier, b"a film")  # type: ignore[arg-type]
    with pytest.raises(NotFittedError, match="not trained yet"):
        trace_layers(TextClassifier(), "a film")
