"""Models that the frameworks themselves wrote: they predict what they predicted there.

tests/golden/make_keras_models.py and make_torch_models.py made them and tell what they hold.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier, storage
from tidegate.errors import ConfigError, ConversionError, DataError, ModelFileError
from tidegate.interop import vocabulary
from tidegate.interop.importing import Imported, ImportOptions, import_model
from tidegate.model import ModelConfig

DATA = Path(__file__).parent / "data"
KERAS = json.loads((DATA / "foreign_keras.json").read_text(encoding="utf-8"))
TORCH = json.loads((DATA / "foreign_torch.json").read_text(encoding="utf-8"))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A vocabulary whose word w5 has the id 5, and [UNK] the id 1."""
    path = tmp_path / "words.txt"
    listed = ["", "[UNK]", *(f"w{i}" for i in range(2, KERAS["vocabulary"]))]
    path.write_text("\n".join(listed) + "\n", encoding="utf-8")
    return path


def texts_of(rows: list[list[int]]) -> list[str]:
    """Texts with these ids: an unknown word for 1."""
    return [" ".join(f"w{i}" if i > 1 else "unheard" for i in row) for row in rows]


def saved(imported: Imported, tmp_path: Path) -> TextClassifier:
    path = tmp_path / "imported.safetensors"
    imported.save(path)
    conversion = storage.read_tensors(path)[1]["conversion"]
    assert conversion["from"] == imported.source
    assert conversion["largest_difference"] == imported.difference
    assert 0 < imported.difference < 1e-6
    return TextClassifier.load(path)


@pytest.mark.parametrize("name", KERAS["outputs"])
def test_a_keras_model_predicts_what_keras_did(name: str, words: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    imported = import_model(DATA / name, words)
    assert imported.source == f"Keras {KERAS['keras']}, {name}"
    assert imported.trained.model.config.max_length == KERAS["length"]
    classifier = saved(imported, tmp_path)
    found = classifier.predict_proba(texts_of(KERAS["texts"]))
    for row, wanted in zip(found, KERAS["outputs"][name], strict=True):
        if wanted is not None:
            expected = [1 - wanted[0], wanted[0]] if len(wanted) == 1 else wanted
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-6)


def test_shapes_of_the_keras_models(words: Path) -> None:
    pytest.importorskip("h5py")
    shapes = {
        name: import_model(DATA / name, words).trained.model.config for name in KERAS["outputs"]
    }
    common: dict[str, Any] = {
        "vocabulary_size": 14,
        "embedding_size": 3,
        "hidden_size": 4,
        "max_length": 9,
    }
    assert shapes == {
        "foreign_stacked_gru.keras": ModelConfig(
            **common, masked=True, layers=2, bidirectional=True
        ),
        "foreign_gru_before.h5": ModelConfig(**common, reset="before"),
        "foreign_lstm_mean.keras": ModelConfig(
            **common, cell="lstm", classes=3, masked=True, bidirectional=True, pooling="mean"
        ),
        "foreign_lstm.h5": ModelConfig(**common, cell="lstm", masked=True, bidirectional=True),
        "foreign_rnn_max.keras": ModelConfig(**common, cell="rnn", classes=3, pooling="max"),
    }


@pytest.mark.parametrize("name", TORCH["files"])
def test_a_torch_model_predicts_what_torch_did(name: str, words: Path, tmp_path: Path) -> None:
    told = TORCH["files"][name]
    options = ImportOptions(
        masked=told["masked"], pooling=told["pooling"], max_length=TORCH["length"]
    )
    if name.endswith(".onnx"):
        pytest.importorskip("onnx")
        options = ImportOptions(padding_id=0)  # the rest is seen
    classifier = saved(import_model(DATA / name, words, options), tmp_path)
    assert classifier.model_.config.pooling == told["pooling"]
    found = classifier.predict_proba(texts_of(TORCH["texts"]))
    for row, logits in zip(found, told["logits"], strict=True):
        if logits is not None:
            wide = np.array([0.0, *logits] if len(logits) == 1 else logits)
            np.testing.assert_allclose(row, np.exp(wide) / np.exp(wide).sum(), rtol=0, atol=1e-6)


