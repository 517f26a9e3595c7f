"""A tokenizer.json in place of our own rules: ids, places, model files, hostile files."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tidegate import TextClassifier, storage
from tidegate.cli import main
from tidegate.errors import ConfigError, DataError, MissingPackageError, ModelFileError
from tidegate.explain import explain
from tidegate.interop import export_model
from tidegate.subwords import JsonTokenizer
from tidegate.text import FIRST_WORD_ID, START_ID, UNKNOWN_ID, Tokenizer, Vocabulary
from tidegate.trace import trace_layers

TEXTS = ["what a lovely film", "a dreadful bore", "lovely and warm", "the plot is a mess"] * 8
LABELS = ["good", "bad"] * 16
SMALL: dict[str, Any] = {"embedding_size": 5, "hidden_size": 6, "epochs": 2, "batch_size": 8}
WORDS = {"[UNK]": 0, "a": 1, "lovely": 2, "film": 5, "two\nlines": 4}  # no token has the id 3


def bytes_of(kind: str) -> bytes:
    """A small tokenizer of each kind of model that there is."""
    if kind == "WordLevel":
        made = tokenizers.Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))  # noqa: S106
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        return made.to_str().encode()
    trainer: Any
    special: dict[str, Any] = {"special_tokens": ["[UNK]", "[CLS]"], "show_progress": False}
    if kind == "BPE":
        made = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", dropout=0.5))  # noqa: S106
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, **special)
    elif kind == "WordPiece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=50, **special)
    else:
        made = tokenizers.Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=50, unk_token="[UNK]", **special)  # noqa: S106
    made.train_from_iterator(TEXTS, trainer)
    # What must not matter: it would add tokens, cut texts and fill them up.
    made.enable_truncation(2)
    made.enable_padding(length=9)
    return made.to_str().encode()


KINDS = ("WordLevel", "BPE", "WordPiece", "Unigram")
JSON = {kind: bytes_of(kind) for kind in KINDS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(JSON["WordPiece"])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_tokenizer_s_own(kind: str) -> None:
    own = tokenizers.Tokenizer.from_str(JSON[kind].decode())
    own.no_truncation()
    own.no_padding()
    if kind == "BPE":
        own.model.dropout = None
    tokenizer = JsonTokenizer.of(JSON[kind])
    assert tokenizer.vocabulary.size == FIRST_WORD_ID + max(own.get_vocab().values()) + 1
    unknown = own.token_to_id("[UNK]")
    for text in [*TEXTS[:4], "", "A LOVELY qqq\n☃!", "日本 naïve"]:
        found = own.encode(text, add_special_tokens=False)
        expected = [UNKNOWN_ID if i == unknown else i + FIRST_WORD_ID for i in found.ids]
        assert tokenizer.encode(text).tolist() == [START_ID, *expected]
        assert tokenizer.tokens(text) == found.tokens
        shown = tokenizer.token_strings(text, 100)
        assert shown == ["<start>", *found.tokens]
        rows = tokenizer.encode_all([text, text], 3)
        assert rows.row(1).tolist() == [START_ID, *expected][-3:]


def test_words_are_told_by_their_ids() -> None:
    words = JsonTokenizer.of(JSON["WordLevel"]).vocabulary.words
    assert words == ("[UNK]", "a", "lovely", "<3>", "two\\nlines", "film")


@given(st.text("ab 日é\u0301🎬\n\ud800'", max_size=12))
@settings(max_examples=60)
def test_places_are_in_order_and_within_the_text(text: str) -> None:
    for kind in KINDS:
        tokenizer = JsonTokenizer.of(JSON[kind])
        spans = tokenizer.spans(text)
        assert len(spans) == len(tokenizer.tokens(text))
        at = 0
        for begin, end in spans:
            assert at <= begin <= end <= len(text)
            at = end
        assert len(list(tokenizer.without_each(text))) == len(spans)


def test_a_model_travels_with_its_tokenizer(path: Path, tmp_path: Path) -> None:
    options = {**SMALL, "tokenizer": path, "ngrams": 1, "vocabulary_size": 7}  # which says nothing
    first = TextClassifier(**options, threads=1).fit(TEXTS, LABELS)
    TextClassifier(**options, threads=2).fit(TEXTS, LABELS).save(tmp_path / "two")
    first.save(tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    path.unlink()
    loaded = TextClassifier.load(tmp_path / "one")
    expected = first.predict_proba(TEXTS)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(loaded.features(TEXTS), first.features(TEXTS))
    copied = pickle.loads(pickle.dumps(loaded))  # noqa: S301 (our own)
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), expected)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()
    loaded.save(tmp_path / "small", quantize="int8")
    assert TextClassifier.load(tmp_path / "small").tokenizer_.name == "json"
    tensors, header = storage.read_tensors(tmp_path / "one")
    assert (header["tokenizer"], header["training"]["tokenizer"]) == ("json", "json")
    assert tensors["tokenizer"].tobytes() == JSON["WordPiece"]
    assert "vocabulary" not in tensors


def test_windows_of_its_tokens(path: Path) -> None:
    classifier = TextClassifier(**SMALL, tokenizer=path, keep="windows", max_length=4)
    classifier.fit(TEXTS, LABELS)
    reading = classifier.tokenizer_.read([TEXTS[0] * 3], 4)
    assert reading.counts is not None
    assert reading.counts[0] > 1


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
@pytest.mark.parametrize("kind", ["BPE", "WordPiece"])
def test_explanations_and_gates_are_of_its_tokens(path: Path, kind: str, method: str) -> None:
    path.write_bytes(JSON[kind])
    classifier = TextClassifier(**SMALL, tokenizer=path, ngrams=1).fit(TEXTS, LABELS)
    text = "Lovely, what a 🎬!" if kind == "WordPiece" else "lovely, what a 🎬!"
    found = explain(classifier, text, method=method)
    assert found.tokens == classifier.tokenizer_.tokens(text)
    assert text[slice(*found.spans[0])].lower() == "lovely"[: found.spans[0][1]]
    np.testing.assert_allclose(found.probabilities[-1], found.probability)
    if method == "occlusion":
        cut = text[: found.spans[1][0]] + text[found.spans[1][1] :]
        number = classifier.classes_.tolist().index(found.label)
        whole, without = classifier.predict_proba([text, cut])[:, number]
        fall = np.log(whole / (1 - whole)) - np.log(without / (1 - without))
        np.testing.assert_allclose(found.contributions[1], fall, atol=1e-6)
    assert trace_layers(classifier, text)[0].tokens == ["<start>", *found.tokens]


def test_going_on_keeps_the_tokenizer(path: Path, tmp_path: Path) -> None:
    old = TextClassifier(**SMALL, tokenizer=path).fit(TEXTS, LABELS)
    old.save(tmp_path / "old")
    new = TextClassifier.continue_from(tmp_path / "old", TEXTS, LABELS)
    assert new.tokenizer_ == old.tokenizer_
    TextClassifier.continue_from(old, TEXTS, LABELS)
    old.partial_fit(TEXTS, LABELS)
    path.write_bytes(JSON["BPE"])
    with pytest.raises(ConfigError, match=r"tokenizer='another file, .*' is not the trained"):
        TextClassifier.continue_from(tmp_path / "old", TEXTS, LABELS, tokenizer=path)
    with pytest.raises(ConfigError, match=r"give the path of its tokenizer\.json"):
        TextClassifier.load(tmp_path / "old").fit(TEXTS, LABELS)


def test_an_export_says_that_it_needs_the_tokenizer(path: Path, tmp_path: Path) -> None:
    classifier = TextClassifier(**SMALL, tokenizer=path).fit(TEXTS, LABELS)
    exported = export_model(classifier, tmp_path / "model.onnx", "onnx")
    told = json.loads(exported.paths[-1].read_text(encoding="utf-8"))
    assert told["tokenizer"] == "json"
    assert told["tokenizer_json"] == json.loads(JSON["WordPiece"])


# --- what is wrong -------------------------------------------------------------------------------


def test_without_the_package_only_reading_texts_fails(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TextClassifier(**SMALL, tokenizer=path).fit(TEXTS, LABELS).save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    importlib.invalidate_caches()
    loaded = TextClassifier.load(tmp_path / "model")
    assert len(loaded.tokenizer_.vocabulary.words) > 10
    for use in (loaded.predict, TextClassifier(**SMALL, tokenizer=path).fit):
        with pytest.raises(MissingPackageError, match=r"pip install 'tidegate\[tokenizers\]'"):
            use(*((TEXTS,) if use == loaded.predict else (TEXTS, LABELS)))


def edited(**changed: Any) -> bytes:
    found = json.loads(JSON["BPE"])
    found["model"].update(changed.pop("model", {}))
    return json.dumps(found | changed).encode()


DEEP = b'{"type":"Sequence","pretokenizers":[' * 300 + b"]}" * 300
HOSTILE = {
    "empty": b"",
    "no JSON": b"hello",
    "not UTF-8": b'{"model": {"vocab": {"\xff": 0}}}',
    "too deep": b"[" * 100_000,
    "a list": b"[]",
    "no model": b"{}",
    "no vocabulary": b'{"model": {}}',
    "an empty vocabulary": b'{"model": {"vocab": {}}}',
    "ids that are no numbers": edited(model={"vocab": {"a": "b"}}),
    "a negative id": edited(model={"vocab": {"a": -1}}),
    "a giant id": edited(model={"vocab": {"a": 10**12}}),
    "mostly gaps": edited(model={"vocab": {"a": 1_999_999}}),
    "tokens that are none": edited(model={"vocab": [[3, 0.5], ["b"]]}),
    "a strange added token": edited(added_tokens=[{"id": 3}]),
    "an unknown model": edited(model={"type": "Magic"}),
    "merges of nothing": edited(model={"merges": [["zzz", "yyy"]]}),
    "where Rust panics": edited(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a deep sequence": edited().replace(
        b'"pre_tokenizer": {', b'"pre_tokenizer": ' + DEEP + b', "x": {'
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_clear_error(
    path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"tokenizer\.json: ") as caught:
        JsonTokenizer.open(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@given(st.binary(max_size=60), st.integers(0, 3_000))
@settings(max_examples=60)
def test_damaged_files_crash_nothing(scratch: Path, junk: bytes, at: int) -> None:
    whole = JSON["WordPiece"]
    path = scratch / "tokenizer.json"
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        JsonTokenizer.open(path).encode("a lovely film")
    except DataError:
        return


def test_a_model_file_with_a_hostile_tokenizer(path: Path, tmp_path: Path) -> None:
    TextClassifier(**SMALL, tokenizer=path).fit(TEXTS, LABELS).save(tmp_path / "model")
    tensors, header = storage.read_tensors(tmp_path / "model")
    for changed in (b"{}", JSON["BPE"], b""):
        given = {**tensors, "tokenizer": np.frombuffer(changed, np.uint8)}
        storage.write_tensors(tmp_path / "bad", given, header)
        with pytest.raises(ModelFileError, match="is not a usable model"):
            TextClassifier.load(tmp_path / "bad")
    for edit in ({"start": False}, {"tokenizer": "words"}, {"tokenizer": "other"}):
        storage.write_tensors(tmp_path / "bad", tensors, {**header, **edit})
        with pytest.raises(ModelFileError, match="is not a usable model"):
            TextClassifier.load(tmp_path / "bad")


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        TextClassifier(tokenizer=tmp_path / "no.json").fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match=r"tokenizer='wrods' .*'words'"):
        TextClassifier(tokenizer="wrods").fit(TEXTS, LABELS)
    assert JsonTokenizer.of(JSON["BPE"]) != Tokenizer("words", Vocabulary(("a",)))


def test_the_command_line_takes_the_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True))
    (tmp_path / "own.csv").write_text("text,label\n" + rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = ["train", "own.csv", "--preset", "fast", "--epochs", "1"]
    assert main([*given, "--tokenizer", path.name]) == 0
    assert main(["predict", "model.safetensors", "a lovely film"]) == 0
    assert main(["info", "model.safetensors"]) == 0
    assert main(["train", "own.csv", "--from", "model.safetensors", "-o", "b.safetensors"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "json, the last 200 of a text" in printed.out
    assert main([*given, "--tokenizer", "none.json", "--force"]) == 2
    assert "'none.json' does not exist" in capsys.readouterr().err
