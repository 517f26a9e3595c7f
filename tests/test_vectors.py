"""Words' vectors from files: what is read of them, and models that begin with them."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import TextClassifier
from tidegate.continuing import Start
from tidegate.errors import ConfigError, DataError, TidegateError, TrainingError
from tidegate.text import FIRST_WORD_ID, Vocabulary
from tidegate.training import StepResult
from tidegate.vectors import read_vectors

WORDS = Vocabulary(("the", "film", "paris", "don't", "élan", "."))
PLAIN = b"the 1 2 3\nfilm -0.5 1e-3 +4\nother 9 9 9\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.txt"


def found_in(path: Path, vocabulary: Vocabulary = WORDS, **options: Any) -> dict[str, list[float]]:
    vectors = read_vectors(path, vocabulary, **options)
    words = [vocabulary.words[i - FIRST_WORD_ID] for i in vectors.ids.tolist()]
    return dict(zip(words, vectors.values.tolist(), strict=True))


EXPECTED = {"the": [1, 2, 3], "film": [-0.5, float(np.float32(1e-3)), 4]}
SPELLINGS = {
    "plain": PLAIN,
    "a header": b"3 3\n" + PLAIN,
    "spaces at the ends of lines, as word2vec writes them": PLAIN.replace(b"\n", b" \n"),
    "tabs": PLAIN.replace(b" ", b"\t"),
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "no newline at the end": PLAIN[:-1],
    "empty lines": b"\n" + PLAIN.replace(b"film", b"\nfilm"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "a byte order mark and a header": b"\xef\xbb\xbf3 3\n" + PLAIN,
    "gzip": gzip.compress(b"3 3\n" + PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "a first word with spaces": b". . . 7 7 7\n" + PLAIN,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_file_is_read(path: Path, spelling: str) -> None:
    path.write_bytes(SPELLINGS[spelling])
    assert found_in(path) == EXPECTED


def test_the_exact_word_counts_and_else_the_first_other_casing(path: Path) -> None:
    lines = "The 1 1\nPARIS 2 2\nParis 3 3\nthe 4 4\nTHE 5 5\nÉlan 6 6\nthe 7 7\nFilm 8 8\n"
    path.write_text(lines, encoding="utf-8")
    vectors = read_vectors(path, WORDS)
    assert found_in(path) == {"the": [4, 4], "paris": [2, 2], "élan": [6, 6], "film": [8, 8]}
    counts = {"words": 6, "found": 4, "cased": 3, "skipped": 0, "repeated": 1}
    assert vectors.counts() == counts
    cased = Vocabulary(("Paris", "paris"))
    assert found_in(path, cased) == {"Paris": [3, 3], "paris": [2, 2]}


def test_words_that_no_token_can_be_are_counted_and_passed_over(path: Path) -> None:
    # The first two stand in GloVe's 840B, the third in old files of word2vec; a no-break space is
    # a character like any other.
    lines = [b". . 5 5", b"at name@domain.com 6 6", b"caf\xe9 7 7", "a\u00a0b 8 8".encode()]
    path.write_bytes(b"film 1 2\n" + b"\n".join(lines) + b"\n. 3 4\n")
    assert found_in(path) == {"film": [1, 2], ".": [3, 4]}
    assert read_vectors(path, WORDS).skipped == 3


def test_words_that_are_known_already_are_not_looked_for(path: Path) -> None:
    path.write_bytes(PLAIN)
    assert found_in(path, known=1) == {"film": EXPECTED["film"]}
    assert found_in(path, known=2) == {}
    vectors = read_vectors(path, WORDS, known=1)
    assert (vectors.wanted, vectors.ids.tolist()) == (5, [FIRST_WORD_ID + 1])


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "too few numbers": (b"the 1 2\nfilm 1\n", "line 2: 1 numbers after the word, where 2 are due"),
    "too many numbers": (b"the 1 2\nfilm 1 2 3\n", "line 2: 3 numbers .*, where 2 are due"),
    "no numbers": (b"hello world\n", "line 1: no word with numbers behind it"),
    "one word": (b"hello\n", "line 1: no word with numbers"),
    "other than the header": (b"1 3\nthe 1 2\n", "line 2: 2 numbers after the word, where 3"),
    "cut off": (b"3 2\nthe 1 2\nfilm 1 2\n", "cut off: line 1 tells of 3 words, and there are 2"),
    "NaN": (b"the 1 2\nfilm nan 2\n", "line 2: the vector of 'film' has a part that is not finite"),
    "infinite": (b"the 1 inf\n", "line 1: the vector of 'the'"),
    "too large for float32": (b"the 1 4e38\n", "not finite in float32"),
    "no number": (b"the 1 2\nfilm 1 x\n", "line 2: the vector of 'film' has a part .* no number"),
    "Python's numbers": (b"the 1 2\nfilm 1 1_0\n", "line 2: the vector of 'film'"),
    "binary": (b"1 2\nthe \0\0\0\0\0\0\0\0\n", "line 2: a NUL byte.*text form"),
    "a zip archive": (b"PK\x03\x04\x14\0\0\0", "line 1: a NUL byte.*unpack a .zip"),
    "UTF-16": ("the 1 2\n".encode("utf-16"), "line 1: a NUL byte"),
    "a line without end": (b"the 1 " + b"2 " * 600_000, "line 1: longer than 1,048,576 bytes"),
    "too large vectors": (b"5 9000\nthe 1\n", "line 1: vectors of 9,000 numbers"),
    "vectors of nothing": (b"5 0\nthe\n", "line 1: vectors of 0 numbers"),
    "another language": (b"chat 1 2\n", "has none of the 6 words of the texts"),
    "a damaged gzip file": (gzip.compress(PLAIN)[:-9], "is cut off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_with_its_line(path: Path, name: str) -> None:
    data, message = REFUSED[name]
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_vectors(path, WORDS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_other_sizes_are_told(path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_vectors(path, WORDS)
    path.write_bytes(PLAIN)
    with pytest.raises(ConfigError, match=r"embedding_size=4 is not that of .* have 3"):
        read_vectors(path, WORDS, size=4)


@given(
    data=st.binary(max_size=80) | st.text("the film\n0.1-e nan\t\r", max_size=80).map(str.encode)
)
@settings(max_examples=300)
def test_no_file_crashes_it(scratch: Path, data: bytes) -> None:
    path = scratch / "any"
    path.write_bytes(data)
    try:
        vectors = read_vectors(path, WORDS)
    except TidegateError:
        return
    assert np.isfinite(vectors.values).all()
    assert vectors.values.shape == (len(vectors.ids), vectors.size)


LETTERS = st.text("abAB.é", min_size=1, max_size=3)
FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


@given(st.lists(st.tuples(LETTERS, FLOATS, FLOATS), min_size=1, max_size=12), st.booleans())
def test_it_finds_what_a_plain_reading_finds(
    scratch: Path, rows: list[tuple[str, float, float]], header: bool
) -> None:
    path = scratch / "rows"
    lines = [f"{word} {first!r} {second!r}" for word, first, second in rows]
    head = [f"{len(rows)} 2"] if header else []
    path.write_text("\n".join([*head, *lines]), encoding="utf-8")
    vocabulary = Vocabulary(tuple(dict.fromkeys(row[0].lower() for row in rows)))
    expected = {}
    for word in vocabulary.words:
        same = [row[1:] for row in rows if row[0] == word]
        others = [row[1:] for row in rows if row[0].lower() == word]
        expected[word] = list((same or others)[0])
    assert found_in(path, vocabulary) == expected


def test_memory_is_that_of_the_words_that_are_kept(path: Path) -> None:
    row = " ".join(["0.125"] * 50)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(f"word{i} {row}\n" for i in range(20_000))
    words = Vocabulary(("word7", "word19999"))
    tracemalloc.start()
    try:
        assert len(read_vectors(path, words).ids) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000  # of 6 MB of text, 4 MB of float32


# --- models that begin with vectors --------------------------------------------------------------

TEXTS = ["what a lovely film", "a dreadful bore", "lovely and warm", "the plot is a mess"] * 8
LABELS = ["good", "bad"] * 16
SMALL: dict[str, Any] = {"hidden_size": 5, "epochs": 2, "batch_size": 8}
OWN = ("what", "a", "lovely", "film", "dreadful", "bore", "and", "warm")  # not: the plot is mess
SIZE = 6


def vector_of(word: str) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, word))).normal(0.0, 0.4, SIZE).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.vec"
    rows = [f"{word} {' '.join(map(repr, vector_of(word).tolist()))}" for word in OWN]
    path.write_text("\n".join([f"{len(OWN)} {SIZE}", *rows]) + "\n", encoding="utf-8")
    return path


def table(classifier: TextClassifier) -> np.ndarray:
    return classifier.model_.parameters["embedding.weight"]


def rows_of(classifier: TextClassifier, words: tuple[str, ...]) -> np.ndarray:
    return table(classifier)[[classifier.tokenizer_.vocabulary.id_of(word) for word in words]]


def test_frozen_words_keep_their_vectors_and_the_others_learn(file: Path) -> None:
    given = np.array([vector_of(word) for word in OWN])
    frozen = TextClassifier(**SMALL, vectors=file, freeze_vectors=True, average=0.9, patience=1)
    frozen.fit(TEXTS, LABELS)
    assert frozen.model_.config.embedding_size == SIZE
    np.testing.assert_array_equal(rows_of(frozen, OWN), given)
    free = TextClassifier(**SMALL, vectors=file).fit(TEXTS, LABELS)
    assert (rows_of(free, OWN) != given).mean() > 0.9
    np.testing.assert_allclose(rows_of(free, OWN), given, rtol=0, atol=0.05)  # began with them
    counts = {"words": 12, "found": 8, "cased": 0, "skipped": 0, "repeated": 0}
    assert free.vectors_ == counts
    others = tuple(sorted(set(free.tokenizer_.vocabulary.words) - set(OWN)))
    assert (rows_of(free, others) != rows_of(frozen, others)).any()


def test_other_words_begin_as_large_and_in_their_own_directions(file: Path) -> None:
    options = {**SMALL, "learning_rate": 1e-30, "clip_norm": 1.0}  # stays as it began
    usual = TextClassifier(**options, embedding_size=SIZE).fit(TEXTS, LABELS)
    begun = TextClassifier(**options, vectors=file).fit(TEXTS, LABELS)
    others = np.setdiff1d(
        np.arange(len(table(begun))),
        [begun.tokenizer_.vocabulary.id_of(word) for word in OWN],
    )
    factor = table(begun)[others] / table(usual)[others]
    size = math.sqrt(float(np.mean([np.square(vector_of(word)) for word in OWN])))
    np.testing.assert_allclose(factor, size * math.sqrt(3.0) / 0.05, rtol=1e-5)


def test_the_same_vectors_give_the_same_file_wherever_they_lie(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.vec.gz"
    elsewhere.write_bytes(gzip.compress(file.read_bytes().split(b"\n", 1)[1]))
    first = TextClassifier(**SMALL, vectors=file, threads=1).fit(TEXTS, LABELS)
    second = TextClassifier(**SMALL, vectors=str(elsewhere), threads=2).fit(TEXTS, LABELS)
    first.save(tmp_path / "first")
    second.save(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    loaded = TextClassifier.load(tmp_path / "first")
    assert (loaded.vectors, loaded.embedding_size, loaded.vectors_) == (None, SIZE, None)
    assert b"own.vec" not in (tmp_path / "first").read_bytes()


@pytest.mark.parametrize("freeze", [False, True])
def test_a_resumed_training_needs_no_file(file: Path, tmp_path: Path, freeze: bool) -> None:
    options = {**SMALL, "vectors": file, "freeze_vectors": freeze}
    whole = TextClassifier(**options).fit(TEXTS, LABELS)
    checkpoint = tmp_path / "checkpoint"
    steps = TextClassifier(**options).fit_steps(TEXTS, LABELS, checkpoint=checkpoint)
    for event in steps:
        if not isinstance(event, StepResult):
            break  # after the first epoch
    del steps  # which lets go of the checkpoint
    file.unlink()
    resumed = TextClassifier(**options)
    for _ in resumed.fit_steps(TEXTS, LABELS, checkpoint=checkpoint, resume=True):
        pass
    whole.save(tmp_path / "whole")
    resumed.save(tmp_path / "resumed")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()
    for changed in ({"vectors": None, "freeze_vectors": False}, {"freeze_vectors": not freeze}):
        other = TextClassifier(**{**options, "embedding_size": SIZE, **changed})
        with pytest.raises(TrainingError, match="other vectors"):
            for _ in other.fit_steps(TEXTS, LABELS, checkpoint=checkpoint, resume=True):
                pass


def test_new_words_of_a_training_that_goes_on_get_vectors(file: Path) -> None:
    old = TextClassifier(**SMALL, embedding_size=SIZE).fit(TEXTS[2::4] * 4, ["good", "bad"] * 16)
    assert set(old.tokenizer_.vocabulary.words) == {"lovely", "and", "warm"}
    options: dict[str, Any] = {"learning_rate": 1e-30, "clip_norm": 1.0}
    new = TextClassifier.continue_from(old, TEXTS, LABELS, vectors=file, **options)
    np.testing.assert_array_equal(table(new)[: len(table(old))], table(old))
    fresh = ("what", "a", "film", "dreadful", "bore")
    np.testing.assert_array_equal(rows_of(new, fresh), [vector_of(word) for word in fresh])
    assert new.vectors_ is not None
    assert (new.vectors_["words"], new.vectors_["found"]) == (9, 5)
    # What is not given is not read again.
    again = TextClassifier.continue_from(new, TEXTS, LABELS, **options)
    assert (again.vectors, again.vectors_) == (None, None)
    wrong = TextClassifier(**SMALL, embedding_size=4).fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="embedding_size=4 is not that of"):
        TextClassifier.continue_from(wrong, TEXTS, LABELS, vectors=file)


def test_partial_fit_begins_with_vectors(file: Path) -> None:
    options = {**SMALL, "learning_rate": 1e-30, "clip_norm": 1.0, "vectors": file}
    classifier = TextClassifier(**options).partial_fit(TEXTS, LABELS, classes=["bad", "good"])
    np.testing.assert_array_equal(rows_of(classifier, OWN), [vector_of(word) for word in OWN])
    file.unlink()
    classifier.partial_fit(TEXTS, LABELS)
    np.testing.assert_array_equal(rows_of(classifier, OWN), [vector_of(word) for word in OWN])
    with pytest.raises(ConfigError, match="partial_fit trains all words"):
        TextClassifier(**options, freeze_vectors=True).partial_fit(TEXTS, LABELS, ["bad", "good"])


def test_a_bad_file_is_told_before_any_text_is_read(file: Path, tmp_path: Path) -> None:
    class Unread:
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("a text was read")

    options: dict[str, Any] = {**SMALL, "vectors": file}
    file.write_text("no numbers\n", encoding="utf-8")
    for steps in (
        TextClassifier(**options).fit_stream_steps(Unread()),
        TextClassifier(**options).fit_steps(Unread(), LABELS),
    ):
        with pytest.raises(DataError, match="line 1: no word with numbers"):
            next(steps)
    file.write_text("a 1 2 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"embedding_size=4 is not that of .* have 3 numbers"):
        next(TextClassifier(**options, embedding_size=4).fit_stream_steps(Unread()))
    start = Start(TextClassifier(**SMALL, embedding_size=5).fit(TEXTS, LABELS))
    for goes_on in (TextClassifier(**options), TextClassifier(**options, embedding_size=5)):
        with pytest.raises(ConfigError, match="embedding_size=5 is not that of"):
            next(goes_on.fit_stream_steps(Unread(), start=start))
    file.unlink()
    with pytest.raises(DataError, match=r"own\.vec"):
        next(TextClassifier(**options).fit_stream_steps(Unread()))
    # A run that is gone on with has its vectors already.
    (tmp_path / "kept").write_bytes(b"")
    with pytest.raises(AssertionError, match="a text was read"):
        next(
            TextClassifier(**options).fit_stream_steps(
                Unread(), checkpoint=tmp_path / "kept", resume=True
            )
        )


def test_a_start_is_a_start() -> None:
    for steps in (
        TextClassifier().fit_stream_steps([(TEXTS, LABELS)], start="a.safetensors"),  # type: ignore[arg-type]
        TextClassifier().fit_steps(TEXTS, LABELS, start="a.safetensors"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=r"start='a\.safetensors' is no Start; continue_from"):
            next(steps)


def test_bad_arguments_are_told(file: Path) -> None:
    for options, message in (
        ({"vectors": 3}, "vectors=3 is not a path"),
        ({"vectors": ""}, "vectors='' is not a path"),
        ({"freeze_vectors": True}, "has no vectors to freeze"),
        ({"vectors": file, "freeze_vectors": 1}, "freeze_vectors=1 is neither"),
        ({"vectors": file, "embedding_size": 7}, "embedding_size=7 is not that of"),
    ):
        with pytest.raises(ConfigError, match=message):
            TextClassifier(**{**SMALL, **options}).fit(TEXTS, LABELS)
    assert TextClassifier.from_preset("fast", vectors=file).embedding_size is None
    assert TextClassifier.from_preset("fast", vectors=file, embedding_size=3).embedding_size == 3


def test_the_command_line_reads_them_and_says_what_it_found(file: Path, tmp_path: Path) -> None:
    rows = "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True))
    (tmp_path / "own.csv").write_text("text,label\n" + rows, encoding="utf-8")
    command = [sys.executable, "-m", "tidegate", "train", "own.csv", "--preset", "fast"]
    command += ["--epochs", "1", "--vectors", "own.vec", "--report", "report.json"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        both = [*command, *more]
        return subprocess.run(both, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("--freeze-vectors")
    assert (done.returncode, done.stderr) == (0, "")
    assert "vectors: 8 of 12 words are in own.vec\n" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["vectors"]["found"], report["config"]["vectors"]) == (8, "own.vec")
    refused = run("--force", "--embedding-size", "9")
    assert refused.returncode == 2
    assert "--embedding-size=9 is not that of own.vec" in refused.stderr
