"""The gradient of the loss with respect to each state: finite differences, kernels, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier, ops, reference
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.compare.forgetting import (
    fading,
    longest_rows,
    shown_distances,
    state_gradient_norms,
)
from tidegate.fitting import untrained_model
from tidegate.model import ModelConfig, TextModel

STEPS, INPUTS, HIDDEN, VOCABULARY = 7, 3, 5, 11


def texts_of(*rows: list[int]) -> TokenizedTexts:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return TokenizedTexts(np.array([i for row in rows for i in row], np.int32), offsets)


def weights_of(kind: reference.Kind, seed: int = 0) -> reference.RecurrentWeights:
    draw = np.random.default_rng(seed).normal
    gates = len(reference.gates_of(kind)) * HIDDEN
    after = kind == "gru_after"
    return reference.RecurrentWeights(
        draw(0, 0.5, (INPUTS, gates)).astype(np.float32),
        draw(0, 0.5, (HIDDEN, gates)).astype(np.float32),
        draw(0, 0.5, gates).astype(np.float32),
        draw(0, 0.5, gates).astype(np.float32) if after else None,
    )


@pytest.mark.parametrize("kind", reference.KINDS)
def test_states_have_the_gradient_that_the_kernels_give_to_initial_ones(
    kind: reference.Kind,
) -> None:
    """The rest of a text from each state on is a text of its own that begins with that state."""
    words = list(range(4, 4 + STEPS))
    table = np.random.default_rng(1).normal(size=(VOCABULARY, INPUTS)).astype(np.float32)
    weights, towards = weights_of(kind), np.random.default_rng(2).normal(size=(1, HIDDEN))

    def packed(row: list[int]) -> tuple[PackedBatch, np.ndarray]:
        settings = {"max_length": STEPS, "masked": True, "vocabulary_size": VOCABULARY}
        batch = ops.pack(texts_of(row), [0], **settings)  # type: ignore[arg-type]
        return batch, table[batch.words]

    batch, inputs = packed(words)
    outputs, _, tape = reference.recurrent_forward(kind, batch, inputs, weights)
    states = np.empty((STEPS, HIDDEN))
    reference.recurrent_backward(kind, tape, towards, None, states)
    np.testing.assert_array_equal(states[-1:], towards)
    for step in range(STEPS - 1):
        rest, rest_inputs = packed(words[step + 1 :])
        hidden = outputs[step : step + 1]
        cell = tape.cell_before[step + 1 : step + 2]
        _, _, kernel_tape = ops.recurrent_forward(
            kind,
            rest,
            rest_inputs,
            weights,
            initial=hidden.astype(np.float32),
            initial_cell=cell.astype(np.float32) if kind == "lstm" else None,
        )
        found = ops.recurrent_backward(kernel_tape, towards.astype(np.float32))
        assert found.initial is not None
        np.testing.assert_allclose(found.initial[0], states[step], rtol=2e-4, atol=2e-6)

        def loss(moved: np.ndarray) -> float:
            last = reference.recurrent_forward(
                kind,
                rest,  # noqa: B023 (called at once)
                rest_inputs,  # noqa: B023
                weights,
                initial=moved,
                initial_cell=cell if kind == "lstm" else None,  # noqa: B023
            )[1]
            return float((last * towards).sum())

        tiny = 1e-6
        for unit in range(HIDDEN):
            shift = np.zeros((1, HIDDEN))
            shift[0, unit] = tiny
            slope = (loss(hidden + shift) - loss(hidden - shift)) / (2 * tiny)
            assert states[step, unit] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def model_of(**changed: object) -> TextModel:
    settings = {"vocabulary_size": VOCABULARY, "embedding_size": INPUTS, "hidden_size": HIDDEN}
    settings |= {"max_length": 9, "masked": True}
    model = TextModel.initialize(ModelConfig(**(settings | changed)), 0)  # type: ignore[arg-type]
    # Initial vectors are so small that states would hardly differ.
    model.parameters["embedding.weight"][...] *= 20
    return model


TEXTS = texts_of([4, 5, 6, 7, 8, 9, 10], [5, 5], [], [9, 8, 7, 6])
TARGETS = np.array([1, 0, 1, 0], np.int32)

SHAPES: list[dict[str, object]] = [
    {"cell": "gru"},
    {"cell": "lstm", "masked": False},
    {"cell": "rnn", "classes": 3},
    {"cell": "gru", "reset": "before", "layers": 2, "layer_norm": True},
    {"cell": "lstm", "bidirectional": True, "pooling": "last+max+mean+attention"},
    {"cell": "rnn", "bidirectional": True, "masked": False, "layers": 2},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_text_has_its_own_gradient(shape: dict[str, object]) -> None:
    """Not that of a batch: the same alone and among others, in whatever order."""
    model = model_of(**shape)
    together = state_gradient_norms(model, TEXTS, TARGETS)
    kept = [0, 1, 3] if len(together) == 3 else [0, 1, 2, 3]
    for place, row in enumerate(kept):
        alone = state_gradient_norms(model, TEXTS.select(np.array([row])), TARGETS[[row]])
        length = int(np.count_nonzero(~np.isnan(alone[0])))
        assert length == (9 if model.config.reads_padding else max(1, TEXTS.lengths[row]))
        np.testing.assert_allclose(together[place, :length], alone[0, :length], rtol=1e-4)
        assert np.isnan(together[place, length:]).all()


def test_the_last_state_has_the_output_layers_gradient() -> None:
    model = model_of(cell="gru")
    probability = reference.sigmoid(model.predict_logits(TEXTS).astype(np.float64)[:, 0])
    expected = np.abs(probability - TARGETS) * np.linalg.norm(model.parameters["output.kernel"])
    # A text without a word has no step that could have a gradient.
    found = state_gradient_norms(model, TEXTS, TARGETS)
    np.testing.assert_allclose(found[:, 0], expected[[0, 1, 3]], rtol=1e-5)


def test_of_pooled_states_each_has_a_gradient_of_its_own() -> None:
    """The mean's is the same at each step, beside what comes back from later ones."""
    model = model_of(cell="rnn", pooling="mean")
    kernel = model.recurrent_weights("recurrent").recurrent_kernel
    kernel[...] = 0.0  # nothing comes back
    found = state_gradient_norms(model, TEXTS.select(np.array([0])), TARGETS[:1])
    np.testing.assert_allclose(found, np.full((1, 7), found[0, 0]), rtol=1e-6)


