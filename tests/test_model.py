"""Layers, the model and its initial weights."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidegate import initializers, ops, reference
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.layers import Gradients, RowGradients
from tidegate.model import ModelConfig, TextModel
from tidegate.reference import RecurrentWeights

Float32 = npt.NDArray[np.float32]
Parameters = dict[str, npt.NDArray[np.float64]]

CELLS = [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]
# All sizes different: a swapped axis must fail.
SMALL = ModelConfig(vocabulary_size=11, embedding_size=5, hidden_size=7, max_length=6)


def small(cell: str = "gru", reset: str = "after", **changed: Any) -> ModelConfig:
    return replace(SMALL, cell=cell, reset=reset, **changed)


def make_texts(count: int, seed: int = 0, vocabulary: int = 11) -> TokenizedTexts:
    generator = np.random.default_rng(seed)
    return TokenizedTexts.from_rows(
        [generator.integers(1, vocabulary, length) for length in generator.integers(0, 9, count)]
    )


RAW = [1622128297929187284, 11233861740078702729, 5784881433957316751]
PERMUTATION = [6, 0, 8, 5, 2, 3, 4, 1, 7, 9]
UNIFORM = [
    [-0.04794319346547127, -0.04220166802406311],
    [-0.041551366448402405, -0.03454217687249184],
]
FIRST_VALUES = {
    "embedding.weight": [-0.021165868, -0.014194138, -0.046004873],
    "recurrent.kernel": [0.23297605, 0.43193057, 0.19399251],
    "recurrent.recurrent_kernel": [0.03675975, 0.4312473, 0.3498745],
    "output.kernel": [0.46624002, 0.7073383, 0.829189],
}


# --- initial weights ---------------------------------------------------------------------------


def test_random_numbers_never_change() -> None:
    """Philox's raw output, which NumPy promises to keep; a change would change every model."""
    assert initializers.random_raw(0, "split", 3).tolist() == RAW
    assert initializers.permutation(0, "split", 10).tolist() == PERMUTATION
    assert initializers.uniform(0, "x", (2, 2), 0.05).tolist() == UNIFORM


def test_streams_and_seeds_are_independent() -> None:
    first = initializers.random_raw(3, "a", 1_000)
    initializers.random_raw(3, "b", 17)  # draws nothing away
    np.testing.assert_array_equal(initializers.random_raw(3, "a", 1_000), first)
    np.testing.assert_array_equal(initializers.random_raw(3, "a", 10), first[:10])
    for other in (initializers.random_raw(4, "a", 1_000), initializers.random_raw(3, "b", 1_000)):
        assert not np.intersect1d(first, other).size
    # "1:0 x" must not be the stream " x" of seed "1:0"
    assert initializers.random_raw(1, "1:x", 1)[0] != initializers.random_raw(11, ":x", 1)[0]


def test_a_permutation_has_every_number_once() -> None:
    order = initializers.permutation(5, "shuffle", 1_000)
    assert sorted(order.tolist()) == list(range(1_000))
    assert np.abs(np.corrcoef(order, np.arange(1_000))[0, 1]) < 0.1
    assert initializers.permutation(5, "shuffle", 0).tolist() == []
    assert initializers.permutation(5, "shuffle", 1).tolist() == [0]


@pytest.mark.parametrize("limit", [0.05, 2.0])
def test_uniform_fills_its_limits(limit: float) -> None:
    values = initializers.uniform(1, "u", (200, 300), limit)
    assert values.dtype == np.float32
    assert values.min() >= -np.float32(limit)
    assert values.max() <= np.float32(limit)
    assert values.max() - values.min() > 1.999 * limit
    assert values.mean() == pytest.approx(0, abs=0.02 * limit)
    assert values.var() == pytest.approx(limit**2 / 3, rel=0.02)


def test_glorot_uniform_has_its_variance() -> None:
    values = initializers.glorot_uniform(1, "g", (100, 300))
    assert np.abs(values).max() <= np.float32(np.sqrt(6 / 400))
    assert np.abs(values).max() > 0.999 * np.sqrt(6 / 400)
    assert values.var() == pytest.approx(2 / 400, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 21), (64, 256), (20, 6), (3, 1)])
