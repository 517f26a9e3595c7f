"""Models of several layers, both directions, every pooling: against one text at a time in float64.

The plain statement of such a model is ``plain_logits`` below: nothing in it is packed, sorted or
shared between texts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import ops, reference, sequence
from tidegate import reference_sequence as plain
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.layers import Gradients, RowGradients
from tidegate.model import ModelConfig, TextModel
from tidegate.noise import SILENT, Dropout, Noise
from tidegate.text import UNKNOWN_ID

Float64 = npt.NDArray[np.float64]

SMALL = ModelConfig(
    vocabulary_size=11, embedding_size=5, hidden_size=7, max_length=6, masked=True, classes=3
)

configs = st.builds(
    lambda cell, masked, poolings, **changed: replace(
        SMALL,
        cell=cell[0],
        reset=cell[1],
        masked=masked,
        pooling="+".join(p for p in poolings if masked or p != "attention") or "max",
        **changed,
    ),
    cell=st.sampled_from(
        [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]
    ),
    masked=st.booleans(),
    poolings=st.lists(
        st.sampled_from(["last", "max", "mean", "attention"]), min_size=1, max_size=4, unique=True
    ),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    layer_norm=st.booleans(),
)


def make_model(config: ModelConfig, seed: int = 0) -> TextModel:
    """A model without a weight that is 0 or 1."""
    model = TextModel.initialize(config, seed)
    generator = np.random.default_rng(seed)
    for value in model.parameters.values():
        value += (0.2 * generator.standard_normal(value.shape)).astype(np.float32)
    return model


def make_texts(lengths: list[int], seed: int = 0) -> TokenizedTexts:
    generator = np.random.default_rng(seed)
    return TokenizedTexts.from_rows([generator.integers(1, 11, n) for n in lengths])


def plain_states(config: ModelConfig, p: dict[str, Float64], name: str, x: Float64) -> Float64:
    """[T, H] the state after each step of one text, whose inputs are x [T, I]."""
    batch = reference.pack(
        TokenizedTexts.from_rows([list(range(len(x)))]), [0], max_length=99, masked=True
    )
    weights = reference.RecurrentWeights(
        p[f"{name}.kernel"],
        p[f"{name}.recurrent_kernel"],
        p[f"{name}.bias"],
        p.get(f"{name}.recurrent_bias"),
    )
    return reference.recurrent_forward(config.kind, batch, x, weights, dense=True)[0]


def plain_logits(config: ModelConfig, p: dict[str, Float64], ids: list[int]) -> Float64:
    ids = ids[-config.max_length :]
    if not config.masked:
        ids = [0] * (config.max_length - len(ids)) + ids
    states = p["embedding.weight"][np.array(ids, np.int64)]
    last = np.zeros(config.state_size)
    for layer, names in enumerate(config.recurrent_names if ids else ()):
        if layer and config.layer_norm:
            norm = f"{names[0]}_norm"
            states = plain.layer_norm(
                states, p[f"{norm}.gain"], p[f"{norm}.bias"], sequence.NORM_EPSILON
            )
        ahead = plain_states(config, p, names[0], states)
        both = [ahead]
        ends = [ahead[-1:]]
        if config.bidirectional:
            back = plain_states(config, p, names[1], states[::-1])
            both.append(back[::-1])
            ends.append(back[-1:])
        states = np.concatenate(both, axis=1)
        last = np.concatenate(ends, axis=1)[0]
    pools = []
    for kind in config.poolings:
        if not ids:
            pools.append(np.zeros(config.state_size))
        elif kind == "last":
            pools.append(last)
        elif kind == "attention":
            shares = np.exp(states @ p["attention.query"])
            pools.append(shares / shares.sum() @ states)
        else:
            pools.append(states.max(axis=0) if kind == "max" else states.mean(axis=0))
    pooled = np.concatenate(pools)[None]
    if config.layer_norm:
        pooled = plain.layer_norm(
            pooled, p["output_norm.gain"], p["output_norm.bias"], sequence.NORM_EPSILON
        )
    result: Float64 = (pooled @ p["output.kernel"] + p["output.bias"])[0]
    return result


def wide(model: TextModel) -> dict[str, Float64]:
    return {name: value.astype(np.float64) for name, value in model.parameters.items()}


@given(configs, st.lists(st.integers(0, 8), min_size=1, max_size=6))
def test_a_model_is_what_it_does_to_one_text_at_a_time(
    config: ModelConfig, lengths: list[int]
) -> None:
    model, texts = make_model(config), make_texts(lengths)
    logits = model.predict_logits(texts)
    p = wide(model)
    for row in range(len(texts)):
        expected = plain_logits(config, p, texts.row(row).tolist())
        # Layer norm of a text's nearly equal numbers makes small differences large.
        np.testing.assert_allclose(logits[row], expected, rtol=2e-4, atol=1e-4)


def test_every_instruction_set(isa: str) -> None:
    config = replace(SMALL, layers=2, bidirectional=True, pooling="last+max+mean+attention")
    model, texts = make_model(config), make_texts([6, 0, 3, 8, 1, 5])
    p = wide(model)
    expected = [plain_logits(config, p, texts.row(row).tolist()) for row in range(6)]
    np.testing.assert_allclose(model.predict_logits(texts), expected, rtol=1e-5, atol=2e-6)


@given(configs)
def test_gradients_by_finite_differences(config: ModelConfig) -> None:
    """Of the float64 statement, along a random direction of each parameter."""
    model, texts = make_model(config), make_texts([6, 0, 3, 8])
    rows = np.arange(len(texts))
    batch = model.pack(texts, rows)
    generator = np.random.default_rng(1)
    weigh = generator.standard_normal((len(texts), 3))
    _logits, backward = model(batch)
    gradients: Gradients = {}
    backward(np.ascontiguousarray(weigh[batch.rows], np.float32), gradients)
    p = wide(model)

    def total() -> float:
        found = [plain_logits(config, p, texts.row(row).tolist()) for row in range(len(texts))]
        return float((np.array(found) * weigh).sum())

    assert set(gradients) == set(p)
    for name, value in p.items():
        gradient = gradients[name]
        if isinstance(gradient, RowGradients):
            dense = np.zeros(value.shape)
            dense[gradient.rows] = gradient.values
        else:
            dense = gradient.astype(np.float64)
        direction = generator.standard_normal(value.shape)
        step = 1e-6
        value += step * direction
        above = total()
        value -= 2 * step * direction
        slope = (above - total()) / (2 * step)
        value += step * direction
        along = float((dense * direction).sum())
        size = float(np.sqrt((dense**2).sum() * (direction**2).sum()))
        assert abs(slope - along) <= 1e-3 * size + 1e-4, name


def test_each_parameter_stands_for_itself_in_the_file(tmp_path: Any) -> None:
    config = replace(SMALL, layers=2, bidirectional=True, layer_norm=True, pooling="max+attention")
    assert list(config.parameter_shapes()) == [
        "embedding.weight",
        *(
            f"{layer}.{part}"
            for layer in ("recurrent", "recurrent_reverse")
            for part in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
        ),
        *(
            f"{layer}.{part}"
            for layer in ("recurrent2", "recurrent2_reverse")
            for part in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
        ),
        "recurrent2_norm.gain",
        "recurrent2_norm.bias",
        "attention.query",
        "output_norm.gain",
        "output_norm.bias",
        "output.kernel",
        "output.bias",
    ]
    assert config.parameter_shapes()["recurrent2.kernel"] == (14, 21)
    assert config.parameter_shapes()["output.kernel"] == (28, 3)


def test_a_plain_model_says_no_more_than_it_ever_did() -> None:
    fields = SMALL.to_json()
    assert set(fields) == {
        "cell",
        "reset",
        "vocabulary_size",
        "embedding_size",
        "hidden_size",
        "classes",
        "max_length",
        "masked",
    }
    deep = replace(SMALL, layers=2, pooling="mean")
    assert deep.to_json() == {**fields, "layers": 2, "pooling": "mean"}
    for config in (SMALL, deep):
        assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": 0}, "layers=0 is not between 1 and 64"),
        ({"bidirectional": 1}, "bidirectional=1 is neither True nor False"),
        ({"pooling": "lsat"}, "pooling='lsat' .*last"),
        ({"pooling": "max+max"}, "names one kind twice"),
        ({"pooling": ""}, "pooling=''"),
        ({"pooling": None}, "pooling=None"),
        ({"pooling": "attention", "masked": False}, "needs masked=True"),
        ({"layer_norm": "yes"}, "layer_norm='yes' is neither"),
    ],
)
def test_a_bad_shape_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **changed)


# --- dropout


@pytest.mark.parametrize("name", list(Dropout.__dataclass_fields__))
def test_gradients_are_those_of_what_was_left_in(name: str) -> None:
    """Finite differences of the float32 model itself, with the same noise on both sides."""
    config = replace(SMALL, layers=2, bidirectional=True, pooling="last+mean")
    model, texts = make_model(config), make_texts([6, 0, 3, 8, 5, 5])
    noise = Noise(Dropout(**{name: 0.5}), 3, "epoch 1 step 1")
    generator = np.random.default_rng(1)
    weigh = generator.standard_normal((6, 3)).astype(np.float32)
    batch = model.pack(texts, np.arange(6), noise)
    logits, backward = model(batch, noise)
    silent = model(model.pack(texts, np.arange(6)))[0]
    assert not np.allclose(logits, silent, atol=1e-3)
    gradients: Gradients = {}
    backward(weigh.copy(), gradients)

    def total() -> float:
        return float((model(batch, noise)[0].astype(np.float64) * weigh).sum())

    for parameter, value in model.parameters.items():
        gradient = gradients[parameter]
        dense = np.zeros(value.shape)
        if isinstance(gradient, RowGradients):
            dense[gradient.rows] = gradient.values
        else:
            dense[...] = gradient
        direction = np.sign(dense) + 0.5 * generator.standard_normal(value.shape)
        step = np.float32(1e-3)
        kept = value.copy()
        value += (step * direction).astype(np.float32)
        above = total()
        value[...] = kept - (step * direction).astype(np.float32)
        slope = (above - total()) / (2e-3)
        value[...] = kept
        along = float((dense * direction).sum())
        assert slope == pytest.approx(along, rel=0.02, abs=0.02), parameter


def test_noise_is_fixed_by_seed_step_and_name() -> None:
    def mask(seed: int, step: str, name: str) -> npt.NDArray[np.float32]:
        drawn = Noise(Dropout(), seed, step).mask(name, (40, 50), 0.25)
        assert drawn is not None
        return drawn

    first = mask(0, "1", "a")
    np.testing.assert_array_equal(first, mask(0, "1", "a"))
    for other in (mask(1, "1", "a"), mask(0, "2", "a"), mask(0, "1", "b")):
        assert (first != other).any()
    values, counts = np.unique(first, return_counts=True)
    assert values.tolist() == [0.0, np.float32(4 / 3)]
    assert 0.22 < counts[0] / 2000 < 0.28
    assert SILENT.mask("a", (3,), 0.0) is None


def test_dropped_words_are_unknown_ones() -> None:
    model, texts = make_model(SMALL), make_texts([6] * 50)
    noise = Noise(Dropout(words=0.25), 0, "1")
    batch = model.pack(texts, np.arange(50), noise)
    share = float((batch.words[batch.index] == UNKNOWN_ID).mean())
    plain_share = float((texts.token_ids == UNKNOWN_ID).mean())
    assert 0.15 < share - plain_share < 0.33
    kept = batch.words[batch.index] != UNKNOWN_ID
    whole = model.pack(texts, np.arange(50))
    np.testing.assert_array_equal(batch.words[batch.index][kept], whole.words[whole.index][kept])


def test_the_same_numbers_of_a_text_are_dropped_at_all_its_steps() -> None:
    """A text that says one word again and again reads the same vector again and again."""
    model = make_model(replace(SMALL, pooling="max"))
    texts = TokenizedTexts.from_rows([[5, 5, 5, 5]])
    noise = Noise(Dropout(embedding=0.5), 0, "1")
    inputs, _ = model._chain.layers[0](model.pack(texts, [0]), noise)
    assert inputs.dense
    assert (inputs.values == inputs.values[0]).all()
    vector = model.parameters["embedding.weight"][5]
    assert set(np.unique(inputs.values[0] / vector).round(3).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.5", True])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    with pytest.raises(ConfigError, match="dropout: embedding="):
        Dropout(embedding=rate)


def test_a_layer_that_kept_no_outputs_says_so() -> None:
    model = make_model(SMALL)
    inputs, _ = model._chain.layers[0](model.pack(make_texts([3]), [0]), SILENT)
    states, _ = model._chain.layers[1](inputs, SILENT)
    with pytest.raises(ShapeError, match="all_outputs=True"):
        states.all()


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("precision", ops.PRECISIONS)
def test_the_same_bits_on_any_number_of_threads(precision: ops.Precision) -> None:
    config = replace(
        SMALL, layers=2, bidirectional=True, hidden_size=40, pooling="last+max+mean+attention"
    )
    texts = make_texts(list(range(8)) * 5)
    noise = Noise(Dropout(0.1, 0.1, 0.2, 0.2, 0.1, 0.3), 0, "1")
    found = []
    for threads in (1, 3):
        ops.set_threads(threads)
        first = make_model(config)
        model = TextModel(config, dict(first.parameters), precision)
        logits, backward = model(model.pack(texts, np.arange(40), noise), noise)
        gradients: Gradients = {}
        backward(np.ones_like(logits), gradients)
        found.append((logits, gradients))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        other = found[1][1][name]
        if isinstance(gradient, RowGradients):
            assert isinstance(other, RowGradients)
            gradient, other = gradient.values, other.values
        np.testing.assert_array_equal(gradient, other, err_msg=name)