def test_labels_are_those_of_the_outputs(words: Path, tmp_path: Path) -> None:
    """In sorted order, whatever order they were given in; one output's sign turns with them."""
    texts = texts_of(TORCH["texts"][1:])
    for name, options in (
        ("foreign_gru.pt", ("b", "a")),
        ("foreign_lstm.safetensors", tuple("cab")),
    ):
        pooling = TORCH["files"][name]["pooling"]
        plain = saved(import_model(DATA / name, words, ImportOptions(pooling=pooling)), tmp_path)
        named = saved(
            import_model(DATA / name, words, ImportOptions(labels=options, pooling=pooling)),
            tmp_path,
        )
        assert plain.classes_.tolist() == list(range(len(options)))
        assert named.classes_.tolist() == sorted(options)
        places = [options.index(label) for label in named.classes_]
        wanted = plain.predict_proba(texts)[:, places]
        np.testing.assert_allclose(named.predict_proba(texts), wanted, atol=1e-7)


def test_vocabularies_of_other_kinds(words: Path, tmp_path: Path) -> None:
    """A dict of word and id, one that counts from elsewhere, and words that were left out."""
    expected = import_model(DATA / "foreign_gru.pt", words).trained
    texts = texts_of(TORCH["texts"])
    as_dict = tmp_path / "words.json"
    as_dict.write_text(json.dumps({f"w{i}": i for i in range(2, 40)}), encoding="utf-8")
    ranked = tmp_path / "ranks.json"
    ranked.write_text(json.dumps({f"w{i}": i - 1 for i in range(2, 40)}), encoding="utf-8")
    for path, options in (
        (as_dict, ImportOptions(padding_id=0, unknown_id=1)),
        (ranked, ImportOptions(padding_id=0, first_id=2, unknown_id=1)),
    ):
        found = import_model(DATA / "foreign_gru.pt", path, options).trained
        assert found.tokenizer.vocabulary == expected.tokenizer.vocabulary
        for name, array in expected.model.parameters.items():
            np.testing.assert_array_equal(found.model.parameters[name], array)
    silent = import_model(DATA / "foreign_gru.pt", as_dict, ImportOptions(unknown_id=-1)).trained
    encoded = silent.tokenizer.encode_all(texts, 100)
    assert [len(encoded.row(i)) for i in range(len(texts))] == [
        sum(i > 1 for i in row) for row in TORCH["texts"]
    ]
    started = import_model(
        DATA / "foreign_gru.pt", as_dict, ImportOptions(unknown_id=-1, start_id=1)
    ).trained
    assert started.tokenizer.encode_all(["w5"], 9).row(0).tolist() == [1, 7]
    np.testing.assert_array_equal(
        started.model.parameters["embedding.weight"][1],
        expected.model.parameters["embedding.weight"][2],
    )