def test_orthogonal_is_orthonormal(shape: tuple[int, int]) -> None:
    values = initializers.orthogonal(2, "o", shape).astype(np.float64)
    assert values.shape == shape
    product = values @ values.T if shape[0] <= shape[1] else values.T @ values
    np.testing.assert_allclose(product, np.eye(min(shape)), rtol=0, atol=1e-6)


def test_orthogonal_matrices_are_spread_evenly() -> None:
    """As normal matrices' are: no element is larger than others over many seeds."""
    draws = np.array([initializers.orthogonal(seed, "o", (3, 4)) for seed in range(600)])
    np.testing.assert_allclose((draws**2).mean(axis=0), 1 / 4, atol=0.04)
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.08)


def test_the_model_s_initial_weights_are_keras_s() -> None:
    config = ModelConfig(vocabulary_size=500, embedding_size=40, hidden_size=64, classes=5)
    for cell, reset in CELLS:
        parameters = TextModel.initialize(replace(config, cell=cell, reset=reset), 0).parameters
        gates = len(ops.GATES[cell])
        limits = {
            "embedding.weight": 0.05,
            "recurrent.kernel": np.sqrt(6 / (40 + gates * 64)),
            "output.kernel": np.sqrt(6 / (64 + 5)),
        }
        for name, limit in limits.items():
            values = parameters[name]
            assert 0.97 * limit < np.abs(values).max() <= np.float32(limit), name
            assert values.var() == pytest.approx(limit**2 / 3, rel=0.15), name
        recurrent = parameters["recurrent.recurrent_kernel"].astype(np.float64)
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(64), rtol=0, atol=1e-6)
        bias = np.zeros(gates * 64)
        if cell == "lstm":
            bias[64:128] = 1  # the forget gate
        np.testing.assert_array_equal(parameters["recurrent.bias"], bias)
        np.testing.assert_array_equal(parameters["output.bias"], np.zeros(5))
        assert ("recurrent.recurrent_bias" in parameters) == (cell == "gru" and reset == "after")
        if "recurrent.recurrent_bias" in parameters:
            np.testing.assert_array_equal(parameters["recurrent.recurrent_bias"], np.zeros(192))


def test_initial_weights_of_seed_0_never_change() -> None:
    parameters = TextModel.initialize(small(), 0).parameters
    for name, values in FIRST_VALUES.items():
        flat = parameters[name].reshape(-1)
        # The orthogonal matrix goes through log and cos, whose last digit is the library's.
        np.testing.assert_allclose(flat[:3], values, rtol=1e-6, err_msg=name)


def test_parameters_are_drawn_independently_of_each_other() -> None:
    """Another hidden size leaves the embedding as it is, and names have their own numbers."""
    first = TextModel.initialize(small(), 0).parameters
    larger = TextModel.initialize(small(hidden_size=8), 0).parameters
    np.testing.assert_array_equal(first["embedding.weight"], larger["embedding.weight"])
    other = TextModel.initialize(small(), 1).parameters
    assert (first["embedding.weight"] != other["embedding.weight"]).all()
    assert (first["recurrent.recurrent_kernel"] != other["recurrent.recurrent_kernel"]).all()


# --- the config --------------------------------------------------------------------------------


def test_parameter_shapes() -> None:
    shapes = {
        "embedding.weight": (11, 5),
        "recurrent.kernel": (5, 21),
        "recurrent.recurrent_kernel": (7, 21),
        "recurrent.bias": (21,),
        "recurrent.recurrent_bias": (21,),
        "output.kernel": (7, 1),
        "output.bias": (1,),
    }
    assert small().parameter_shapes() == shapes
    del shapes["recurrent.recurrent_bias"]
    assert small(reset="before").parameter_shapes() == shapes
    shapes.update({"output.kernel": (7, 3), "output.bias": (3,)})
    assert small(reset="before", classes=3).parameter_shapes() == shapes
    for cell, gates in (("lstm", 4), ("rnn", 1)):
        found = small(cell, classes=3).parameter_shapes()
        assert found["recurrent.kernel"] == (5, gates * 7)
        assert found["recurrent.recurrent_kernel"] == (7, gates * 7)
        assert found["recurrent.bias"] == (gates * 7,)
        assert "recurrent.recurrent_bias" not in found


