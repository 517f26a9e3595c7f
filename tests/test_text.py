"""Tokens, vocabulary and ids, against Keras's rules stated once more in plain words."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidegate.errors import ConfigError, DataError
from tidegate.text import (
    FIRST_WORD_ID,
    PADDING_ID,
    START_ID,
    START_MARK,
    UNKNOWN_ID,
    Tokenizer,
    Vocabulary,
)
from tidegate.tokens import lecture_tokens

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates among them
# Few letters and many separators, so that words repeat and pieces are empty.
WORDY_TEXT = st.text("aAbB' .,-<\t\n\r\u00a0é", max_size=40)
# A slow machine is no failure.
at_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORD = ANY_TEXT.filter(lambda word: word and "\n" not in word)


def keras_tokens(text: str) -> list[str]:
    """Character by character: what ends a word, what is dropped, what is kept."""
    words = [""]
    for character in text.lower():
        if character in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n ':
            words.append("")
        else:
            words[-1] += character
    return [word for word in words if word]


@at_any_speed
@given(ANY_TEXT | WORDY_TEXT)
@example("\ud800 a\udfff")
@example("ΟΔΟΣ. ΟΔΟΣΑ")  # the small sigma depends on what follows
def test_tokens_follow_the_rules_on_any_text(text: str) -> None:
    assert lecture_tokens(text) == keras_tokens(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" .\t\n--- ", []),
        ("It's GREAT!", ["it's", "great"]),
        ("so good.<br /><br />Go!", ["so", "good", "br", "br", "go"]),
        ("a_b-c/d@e", ["a", "b", "c", "d", "e"]),
        ("one\u00a0word one\rword a\x0bb\x1fc", ["one\u00a0word", "one\rword", "a\x0bb\x1fc"]),
        ("10/10 — “wow”…", ["10", "10", "—", "“wow”…"]),
        ("ÀÉ İ ΣΑΣ ẞ", ["àé", "i\u0307", "σας", "ß"]),
        ("很好 🎬", ["很好", "🎬"]),
    ],
)
def test_tokens_of_known_texts(text: str, tokens: list[str]) -> None:
    assert lecture_tokens(text) == tokens


@pytest.mark.parametrize("separator", list('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n '))
def test_every_separator_separates(separator: str) -> None:
    assert lecture_tokens(f"left{separator}right") == ["left", "right"]


def test_special_ids_are_kerass() -> None:
    assert (PADDING_ID, START_ID, UNKNOWN_ID, FIRST_WORD_ID) == (0, 1, 2, 4)


def test_vocabulary_orders_by_frequency_then_by_first_appearance() -> None:
    vocabulary = Vocabulary.build([["d", "c", "b"], ["b", "a", "a", "c", "b"]], size=100)
    assert vocabulary.words == ("b", "c", "a", "d")
    assert vocabulary.size == 8
    assert [vocabulary.id_of(word) for word in ("b", "c", "a", "d", "e")] == [4, 5, 6, 7, 2]


def test_vocabulary_size_counts_the_special_ids() -> None:
    tokens = [["a", "a", "b", "b", "c"]]
    assert Vocabulary.build(tokens, size=5).words == ("a",)
    assert Vocabulary.build(tokens, size=6).words == ("a", "b")
    assert Vocabulary.build(iter(map(iter, tokens)), size=7).words == ("a", "b", "c")


@at_any_speed
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=9), max_size=9), st.integers(5, 12))
def test_vocabulary_is_the_plain_count(tokens: list[list[str]], size: int) -> None:
    flat = [word for words in tokens for word in words]
    if not flat:
        with pytest.raises(DataError, match="no words"):
            Vocabulary.build(tokens, size)
        return
    ranked = sorted(set(flat), key=lambda word: (-flat.count(word), flat.index(word)))
    assert Vocabulary.build(tokens, size).words == tuple(ranked[: size - 4])


@pytest.mark.parametrize("size", [4, 1, 0, -3])
def test_vocabulary_size_without_room_for_a_word(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"vocabulary_size={size} .*at least 5"):
        Vocabulary.build([["a"]], size)


@at_any_speed
@given(st.lists(WORD, unique=True))
@example([])
@example(["\ud83d\ude00"])  # two lone surrogates, not the character that they would make
@example(["😀", "\ud83d", "\r", " ", "\0"])
def test_vocabulary_bytes_round_trip(words: list[str]) -> None:
    vocabulary = Vocabulary(tuple(words))
    again = Vocabulary.from_bytes(vocabulary.to_bytes())
    assert again == vocabulary
    assert [again.id_of(word) for word in words] == list(range(4, 4 + len(words)))


def test_vocabulary_bytes_are_plain_lines() -> None:
    assert Vocabulary(("the", "é")).to_bytes() == b"the\n\xc3\xa9"
    assert Vocabulary(()).to_bytes() == b""


@at_any_speed
@given(st.binary() | st.text("ab\n", max_size=6).map(str.encode))
def test_vocabulary_from_any_bytes_is_read_back_or_refused(data: bytes) -> None:
    try:
        vocabulary = Vocabulary.from_bytes(data)
    except DataError:
        return
    assert vocabulary.to_bytes() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"the\nfilm\nthe", "'the' more than once"),
        (b"the\n", "at least one character"),
        (b"\nthe", "at least one character"),
        (b"the\n\nfilm", "at least one character"),
        (b"the\n\xff", "not UTF-8 at byte 4"),
        (b"\xc0\x80", "not UTF-8 at byte 0"),
    ],
)
def test_vocabulary_refuses_bad_bytes(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Vocabulary.from_bytes(data)
    assert "\n" not in str(caught.value)


def test_vocabulary_refuses_a_word_that_it_could_not_write() -> None:
    with pytest.raises(DataError, match=r"'a\\nb' as a word"):
        Vocabulary(("a\nb",))


@pytest.fixture
def tokenizer() -> Tokenizer:
    """the 4, film 5, a 6."""
    return Tokenizer.fit(["The film, the film!", "THE a"], vocabulary_size=7)


def test_fit_reads_an_iterator_once() -> None:
    tokenizer = Tokenizer.fit(iter(["b b", "a"]), 1000)
    assert tokenizer == Tokenizer("lecture", Vocabulary(("b", "a")))


def test_encode_starts_with_the_start_id_and_is_uncut(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("A dreadful film: the film")
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 6, 2, 5, 4, 5]
    assert tokenizer.encode("").tolist() == [1]
    assert tokenizer.encode("a " * 1000).tolist() == [1] + [6] * 1000


@pytest.mark.parametrize(
    ("max_length", "rows"),
    [
        (1, [[5], [1], [2]]),
        (3, [[4, 2, 5], [1], [1, 2]]),
        (4, [[1, 4, 2, 5], [1], [1, 2]]),
        (9, [[1, 4, 2, 5], [1], [1, 2]]),
    ],
)
def test_encode_all_keeps_the_last_ids(
    tokenizer: Tokenizer, max_length: int, rows: list[list[int]]
) -> None:
    encoded = tokenizer.encode_all(iter(["the worst film", "", "unheard"]), max_length)
    assert len(encoded) == 3
    assert [encoded.row(i).tolist() for i in range(3)] == rows
    assert encoded.token_ids.dtype == np.int32
    assert encoded.offsets.dtype == np.int64


def test_encode_all_of_no_texts(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_all([], 5)
    assert len(encoded) == 0
    assert encoded.token_ids.tolist() == []
    assert encoded.offsets.tolist() == [0]


@at_any_speed
@given(st.lists(WORDY_TEXT, min_size=1), st.integers(1, 12))
def test_encode_all_and_strings_agree_with_encode(texts: list[str], max_length: int) -> None:
    tokenizer = Tokenizer.fit([*texts, "a b a'b"], vocabulary_size=8)
    encoded = tokenizer.encode_all(texts, max_length)
    for i, text in enumerate(texts):
        assert encoded.row(i).tolist() == tokenizer.encode(text)[-max_length:].tolist()
        strings = tokenizer.token_strings(text, max_length)
        assert strings == [START_MARK, *keras_tokens(text)][-max_length:]
        ids = [START_ID if s == START_MARK else tokenizer.vocabulary.id_of(s) for s in strings]
        assert ids == encoded.row(i).tolist()


def test_long_text_is_encoded(tokenizer: Tokenizer) -> None:
    text = "the <br /> film... " * 250_000
    assert tokenizer.encode_all([text], 4).row(0).tolist() == [5, 4, 2, 5]


@pytest.mark.parametrize("texts", [[], ["", " ... ", "\n"]])
def test_fit_without_words(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no words"):
        Tokenizer.fit(texts, 100)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is a NoneType (None), not a str; drop it or fill it in"),
        (float("nan"), "is a float (nan), not a str; drop it or fill it in"),
        (b"bytes", "is a bytes (b'bytes'), not a str; decode it first"),
        (7, "is a int (7), not a str; drop it or fill it in"),
    ],
)
def test_text_that_is_no_str(tokenizer: Tokenizer, value: object, message: str) -> None:
    texts: list[str] = ["fine", "fine too", value]  # type: ignore[list-item]
    for call in (lambda: Tokenizer.fit(texts, 9), lambda: tokenizer.encode_all(texts, 9)):
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == f"text 2 {message}"
    with pytest.raises(DataError, match="text 0 is a"):
        tokenizer.encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", ["one text", b"bytes", None, 3])
def test_texts_that_are_no_list(tokenizer: Tokenizer, texts: list[str]) -> None:
    with pytest.raises(DataError, match="give a list of str"):
        tokenizer.encode_all(texts, 9)
    with pytest.raises(DataError, match="give a list of str"):
        Tokenizer.fit(texts, 9)


@pytest.mark.parametrize("max_length", [0, -1])
def test_max_length_that_keeps_nothing(tokenizer: Tokenizer, max_length: int) -> None:
    with pytest.raises(ConfigError, match=f"max_length={max_length} "):
        tokenizer.encode_all(["a"], max_length)
    with pytest.raises(ConfigError, match=f"max_length={max_length} "):
        tokenizer.token_strings("a", max_length)


def test_unknown_kind() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer='lectures'.*did you mean 'lecture'"):
        Tokenizer("lectures", Vocabulary(()))  # type: ignore[arg-type]


def test_no_word_at_all_makes_every_word_unknown() -> None:
    tokenizer = Tokenizer("lecture", Vocabulary(()))
    assert tokenizer.vocabulary.size == 4
    assert tokenizer.encode("any word").tolist() == [1, 2, 2]


def test_tokenizer_pickles(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301
    assert again == tokenizer
    assert again.encode("a film").tolist() == [1, 6, 5]


def test_real_reviews_are_the_plain_count_and_ids(real_reviews: Path) -> None:
    from tidegate.data import load_imdb  # not everywhere that this file is run

    texts = load_imdb(real_reviews).train.texts
    tokens = list(map(lecture_tokens, texts))
    tokenizer = Tokenizer.fit(texts, vocabulary_size=10_000)
    assert tokenizer.vocabulary == Vocabulary.build(tokens, 10_000)
    known = {word: id_ for id_, word in enumerate(tokenizer.vocabulary.words, FIRST_WORD_ID)}
    ids = [[START_ID, *(known.get(word, UNKNOWN_ID) for word in words)] for words in tokens]
    for max_length in (200, 10_000):
        encoded = tokenizer.encode_all(texts, max_length)
        assert encoded.token_ids.tolist() == [id_ for row in ids for id_ in row[-max_length:]]
        assert encoded.lengths.tolist() == [min(len(row), max_length) for row in ids]
    for text, row in zip(texts[::100], ids[::100], strict=True):
        assert tokenizer.encode(text).tolist() == row