def test_modules_may_be_named(words: Path) -> None:
    path = DATA / "foreign_gru.pt"
    names = (("embedding", "embed"), ("recurrent", "rnn"), ("output", "head"))
    assert import_model(path, words, ImportOptions(names=names)).difference < 1e-6
    for role, name, message in (
        ("embedding", "head", r"no matrix head\.weight"),
        ("recurrent", "lstm", "no recurrent module 'lstm'; it has rnn"),
        ("output", "embed", r"no matrix embed\.weight"),
    ):
        with pytest.raises(ConversionError, match=message):
            import_model(path, words, ImportOptions(names=((role, name),)))
    with pytest.raises(ConfigError, match="name='head' is not one of embedding, recurrent, output"):
        import_model(path, words, ImportOptions(names=(("head", "fc"),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a"]}, "are 1; the model has 2 classes"),
        ({"labels": ["a", "a"]}, "one label twice"),
        ({"unknown_id": 99}, "unknown_id=99 is not among the 12 rows"),
        ({"unknown_id": 5}, "unknown_id=5 is the id of the word 'w5'"),
        ({"padding_id": -2}, "padding_id=-2 is no id"),
        ({"tokenizer": "wrods"}, "did you mean 'words'"),
        ({"keep": "middle"}, "keep='middle' is not one of"),
        ({"pooling": "most"}, "pooling='most' is not one of"),
        ({"max_length": 0}, "max_length=0 is not between"),
        ({"masked": False}, "say it by --max-length"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str, words: Path) -> None:
    given = {"pooling": "last", **options}
    with pytest.raises((ConfigError, DataError), match=message):
        import_model(DATA / "foreign_gru.pt", words, ImportOptions(**given))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no words"),
        ("{", "is no JSON"),
        ("3", None),  # a list of one word
        ('{"a": "b"}', "as the id of 'a'"),
        ('{"a": 2, "b": 2}', "the id 2 for 'a' and for 'b'"),
        ('{"a": true}', "as the id of 'a'"),
        ('["a", 3]', "has 3 in the place of a word"),
        ("a\nb\na\n", "'a' twice, at 0 and 2"),
        ('{"a": 99, "[UNK]": 1}', "no word has an id below 12"),
        ('{"a": 3, "b": 4}', "names no token for unknown words"),
        ('{"": 0, "[UNK]": 1, "a\\nb": 3}', "as a word; leave it out"),
        ('{"format": "tidegate vocabulary"}', "tells no 'words'"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_bad_words_are_refused(content: str, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text(content, encoding="utf-8")
    with pytest.raises((ConfigError, DataError), match=message):
        import_model(DATA / "foreign_gru.pt", path)


def test_lists_of_words_as_other_systems_write_them(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    for end in ("\n", "\r\n"):
        for first in ("[OOV]", "[START]", "[CLS]", "[UNK]", "[pad]"):
            listed = [first, "[MASK]", "great"]
            for last in ("", end):
                path.write_bytes((end.join(listed) + last).encode())
                found = vocabulary.read_words(path)
                marked = (found.padding, found.unknown, found.start)
                assert dict(found.ids) == {"[MASK]": 1, "great": 2}
                assert sorted(marked, key=str) == [0, None, None]
    path.write_text('["a",\n"b"\n', encoding="utf-8")
    with pytest.raises(DataError, match="is no JSON"):
        vocabulary.read_words(path)


def test_without_words_there_is_no_import() -> None:
    with pytest.raises(ConfigError, match="--vocabulary FILE"):
        import_model(DATA / "foreign_gru.pt", None)


def test_another_kind_of_file_is_refused(words: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not one of \.keras, \.h5"):
        import_model(tmp_path / "model.pkl", words)
    for name in ("model.keras", "model.pt", "model.onnx"):
        with pytest.raises(ModelFileError, match="can't be read"):
            import_model(tmp_path / name, words)
    for suffix, other in ((".pt", "foreign_rnn_max.keras"), (".keras", "foreign_gru.pt")):
        path = tmp_path / f"other{suffix}"
        shutil.copy(DATA / other, path)
        with pytest.raises(ModelFileError):
            import_model(path, words)


def test_tidegates_own_model_is_none_to_import(words: Path) -> None:
    with pytest.raises(ConversionError, match="already; use it as it is"):
        import_model(DATA / "model_v1_lstm.safetensors", words)


def test_a_mismatch_is_refused_and_named(words: Path) -> None:
    """A network read as another one: the states agree, what is made of them does not."""
    with pytest.raises(ConversionError, match=r"differ by .* first in the tensor 'pooled'"):
        _import_as_another("last")


def _import_as_another(pooling: str) -> None:
    from dataclasses import replace

    from tidegate.interop import importing, vocabulary
    from tidegate.interop.torch_import import read_torch

    foreign = read_torch(DATA / "foreign_lstm.safetensors", pooling="max")
    wrong = replace(foreign, shape={**foreign.shape, "pooling": pooling})
    ids = {f"w{i}": i for i in range(2, 12)}
    importing._assemble(wrong, vocabulary.Words(ids, 0, 1), ImportOptions())


def test_a_missing_extra_is_named(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module, file, extra in (
        ("h5py", "foreign_rnn_max.keras", "keras"),
        ("onnx", "foreign_gru.onnx", "onnx"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=rf"pip install 'tidegate\[{extra}\]'"):
            import_model(DATA / file, words)