def test_kinds() -> None:
    kinds = [small(cell, reset).kind for cell, reset in CELLS]
    assert kinds == ["gru_after", "gru_before", "lstm", "rnn"]
    assert small("lstm", "before").kind == "lstm"


def test_a_config_s_json_comes_back() -> None:
    config = small("lstm", classes=4, masked=True)
    assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="missing or unknown fields: depth"):
        ModelConfig.from_json({**config.to_json(), "depth": 2})
    fields = config.to_json()
    del fields["cell"]
    with pytest.raises(ConfigError, match="missing or unknown fields: cell"):
        ModelConfig.from_json(fields)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cell": "gruu"}, "cell='gruu' is not one of gru, lstm, rnn; did you mean 'gru'"),
        ({"cell": None}, "cell=None is not one of gru, lstm, rnn"),
        ({"reset": "befor"}, "reset='befor' is not one of after, before; did you mean 'before'"),
        ({"masked": 1}, "masked=1 is neither True nor False"),
        ({"vocabulary_size": 4}, "vocabulary_size=4 is not between 5 and 10,000,000"),
        ({"embedding_size": 0}, "embedding_size=0 is not between 1 and 8,192"),
        ({"hidden_size": -1}, "hidden_size=-1 is not between 1 and 8,192"),
        ({"hidden_size": 8_193}, "hidden_size=8193 is not between"),
        ({"hidden_size": 2.0}, r"hidden_size=2\.0 is not a whole number"),
        ({"hidden_size": True}, "hidden_size=True is not a whole number"),
        ({"classes": 1}, "classes=1 is not between 2 and 100,000"),
        ({"max_length": 0}, "max_length=0 is not between 1 and 100,000"),
        ({"max_length": "9"}, "max_length='9' is not a whole number"),
    ],
)
def test_configs_that_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**changed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output.bias", None, "the parameters do not fit the config: output.bias"),
        ("other", np.zeros(1, np.float32), "the parameters do not fit the config: other"),
        ("output.bias", np.zeros(1), r"output.bias is float64 \[1\]; the config needs float32 \["),
        (
            "recurrent.kernel",
            np.zeros((21, 5), np.float32),
            r"recurrent.kernel is float32 \[21, 5\]; the config needs float32 \[5, 21\]",
        ),
    ],
)
def test_parameters_that_do_not_fit(name: str, value: Any, message: str) -> None:
    parameters: dict[str, Any] = dict(TextModel.initialize(small(), 0).parameters)
    if value is None:
        del parameters[name]
    else:
        parameters[name] = value
    with pytest.raises(ShapeError, match=message):
        TextModel(small(), parameters)


# --- the whole chain ---------------------------------------------------------------------------


def reference_loss(
    model: TextModel, parameters: Parameters, texts: TokenizedTexts, targets: Any
) -> float:
    """The loss of the same weights in float64."""
    config = model.config
    batch = reference.pack(
        texts, range(len(texts)), max_length=config.max_length, masked=config.masked
    )
    weights = RecurrentWeights(
        parameters["recurrent.kernel"],
        parameters["recurrent.recurrent_kernel"],
        parameters["recurrent.bias"],
        parameters.get("recurrent.recurrent_bias"),
    )
    inputs = parameters["embedding.weight"][batch.words]
    _, last, _ = reference.recurrent_forward(config.kind, batch, inputs, weights)
    logits = reference.linear_forward(last, parameters["output.kernel"], parameters["output.bias"])
    ordered = targets[batch.rows]
    if config.classes == 2:
        return reference.logistic_loss(logits[:, 0], ordered)[0]
    return reference.softmax_loss(logits, ordered)[0]