def test_a_gradient_is_followed_below_the_smallest_float32() -> None:
    model = model_of(cell="gru", max_length=200)
    for name in ("recurrent_kernel", "bias", "recurrent_bias"):
        model.parameters[f"recurrent.{name}"][...] = 0.0
    model.parameters["embedding.weight"][...] = 0.0  # update gates at one half
    found = fading(model, texts_of([5] * 200, [6] * 190), TARGETS[:2])
    assert found.texts == 2
    assert found.distances[-1] == 199
    np.testing.assert_allclose(found.median, [0.5**d for d in found.distances], rtol=1e-6)
    assert 0 < found.mean_norm[-1] < 1e-50
    assert found.low == pytest.approx(found.high)


def test_the_longest_texts_and_some_distances() -> None:
    assert longest_rows(np.array([3, 9, 9, 1]), 3).tolist() == [1, 2, 0]
    assert shown_distances(4) == [0, 1, 2, 3]
    assert shown_distances(0) == []
    many = shown_distances(400)
    assert many[:11] == list(range(11))
    assert many[-1] == 399
    assert len(many) < 60


@pytest.mark.parametrize("begun", ["at random", "with vectors", "with contexts"])
@pytest.mark.parametrize("separate", [False, True])
def test_before_training_is_where_training_began(
    begun: str, separate: bool, tmp_path: Path
) -> None:
    """A training of steps that are too small to change a number stays there."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice([f"w{i}" for i in range(20)], 9)) for _ in range(60)]
    labels = ["good", "bad"] * 30
    options: dict[str, Any] = {"hidden_size": 5, "embedding_size": 3, "max_length": 8, "epochs": 1}
    options |= {"learning_rate": 1e-30, "clip_norm": 1.0, "random_state": 7, "batch_size": 8}
    if begun == "with vectors":
        (tmp_path / "vectors").write_text("w3 1 2 3\nw7 -3 2 1\n", encoding="utf-8")
        options["vectors"] = tmp_path / "vectors"
    options["context_vectors"] = begun == "with contexts"
    held = (texts[:9], labels[:9]) if separate else None
    fitted = TextClassifier(**options).fit(texts, labels, validation=held)
    learnt, rest = fitted.split(len(texts))
    rows = np.concatenate([learnt, rest]) if separate else learnt
    found = untrained_model(fitted, texts, rows).parameters
    for name, value in fitted.model_.parameters.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-25, err_msg=name)
    plain = TextModel.initialize(fitted.model_.config, 7, fitted.model_.precision).parameters
    same = np.array_equal(plain["embedding.weight"], found["embedding.weight"])
    assert same == (begun == "at random")
