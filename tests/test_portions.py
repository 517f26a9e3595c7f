"""Texts that come in portions: the same model as in memory, and files that leave nothing behind."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from tidegate import TextClassifier, contexts, preparing
from tidegate.continuing import Start
from tidegate.data import LabeledTexts, Survey, survey
from tidegate.errors import ConfigError, DataError, OutputError
from tidegate.portions import ReadResult
from tidegate.records import EpochResult, StepResult
from tidegate.stored import StoredRows, StoredTexts, Work, WorkFile
from tidegate.text import Tokenizer, Vocabulary, token_counts

SMALL: dict[str, Any] = {
    "vocabulary_size": 60,
    "embedding_size": 6,
    "hidden_size": 5,
    "max_length": 9,
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.02,
}


def made_up(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)  # noqa: S311
    words = [f"w{i}" for i in range(90)]
    texts, labels = [], []
    for i in range(count):
        label = "abc"[i % 3]
        length = generator.randint(0, 14)
        texts.append(" ".join([label * 2, *generator.choices(words, k=length)]) if i % 50 else " ")
        labels.append(label)
    return texts, labels


class Portions:
    """Some texts and labels, a few at a time."""

    def __init__(self, texts: list[str], labels: list[Any], cuts: tuple[int, ...]) -> None:
        self.texts, self.labels = texts, labels
        self.cuts = (0, *cuts, len(texts))
        self.readings = 0

    def __iter__(self) -> Iterator[tuple[list[str], list[Any]]]:
        self.readings += 1
        for begin, end in pairwise(self.cuts):
            yield self.texts[begin:end], self.labels[begin:end]


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "lecture": {"tokenizer": "lecture", "masked": False, "keep": "both"},
    "deep": {
        "bidirectional": True,
        "pooling": "max+mean",
        "ngrams": 2,
        "word_dropout": 0.2,
        "vocabulary_dropout": 0.3,
        "dropout": 0.3,
        "average": 0.9,
        "patience": 2,
        "class_weight": "balanced",
    },
    "all of it": {"validation_fraction": 0.0, "ngrams": 1},
    "windows": {"keep": "windows", "max_length": 4, "ngrams": 3, "class_weight": "balanced"},
    "contexts": {"context_vectors": True},
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_portions_give_the_file_that_memory_gives(
    recipe: str, threads: int, tmp_path: Path
) -> None:
    texts, labels = made_up(150)
    options = {**SMALL, **RECIPES[recipe], "threads": threads}
    TextClassifier(**options).fit(texts, labels).save(tmp_path / "memory")
    given = Portions(texts, labels, (1, 1, 60, 149))
    classifier = TextClassifier(**options).fit_stream(given, folder=tmp_path)
    classifier.save(tmp_path / "disk")
    assert given.readings == 2
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["disk", "memory"]


def test_word_contexts_are_counted_in_a_part_of_many_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = made_up(200)
    saved = {}
    for most in (contexts.MOST_TOKENS, 900):
        monkeypatch.setattr(contexts, "MOST_TOKENS", most)
        classifier = TextClassifier(**SMALL, context_vectors=True)
        classifier.fit(texts, labels).save(tmp_path / "memory")
        classifier.fit_stream(Portions(texts, labels, (120,))).save(tmp_path / "disk")
        saved[most] = (tmp_path / "memory").read_bytes()
        assert saved[most] == (tmp_path / "disk").read_bytes()
    first, second = saved.values()
    assert first != second


def test_words_and_vectors_of_files(tmp_path: Path) -> None:
    """A tokenizer.json, whose words no text changes, and also when it goes on learning."""
    texts, labels = made_up(90)
    words = {"[UNK]": 0, "aa": 1, "bb": 2, "cc": 3, **{f"w{i}": 4 + i for i in range(40)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    lines = [f"{word} {i % 7} {i % 3} {-i}" for word, i in words.items() if i % 2]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options: dict[str, Any] = {
        **SMALL,
        "embedding_size": None,
        "tokenizer": str(tmp_path / "tokenizer.json"),
        "vectors": str(tmp_path / "vectors.txt"),
        "freeze_vectors": True,
        "ngrams": 2,
    }
    memory, disk = TextClassifier(**options), TextClassifier(**options)
    memory.fit(texts, labels).save(tmp_path / "memory")
    disk.fit_stream(Portions(texts, labels, (50,))).save(tmp_path / "disk")
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()
    assert memory.vectors_ == disk.vectors_ is not None
    more = made_up(60, seed=1)
    for name, ways in (("memory", "fit_steps"), ("disk", "fit_stream_steps")):
        start = Start(TextClassifier.load(tmp_path / name), keep=(texts[:20], labels[:20]))
        start.max_loss = 1.0
        again = TextClassifier(**options)
        given = more if ways == "fit_steps" else ([more],)
        for _ in getattr(again, ways)(*given, start=start):
            pass
        assert again.tokenizer_ == start.classifier.tokenizer_
        again.save(tmp_path / f"{name} again")
    assert (tmp_path / "memory again").read_bytes() == (tmp_path / "disk again").read_bytes()


def test_validation_texts_of_their_own(tmp_path: Path) -> None:
    texts, labels = made_up(90)
    held = made_up(40, seed=1)
    options = {**SMALL, "ngrams": 2, "keep": "windows"}
    TextClassifier(**options).fit(texts, labels, validation=held).save(tmp_path / "memory")
    classifier = TextClassifier(**options)
    classifier.fit_stream([(texts[:50], labels[:50]), (texts[50:], labels[50:])], validation=held)
    classifier.save(tmp_path / "disk")
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()


@pytest.mark.parametrize("form", ["lists", "indicators"])
def test_several_labels_in_portions(form: str, tmp_path: Path) -> None:
    texts, single = made_up(90)
    lists = [[label, *(["x"] if i % 4 == 0 else [])] for i, label in enumerate(single)]
    lists[7] = []
    given: list[Any] = lists
    if form == "indicators":
        given = np.array([[name in row for name in "abcx"] for row in lists]).astype(int)  # type: ignore[assignment]
    memory = TextClassifier(**SMALL).fit(texts, given)
    disk = TextClassifier(**SMALL).fit_stream([(texts[:8], given[:8]), (texts[8:], given[8:])])
    memory.save(tmp_path / "memory")
    disk.save(tmp_path / "disk")
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()


def test_a_sample_of_more_texts_than_a_linear_model_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "MOST_TEXTS", 70)
    texts, labels = made_up(150)
    options = {**SMALL, "ngrams": 2, "epochs": 1}
    memory = TextClassifier(**options).fit(texts, labels)
    disk = TextClassifier(**options).fit_stream(Portions(texts, labels, (40, 100)))
    memory.save(tmp_path / "memory")
    disk.save(tmp_path / "disk")
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()
    rows, _ = memory.split(150)
    alone = TextClassifier(**options, validation_fraction=0.0)
    alone.fit([texts[row] for row in sorted(rows[:70])], [labels[row] for row in sorted(rows[:70])])
    # The same texts, though in another order: weights that are near, not equal.
    assert memory.ngrams_ is not None
    assert alone.ngrams_ is not None
    seen = memory.ngrams_.weights.any(axis=1)
    assert seen.sum() == alone.ngrams_.weights.any(axis=1).sum()


def test_continuing_from_portions(tmp_path: Path) -> None:
    texts, labels = made_up(60)
    start = TextClassifier(**SMALL, ngrams=2).fit(texts, labels)
    more = [f"{text} new{i % 7}" for i, text in enumerate(made_up(60, seed=2)[0])]
    fresh = ["d" if i % 2 else "a" for i in range(60)]
    TextClassifier.continue_from(start, more, fresh).save(tmp_path / "memory")
    classifier = TextClassifier(**start.get_params())
    given = [(more[:30], fresh[:30]), (more[30:], fresh[30:])]
    for _ in classifier.fit_stream_steps(given, start=Start(start)):
        pass
    classifier.save(tmp_path / "disk")
    assert classifier.classes_.tolist() == ["a", "b", "c", "d"]
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()


@pytest.mark.parametrize("begun_in", ["memory", "disk"])
def test_a_stopped_run_goes_on_in_memory_or_on_disk(begun_in: str, tmp_path: Path) -> None:
    texts, labels = made_up(120)
    options = {**SMALL, "ngrams": 1, "word_dropout": 0.1}
    TextClassifier(**options).fit(texts, labels).save(tmp_path / "whole")
    kept: dict[str, Any] = {"checkpoint": tmp_path / "kept"}
    given = Portions(texts, labels, (50,))

    def run(place: str, *, resume: bool) -> tuple[TextClassifier, Iterator[Any]]:
        classifier = TextClassifier(**options)
        if place == "memory":
            return classifier, classifier.fit_steps(texts, labels, **kept, resume=resume)
        return classifier, classifier.fit_stream_steps(given, **kept, resume=resume)

    _, events = run(begun_in, resume=False)
    for event in events:
        if isinstance(event, EpochResult):
            break  # the checkpoint holds the first epoch
    del event, events  # which closes it
    other, events = run("disk" if begun_in == "memory" else "memory", resume=True)
    steps = list(events)
    assert next(e.epoch for e in steps if isinstance(e, StepResult)) == 2
    other.save(tmp_path / "resumed")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_events_and_the_survey() -> None:
    texts, labels = made_up(100)
    texts[30], labels[30], labels[3] = texts[3], "a", "b"
    classifier = TextClassifier(**SMALL, ngrams=1)
    test = LabeledTexts([texts[5], "never seen"], ["a", "b"])
    measured = (test.texts, test.labels)
    events = list(classifier.fit_stream_steps(Portions(texts, labels, (40,)), test=measured))
    read = [event for event in events if isinstance(event, ReadResult)]
    assert [(r.reading, r.texts, r.total) for r in read] == [
        (1, 40, None),
        (1, 100, None),
        (2, 40, 100),
        (2, 100, 100),
    ]
    (found,) = [event for event in events if isinstance(event, Survey)]
    assert events.index(found) == 2
    training, held = classifier.split(100)
    wanted = survey(
        LabeledTexts(texts, labels),
        token_counts(Tokenizer("words", Vocabulary(("a",))), texts),
        SMALL["max_length"],
        training=training,
        held_out={"validation": LabeledTexts(texts, labels).select(held), "test": test},
    )
    assert found == wanted
    there = [text for text in texts if text.strip()]
    assert (found.rows, found.empty, found.conflicting) == (100, 2, 1)
    assert found.copies == len(there) - len(set(there)) > 0
    assert found.shared["test"] == int(5 in training)


# ---------------------------------------------------------------------------
# What can't be


def test_what_can_be_read_only_once() -> None:
    with pytest.raises(ConfigError, match="generator, which can be read only once"):
        TextClassifier(**SMALL).fit_stream((["a"], ["b"]) for _ in range(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no texts to train on"),
        ([(["a"],)], "portion 0 is no pair"),
        ([(["a", "b"], ["x"])], "2 texts have 1 labels"),
        ([(["a", "b"], ["x", "x"])], "every label is 'x'"),
        ([(["a"], ["x"]), ([None], ["y"])], "text 0 is a NoneType"),
        ([(["a"], ["x"]), (["b"], [1])], "labels mix int, str"),
        ([(["a"], ["x"]), (["b"], [["y"]])], "labels are lists, and before they were one"),
    ],
)
def test_portions_that_are_none(given: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TextClassifier(**SMALL).fit_stream(given)


def test_texts_that_change_between_the_readings() -> None:
    class Changing(Portions):
        def __iter__(self) -> Iterator[tuple[list[str], list[Any]]]:
            yield from super().__iter__()
            if self.readings == 2:
                yield ["one more"], ["a"]

    with pytest.raises(DataError, match=r"not the same when they are read a second time \(61 and"):
        TextClassifier(**SMALL).fit_stream(Changing(*made_up(60), (30,)))


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    class Full:
        """A file on a disk that is soon full."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: Any) -> int:
            nonlocal written
            if written >= 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += 100
            return int(self.file.write(data[:100]))

    opened = WorkFile.__init__

    def full(self: WorkFile, folder: Path | None) -> None:
        opened(self, folder)
        self._file = Full(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(WorkFile, "__init__", full)
    monkeypatch.setattr("tidegate.stored._WRITTEN_TOGETHER", 64)
    with pytest.raises(OutputError, match=r"ids in '.*': No space left.*choose another folder"):
        TextClassifier(**SMALL).fit_stream([made_up(300)], folder=tmp_path)
    assert not os.listdir(tmp_path)
    missing = tmp_path / "none"
    with pytest.raises(OutputError, match="No such file or directory; free some space, or choose"):
        TextClassifier(**SMALL).fit_stream([made_up(30)], folder=missing)


# ---------------------------------------------------------------------------
# Rows on disk


@pytest.mark.parametrize("largest", [2**16 - 1, 2**16, 2**31 - 1])
def test_rows_come_back(largest: int) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(0, 7, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = generator.integers(0, largest, int(offsets[-1]), dtype=np.int64, endpoint=True)
    values[:2] = 0, largest
    with Work(None) as work:
        rows = StoredRows(work.file(), largest)
        for begin, end in ((0, 13), (13, 13), (13, 40)):
            part = offsets[begin : end + 1]
            rows.append(values[part[0] : part[-1]].astype(np.int32), part - part[0])
        assert len(rows) == 40
        order = generator.permutation(40)
        found, ends = rows.read(order)
        assert np.array_equal(np.diff(ends), lengths[order])
        expected = [values[offsets[row] : offsets[row + 1]] for row in order]
        assert np.array_equal(found, np.concatenate(expected))
        assert np.array_equal(rows.lengths(order), lengths[order])
        texts = StoredTexts(rows, order[:0])
        assert [len(block) for block in texts.blocks()] == [0]


def test_a_damaged_row_is_an_error() -> None:
    with Work(None) as work:
        rows = StoredRows(work.file(), 100)
        rows.append(np.arange(10, dtype=np.int32), np.array([0, 4, 10]))
        rows.read(np.array([0, 1]))
        rows.file._file.seek(14)
        rows.file._file.write(b"?")
        assert rows.read(np.array([0]))[0].tolist() == [0, 1, 2, 3]
        with pytest.raises(DataError, match=r"ids of text 1 in .* not those that were written"):
            rows.read(np.array([1]))
        rows.file._file.truncate(5)
        with pytest.raises(DataError, match="ids of text 0"):
            rows.read(np.array([0]))


def test_interrupts_close_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[WorkFile] = []
    close = WorkFile.close

    def noted(self: WorkFile) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(WorkFile, "close", noted)
    classifier = TextClassifier(**SMALL, ngrams=1)
    with closing(classifier.fit_stream_steps([made_up(60)])) as events:  # type: ignore[type-var]
        next(event for event in events if isinstance(event, StepResult))
    assert len(closed) == 3
    assert all(file._file.closed for file in closed)