@pytest.mark.parametrize(("cell", "reset"), CELLS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_equal_finite_differences_of_the_reference(
    isa: str, cell: str, reset: str, masked: bool, classes: int
) -> None:
    config = small(cell, reset, masked=masked, classes=classes, hidden_size=17)
    model = TextModel.initialize(config, 0)
    generator = np.random.default_rng(1)
    for values in model.parameters.values():
        values += generator.normal(0, 0.2, values.shape).astype(np.float32)
    texts, targets = make_texts(6, seed=2), generator.integers(0, classes, 6).astype(np.int32)
    batch = model.pack(texts, range(6))
    logits, backward = model(batch)
    loss, d_logits, _ = model.loss(logits, targets[batch.rows])
    gradients: Gradients = {}
    assert backward(d_logits, gradients) is None
    assert gradients.keys() == model.parameters.keys()

    wide = {name: values.astype(np.float64) for name, values in model.parameters.items()}
    assert loss == pytest.approx(reference_loss(model, wide, texts, targets), rel=1e-6)
    for name, parameter in wide.items():
        gradient = gradients[name]
        full = np.zeros(parameter.shape)
        if isinstance(gradient, RowGradients):
            assert sorted(gradient.rows.tolist()) == sorted(batch.words.tolist())
            full[gradient.rows] = gradient.values
        else:
            full[...] = gradient
        scale = np.abs(full).max()
        assert scale > 1e-4, name
        flat = parameter.reshape(-1)
        for place in generator.permutation(flat.size)[:12]:
            kept, width, found = flat[place], 1e-4, []
            for sign in (1, -1):
                flat[place] = kept + sign * width
                found.append(reference_loss(model, wide, texts, targets))
            flat[place] = kept
            slope = (found[0] - found[1]) / (2 * width)
            assert full.reshape(-1)[place] == pytest.approx(slope, rel=0, abs=1e-5 * scale), name


def test_backward_may_run_once_even_when_its_memory_serves_another_batch() -> None:
    """The second call would otherwise return the other batch's gradients."""
    model = TextModel.initialize(small(), 0)
    texts = make_texts(8)
    first, second = model.pack(texts, range(4)), model.pack(texts, range(4, 8))
    logits, backward = model(first)
    backward(np.ones_like(logits), {})
    model(second)  # uses the same memory, and is dropped
    logits_of_second, keep = model(second)
    with pytest.raises(ShapeError, match="backward has run already"):
        backward(np.ones_like(logits), {})
    keep(np.ones_like(logits_of_second), {})


def test_two_batches_in_flight_keep_their_own_memory(isa: str) -> None:
    model = TextModel.initialize(small("lstm"), 0)
    texts = make_texts(10)
    batches = [model.pack(texts, range(4)), model.pack(texts, range(4, 10))]
    alone: list[Gradients] = [{}, {}]
    for batch, gradients in zip(batches, alone, strict=True):
        logits, backward = model(batch)
        backward(np.ones_like(logits), gradients)
    flights = [model(batch) for batch in batches]
    together: list[Gradients] = [{}, {}]
    for number in (0, 1):
        logits, backward = flights[number]
        backward(np.ones_like(logits), together[number])
    for number in (0, 1):
        for name, expected in alone[number].items():
            found = together[number][name]
            if isinstance(expected, RowGradients):
                assert isinstance(found, RowGradients)
                np.testing.assert_array_equal(found.values, expected.values)
            else:
                np.testing.assert_array_equal(found, expected)


def test_changing_a_parameter_changes_the_model() -> None:
    model = TextModel.initialize(small(), 0)
    texts = make_texts(5)
    before = model.predict_logits(texts)
    model.parameters["output.bias"][0] += 2
    np.testing.assert_allclose(model.predict_logits(texts), before + 2, rtol=1e-6)


# --- prediction --------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "reset"), CELLS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_prediction_does_not_depend_on_the_others(
    isa: str, cell: str, reset: str, masked: bool, classes: int
) -> None:
    model = TextModel.initialize(small(cell, reset, masked=masked, classes=classes), 3)
    texts = make_texts(50, seed=3)
    together = model.predict_logits(texts)
    assert together.shape == (50, classes if classes > 2 else 1)
    assert len(np.unique(together[:, 0])) > 30
    for batch_size in (1, 7, 50):  # the passes that training makes
        for start in range(0, 50, batch_size):
            rows = np.arange(start, min(start + batch_size, 50))
            batch = model.pack(texts, rows)
            np.testing.assert_array_equal(model(batch)[0], together[rows[batch.rows]])
    order = np.random.default_rng(4).permutation(50)
    np.testing.assert_array_equal(model.predict_logits(texts.select(order)), together[order])
    for row in (0, 13, 49):
        np.testing.assert_array_equal(model.predict_logits(texts.select([row]))[0], together[row])


@pytest.mark.parametrize(("cell", "reset"), CELLS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_a_frozen_model_predicts_the_same_bits(
    isa: str, cell: str, reset: str, masked: bool
) -> None:
    """With few tokens, whose inputs are computed, and with many, which make it keep a table."""
    model = TextModel.initialize(
        small(cell, reset, masked=masked, hidden_size=33, vocabulary_size=500), 3
    )
    texts = make_texts(400, seed=3, vocabulary=500)
    expected = model.predict_logits(texts)
    model.freeze()
    for _ in range(3):
        for row in (0, 17, 399):
            np.testing.assert_array_equal(
                model.predict_logits(texts.select([row]))[0], expected[row]
            )
        np.testing.assert_array_equal(model.predict_logits(texts), expected)


@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_prediction(isa: str) -> None:
    model = TextModel.initialize(small(), 3)
    texts = make_texts(200, seed=3)
    ops.set_threads(1)
    expected = model.predict_logits(texts)
    for threads in (2, 3, 8):
        ops.set_threads(threads)
        np.testing.assert_array_equal(model.predict_logits(texts), expected)


@pytest.mark.parametrize(("cell", "reset"), CELLS)
@pytest.mark.usefixtures("restored_threads")
def test_threads_that_share_a_text_change_no_bit(isa: str, cell: str, reset: str) -> None:
    """Of few texts and many units, each thread computes some of the units."""
    for hidden_size, masked in ((64, True), (100, False)):
        config = small(cell, reset, hidden_size=hidden_size, masked=masked, max_length=40)
        model = TextModel.initialize(config, 3)
        model.freeze()
        generator = np.random.default_rng(5)
        texts = TokenizedTexts.from_rows([generator.integers(1, 11, n) for n in (37, 0, 11, 40)])
        ops.set_threads(1)
        expected = model.predict_logits(texts)
        for threads in (2, 3, 8):
            ops.set_threads(threads)
            np.testing.assert_array_equal(model.predict_logits(texts), expected)
            for row in range(4):
                one = model.predict_logits(texts.select([row]))
                np.testing.assert_array_equal(one[0], expected[row])
        # Callers that find the pool taken do all parts themselves.
        with ThreadPoolExecutor(4) as pool:
            for logits in pool.map(model.predict_logits, [texts.select([0])] * 40):
                np.testing.assert_array_equal(logits[0], expected[0])


def test_several_threads_share_a_frozen_model(isa: str) -> None:
    """From the first call on, while one of them makes the table."""
    texts = make_texts(300, seed=3)
    expected = TextModel.initialize(small(), 3).predict_logits(texts)
    for _ in range(5):
        model = TextModel.initialize(small(), 3)
        model.freeze()
        with ThreadPoolExecutor(4) as pool:
            for logits in pool.map(model.predict_logits, [texts] * 12):
                np.testing.assert_array_equal(logits, expected)


def test_a_frozen_model_s_parameters_can_t_be_changed() -> None:
    model = TextModel.initialize(small(), 0)
    model.freeze()
    with pytest.raises(ValueError, match="read-only"):
        model.parameters["output.bias"][0] += 2
    model.freeze()  # again is nothing


@pytest.mark.parametrize("memory", [0, 5_000, 100_000])
def test_little_memory_for_words_changes_no_prediction(isa: str, memory: int) -> None:
    """Then there is no table, and the words of some texts at a time share their products."""
    config = small(hidden_size=33, vocabulary_size=500, max_length=30)
    model = TextModel.initialize(config, 3)
    generator = np.random.default_rng(3)
    texts = TokenizedTexts.from_rows(
        [generator.integers(1, 500, n) for n in generator.integers(0, 40, 300)]
    )
    p = model.parameters
    weights = RecurrentWeights(
        p["recurrent.kernel"],
        p["recurrent.recurrent_kernel"],
        p["recurrent.bias"],
        p["recurrent.recurrent_bias"],
    )
    scorer = ops.Scorer(
        config.kind,
        p["embedding.weight"],
        weights,
        p["output.kernel"],
        p["output.bias"],
        max_length=config.max_length,
        masked=config.masked,
        memory=memory,
    )
    for _ in range(2):
        np.testing.assert_array_equal(scorer.score(texts), model.predict_logits(texts))


def test_freezing_leaves_the_caller_s_arrays_alone() -> None:
    """Nor can they, or views of the model's own taken before, change what it predicts."""
    texts = make_texts(30)
    for name in small().parameter_shapes():
        given = {k: v.copy() for k, v in TextModel.initialize(small(), 0).parameters.items()}
        base = np.stack([given[name]] * 2)
        given[name] = base[1]
        model = TextModel(small(), given)
        view = model.parameters[name][...]
        model.freeze()
        expected = model.predict_logits(texts)
        assert all(value.flags.writeable for value in given.values())
        base += 1
        view += 1
        np.testing.assert_array_equal(model.predict_logits(texts), expected)
        logits, _ = model(batch := model.pack(texts, range(30)))
        np.testing.assert_array_equal(logits, expected[batch.rows])


def test_no_array_of_a_model_can_be_replaced() -> None:
    """Saving would write another than predictions read."""
    model = TextModel.initialize(small(), 0)
    for _ in range(2):
        with pytest.raises(TypeError):
            model.parameters["output.bias"] = np.ones(1, np.float32)  # type: ignore[index]
        with pytest.raises(AttributeError):
            model.parameters = {}  # type: ignore[misc]
        model.freeze()
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    again.parameters["output.bias"][...] += 1
    assert again.parameters["output.bias"] == model.parameters["output.bias"] + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_found(value: float) -> None:
    for name in small().parameter_shapes():
        model = TextModel.initialize(small(), 0)
        model.check_finite()
        model.parameters[name].reshape(-1)[-1] = value
        with pytest.raises(ShapeError, match=f"{name} has weights that are not finite"):
            model.check_finite()


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    model = TextModel.initialize(small(), 0)
    for bad in (-1, model.config.vocabulary_size):
        texts = TokenizedTexts.from_rows([[1, 2], [bad, 3]])
        with pytest.raises(ShapeError, match=f"token id {bad} is outside the vocabulary, 0.."):
            model.predict_logits(texts)
    # What is cut off is not read.
    long = [model.config.vocabulary_size] + [3] * model.config.max_length
    assert np.isfinite(model.predict_logits(TokenizedTexts.from_rows([long]))).all()


def test_predictions_equal_the_reference(isa: str) -> None:
    for cell, reset in CELLS:
        for masked in (True, False):
            model = TextModel.initialize(small(cell, reset, masked=masked, classes=3), 3)
            texts = make_texts(9, seed=3)
            p = model.parameters
            batch = reference.pack(texts, range(9), max_length=6, masked=masked)
            weights = RecurrentWeights(
                p["recurrent.kernel"],
                p["recurrent.recurrent_kernel"],
                p["recurrent.bias"],
                p.get("recurrent.recurrent_bias"),
            )
            _, last, _ = reference.recurrent_forward(
                model.config.kind, batch, p["embedding.weight"][batch.words], weights
            )
            expected = np.empty((9, 3))
            expected[batch.rows] = reference.linear_forward(
                last, p["output.kernel"], p["output.bias"]
            )
            scale = np.abs(expected).max()
            found = model.predict_logits(texts)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def test_no_texts_have_no_logits() -> None:
    model = TextModel.initialize(small(classes=3), 0)
    logits = model.predict_logits(TokenizedTexts.from_rows([]))
    assert logits.shape == (0, 3)
    assert model.probabilities(logits).shape == (0, 3)


def test_probabilities_by_hand() -> None:
    two = TextModel.initialize(small(), 0)
    logits = np.array([[0.0], [np.log(3)], [1e4], [-1e4]], np.float32)
    np.testing.assert_allclose(
        two.probabilities(logits), [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [1.0, 0.0]], rtol=1e-6
    )
    three = TextModel.initialize(small(classes=3), 0)
    logits = np.log(np.array([[1, 2, 5], [1, 1, 1]], np.float32)) + np.float32(50)
    np.testing.assert_allclose(
        three.probabilities(logits), [[0.125, 0.25, 0.625], [1 / 3] * 3], rtol=1e-5
    )
    np.testing.assert_allclose(three.probabilities(logits).sum(axis=1), 1, rtol=1e-15)
