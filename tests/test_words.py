"""The compiled module's words, ids and counts, against the rules and a plain count in Python."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidegate import _kernels, ops, text
from tidegate.errors import ConfigError, DataError
from tidegate.text import (
    FIRST_WORD_ID,
    KEEPS,
    START_ID,
    START_MARK,
    UNKNOWN_ID,
    Tokenizer,
    Vocabulary,
)
from tidegate.tokens import TOKENIZERS, TokenizerKind, lecture_tokens, tokens, word_tokens

pytestmark = pytest.mark.usefixtures("restored_threads")

# What lower-casing changes in length, in kind or by what stands beside it: dotted I, final sigma,
# title-case digraphs, ligatures, marks that combine, signs whose lower case is ASCII or has more
# bytes, letters beyond 16 bits, halves of surrogate pairs.
CASES = "İıΣσςßẞǅǆﬁﬀ\u0301\u0345\u0307\u212a\u212b\u023aÀé\u00a0\u2028\u3000𐐀𝐀😀\ud83d\ude00很"
ANY_TEXT = st.text(st.characters(exclude_categories=()))
ODD_TEXT = st.text(CASES + "aAzZ09'’. -<\t\n\r\0\x0b\x1f\x7f\u200d\ufe0f", max_size=200)
ASCII_TEXT = st.text(st.characters(max_codepoint=127), max_size=200)
WORDY_TEXT = st.text("aAb .", max_size=300)  # words that recur
MARKED_TEXT = st.lists(  # apostrophes and line breaks, side by side
    st.sampled_from(
        ["a", "B", "'", "<br", "<BR", " ", "\t", "/", ">", "<br />", "\n", "\r", "é", "."]
    )
).map("".join)
TEXT = ANY_TEXT | ODD_TEXT | ASCII_TEXT | WORDY_TEXT | MARKED_TEXT
every_kind = pytest.mark.parametrize("kind", TOKENIZERS)
at_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plain_ids(
    texts: list[str], vocabulary: Vocabulary, max_length: int, kind: TokenizerKind = "lecture"
) -> list[list[int]]:
    known = {word: id_ for id_, word in enumerate(vocabulary.words, FIRST_WORD_ID)}
    rows = [[known.get(word, UNKNOWN_ID) for word in tokens(kind, each)] for each in texts]
    return [[START_ID, *row][-max_length:] for row in rows]


def encoded_ids(
    texts: list[str], vocabulary: Vocabulary, max_length: int, kind: TokenizerKind = "lecture"
) -> list[list[int]]:
    encoded = Tokenizer(kind, vocabulary).encode_all(texts, max_length)
    return [encoded.row(i).tolist() for i in range(len(encoded))]


def all_words(texts: list[str], kind: TokenizerKind = "lecture") -> Vocabulary:
    """Every word that the rules find, so that no two of them share an id."""
    found = itertools.chain.from_iterable(tokens(kind, each) for each in texts)
    return Vocabulary(tuple(dict.fromkeys(found)))


def assert_words_are_the_rules(texts: list[str], kind: TokenizerKind = "lecture") -> None:
    """Found by the compiled module: the same words, in the same places."""
    vocabulary = all_words(texts, kind)
    expected = plain_ids(texts, vocabulary, 10**9, kind)
    assert encoded_ids(texts, vocabulary, 10**9, kind) == expected
    tokenizer = Tokenizer(kind, vocabulary)
    assert [tokenizer.encode(each).tolist() for each in texts] == expected


@every_kind
@at_any_speed
@given(texts=st.lists(TEXT, min_size=1))
@example([""])
@example([" .\t\n-"])
@example(["ΟΔΟΣ. ΟΔΟΣΑ ΑΣ.Α ΑΣ' Σ"])  # the small sigma depends on what follows, past separators
@example(["\ud83d\ude00 😀 \ud83d \ude00"])  # two halves are not the whole
@example(["\u212aelvin Kelvin kelvin"])  # its lower case is ASCII
@example(["\u023a\u023a\u023a İİİ"])  # more bytes than before
@example(["a\0b a\0c \0 \0\0 a\0", "a"])
@example(["one\rword one\r\nword\r"])
@example(["don't 'tis rock'n'roll dogs' a''b ' '' x'"])
@example(["<br><BR/><br / ><br\t/>\n \r\n.<br", "a<br />\u00a0<br />b"])
def test_words_are_the_rules_on_any_text(kind: TokenizerKind, texts: list[str]) -> None:
    assert_words_are_the_rules(texts, kind)


@every_kind
@at_any_speed
@given(
    texts=st.lists(TEXT, min_size=1),
    others=st.lists(TEXT),
    max_length=st.integers(1, 12),
    data=st.data(),
)
def test_ids_are_the_plain_ones(
    kind: TokenizerKind, texts: list[str], others: list[str], max_length: int, data: st.DataObject
) -> None:
    """Some words have an id, others have none, and long texts are cut."""
    words = all_words(texts + others, kind).words
    chosen = data.draw(st.lists(st.sampled_from(words), unique=True)) if words else []
    vocabulary = Vocabulary((*chosen, "a b", "A"))  # two that no text has
    expected = plain_ids(texts, vocabulary, max_length, kind)
    assert encoded_ids(texts, vocabulary, max_length, kind) == expected


@every_kind
@at_any_speed
@given(texts=st.lists(TEXT), size=st.integers(5, 30))
def test_fit_is_the_plain_count(kind: TokenizerKind, texts: list[str], size: int) -> None:
    found = [tokens(kind, each) for each in texts]
    if not any(found):
        with pytest.raises(DataError, match="no words"):
            Tokenizer.fit(texts, size, kind)
        return
    assert Tokenizer.fit(texts, size, kind).vocabulary == Vocabulary.build(found, size)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("It's GREAT!!", "it's great ! !"),
        ("don’t 'quote' dogs'", "don't ' quote ' dogs '"),
        ("7.5/10, well-made", "7 . 5 / 10 , well - made"),
        ("one<br /><br />two\n\nthree", "one <br> two <br> three"),
        ("a <br/>\r\n \u00a0<BR> b", "a <br> b"),
        ("a <b>bold</b> <br", "a < b > bold < / b > < br"),
        ("love it 😀❤\ufe0f!", "love it 😀 ❤ !"),
        ("👩\u200d🚀", "👩 🚀"),
        ("我爱电影 and cinéma", "我 爱 电 影 and cinéma"),
        ("हिन्दी फ़िल्म", "हिन्दी फ़िल्म"),  # marks belong to their words
        ("cafe\u0301 — «bon»", "cafe\u0301 — « bon »"),
        ("ΟΔΟΣ. Straße", "οδος . straße"),
        ("\n <br> a\n", "a"),
        (" \n\t<br />", ""),
        ("snake_case\x00\x7fend", "snake _ case end"),
        ("so\u00adft \ufeff", "soft"),
        ("", ""),
    ],
)
def test_word_tokens(given_text: str, expected: str) -> None:
    assert word_tokens(given_text) == expected.split(" ") * bool(expected)
    assert_words_are_the_rules([given_text], "words")


@every_kind
@pytest.mark.parametrize("letter", ["a", "Z", "é", "😀", "\ud800"])
def test_words_and_gaps_of_every_length(letter: str, kind: TokenizerKind) -> None:
    """Across the ends of machine words and of blocks of 64 bytes, from both sides."""
    lengths = [*range(1, 20), *range(60, 70), *range(124, 132)]
    texts = []
    for length, gap in itertools.product(lengths, (1, 2, 7, 63, 64, 65)):
        word, space = letter * length, " " * gap
        texts += [word, space + word, word + space, word + space + word, space + word + space]
    assert_words_are_the_rules(texts, kind)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 70])
def test_words_that_differ_in_one_byte_are_different(length: int) -> None:
    base = "x" * length
    others = [f"{base[:i]}{other}{base[i + 1 :]}" for i in range(length) for other in "y\0'é"]
    words = list(dict.fromkeys([base, base[:-1] or "q", base + "x", base + "\0", *others]))
    vocabulary = Vocabulary(tuple(words))
    ids = list(range(FIRST_WORD_ID, FIRST_WORD_ID + len(words)))
    assert list(map(vocabulary.id_of, words)) == ids
    assert encoded_ids(words, vocabulary, 1) == [[id_] for id_ in ids]
    known, unknown = Vocabulary(tuple(words[::2])), words[1::2]
    assert set(map(known.id_of, unknown)) <= {UNKNOWN_ID}


def test_a_table_that_grows_keeps_its_words() -> None:
    words = [f"{prefix}{i:x}" for i in range(20_000) for prefix in ("", "longerprefix")]
    vocabulary = Vocabulary(tuple(words))
    assert list(map(vocabulary.id_of, words)) == list(range(4, 4 + len(words)))
    joined = " ".join(words)
    counted = Tokenizer.fit([joined, joined], 10**9)
    assert counted.vocabulary == vocabulary


def test_the_id_of_a_word_that_no_text_can_have() -> None:
    vocabulary = Vocabulary(("Upper", "two words", "é", "\ud800"))
    words = [*vocabulary.words, "", "upper", "\n"]
    assert list(map(vocabulary.id_of, words)) == [4, 5, 6, 7, 2, 2, 2]
    assert Vocabulary(()).id_of("") == UNKNOWN_ID


def test_a_text_of_one_endless_word() -> None:
    word = "ab" * 1_000_000
    assert_words_are_the_rules([word, f"{word} {word}c", f"{word}\0"])


# --- blocks and threads ------------------------------------------------------------------------


def make_texts(count: int) -> list[str]:
    """Texts of many lengths, whose words tie often; every tenth isn't ASCII."""
    generator = np.random.default_rng(3)
    texts = []
    for i, length in enumerate(generator.integers(0, 60, count)):
        words = [f"w{number}" for number in generator.zipf(1.3, length) % 3_000]
        texts.append(" ".join(words) + (" ÉTÉ" if i % 10 == 0 else "."))
    return texts


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("block_characters", [1, 5_000, 1 << 21])
def test_threads_and_blocks_change_nothing(
    threads: int, block_characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = make_texts(4_000)
    monkeypatch.setattr(text, "_BLOCK_CHARACTERS", block_characters)
    ops.set_threads(threads)
    plain = Vocabulary.build(map(lecture_tokens, texts), 500)
    assert Tokenizer.fit(iter(texts), 500).vocabulary == plain
    everything = Vocabulary.build(map(lecture_tokens, texts), 10**9)
    assert Tokenizer.fit(iter(texts), 10**9).vocabulary == everything
    assert encoded_ids(texts, plain, 20) == plain_ids(texts, plain, 20)


@pytest.mark.parametrize("threads", [1, 2])
def test_several_callers_at_once(threads: int) -> None:
    """They share one tokeniser, whose table none of them has built before."""
    texts = make_texts(300)
    tokenizer = Tokenizer("lecture", Vocabulary.build(map(lecture_tokens, texts), 200))
    expected = plain_ids(texts, tokenizer.vocabulary, 15)
    ops.set_threads(threads)
    start = threading.Barrier(4)

    def caller() -> None:
        start.wait(timeout=60)
        for _ in range(5):
            assert encoded_ids(texts, tokenizer.vocabulary, 15) == expected
            assert Tokenizer.fit(texts, 200) == tokenizer

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(caller) for _ in range(4)]:
            done.result(timeout=120)


class Counted(str):
    """A text that says how many of its kind there are."""

    __slots__ = ()
    alive = 0
    most = 0

    def __new__(cls, content: str) -> Counted:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, content)

    def __del__(self) -> None:
        type(self).alive -= 1


def test_texts_of_an_iterator_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_BLOCK_CHARACTERS", 1_000)
    Counted.most = Counted.alive

    def texts() -> Iterator[str]:
        return (Counted("a film like any other") for _ in range(5_000))

    tokenizer = Tokenizer.fit(texts(), 100)
    assert len(tokenizer.encode_all(texts(), 10)) == 5_000
    assert Counted.most < 50


@pytest.mark.parametrize("block_characters", [1, 200, 1 << 21])
def test_an_error_names_its_text_in_any_block(
    block_characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_BLOCK_CHARACTERS", block_characters)
    texts: list[str] = ["a"] * 1_000
    texts[777] = None  # type: ignore[call-overload]
    for call in (lambda: Tokenizer.fit(texts, 9), lambda: encoded_ids(texts, Vocabulary(()), 9)):
        with pytest.raises(DataError, match=r"^text 777 is a NoneType \(None\), not a str"):
            call()


def test_an_iterators_own_error_passes() -> None:
    def texts() -> Iterator[str]:
        yield "one"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Tokenizer.fit(texts(), 9)
    with pytest.raises(OSError, match="the disk is gone"):
        Tokenizer("lecture", Vocabulary(())).encode_all(texts(), 9)


# --- what may be handed in and what comes out --------------------------------------------------


def test_kinds_of_str_and_of_numbers() -> None:
    tokenizer = Tokenizer("lecture", Vocabulary(("a", "é")))
    texts: list[str] = [np.str_("A b"), np.str_("É b"), Counted("B a"), "a\ud800"]
    for most in (2, np.int64(2), np.uint8(2)):
        encoded = tokenizer.encode_all(texts, most)  # type: ignore[arg-type]
        assert encoded.token_ids.tolist() == [4, 2, 5, 2, 2, 4, 1, 2]
    for most in (2**63 - 1, 10**30):
        assert len(tokenizer.encode_all(texts, most).token_ids) == 11
    assert tokenizer.encode(np.str_("É")).tolist() == [1, 5]
    assert Tokenizer.fit(texts, 10**30).vocabulary.words == ("b", "a", "é", "a\ud800")


def test_ids_can_be_written_and_outlive_the_tokeniser() -> None:
    tokenizer = Tokenizer.fit(["a film"], 10)
    one, many = tokenizer.encode("a film"), tokenizer.encode_all(["a film"], 3)
    del tokenizer
    for ids in (one, many.token_ids):
        assert ids.tolist() == [1, 4, 5]
        ids[0] = 7
        assert ids.tolist() == [7, 4, 5]


def test_copies_are_equal_and_encode() -> None:
    vocabulary = Vocabulary(("a", "film", "\ud800"))
    tokenizer = Tokenizer("lecture", vocabulary)
    for warm in (False, True):
        if warm:
            tokenizer.encode("a")  # from here on it has a table
        for copied in (
            copy.copy(tokenizer),
            copy.deepcopy(tokenizer),
            dataclasses.replace(tokenizer),
            dataclasses.replace(tokenizer, vocabulary=dataclasses.replace(vocabulary)),
            pickle.loads(pickle.dumps(tokenizer)),  # noqa: S301
        ):
            assert copied == tokenizer
            assert hash(copied) == hash(tokenizer)
            assert repr(copied) == repr(tokenizer)
            assert copied.encode("a \ud800 film b").tolist() == [1, 4, 6, 5, 2]
        assert dataclasses.asdict(tokenizer)["vocabulary"] == {"words": vocabulary.words}
    assert pickle.dumps(tokenizer) == pickle.dumps(Tokenizer("lecture", vocabulary))


def test_the_module_refuses_what_is_no_text() -> None:
    ids = _kernels.WordIds(0, b"a\nb", start=1, unknown=2, first=4)
    with pytest.raises(TypeError):
        ids.encode(["a", 3], 5)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        ids.encode("a", 5)  # type: ignore[arg-type]
    counts = _kernels.WordCounts(0)
    assert counts.most_frequent(5) == []
    with pytest.raises(TypeError):
        counts.add([b"a"])  # type: ignore[list-item]
    counts.add(["b a b"])
    assert counts.most_frequent(1) == ["b"]
    counts.add(["a a"])  # one may go on
    assert counts.most_frequent(5) == ["a", "b"]


# --- what is kept of a long text


CUTS = tuple(keep for keep in KEEPS if keep != "windows")  # which cuts nothing away


def cut(row: list[int], keep: str, most: int) -> list[int]:
    if len(row) <= most:
        return row
    head = {"end": 0, "start": most, "both": most // 4}[keep]
    return row[:head] + row[len(row) - (most - head) :]


@every_kind
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "é"]), max_size=30)),
    keep=st.sampled_from(CUTS),
    most=st.integers(1, 20),
)
def test_what_is_kept_of_a_long_text(
    kind: TokenizerKind, texts: list[list[str]], keep: str, most: int
) -> None:
    joined = [" ".join(words) for words in texts]
    vocabulary = Vocabulary(("a", "b", "é"))
    tokenizer = Tokenizer(kind, vocabulary, keep)
    encoded = tokenizer.encode_all(joined, most)
    whole = plain_ids(joined, vocabulary, 10**9, kind)
    assert [encoded.row(i).tolist() for i in range(len(texts))] == [
        cut(row, keep, most) for row in whole
    ]
    for row, words in zip(whole, joined, strict=True):
        strings = tokenizer.token_strings(words, most)
        assert len(strings) == min(most, len(row))
        shown = [START_ID if s == START_MARK else vocabulary.id_of(s) for s in strings]
        assert shown == cut(row, keep, most)


@every_kind
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "é"]), max_size=20)),
    keep=st.sampled_from(CUTS),
    start=st.booleans(),
    unknown=st.booleans(),
    most=st.integers(1, 12),
)
def test_what_is_left_out(
    kind: TokenizerKind, texts: list[list[str]], keep: str, start: bool, unknown: bool, most: int
) -> None:
    """Before the cut, so that other words take the place of what is left out."""
    joined = [" ".join(words) for words in texts]
    vocabulary = Vocabulary(("a", "b", "é"))
    tokenizer = Tokenizer(kind, vocabulary, keep, start, unknown)
    left_out = [*([] if start else [START_ID]), *([] if unknown else [UNKNOWN_ID])]
    whole = [
        [i for i in row if i not in left_out] for row in plain_ids(joined, vocabulary, 10**9, kind)
    ]
    encoded = tokenizer.encode_all(joined, most)
    for i, row in enumerate(whole):
        assert encoded.row(i).tolist() == cut(row, keep, most)
        assert tokenizer.encode(joined[i]).tolist() == row
        strings = tokenizer.token_strings(joined[i], most)
        shown = [START_ID if s == START_MARK else vocabulary.id_of(s) for s in strings]
        assert shown == cut(row, keep, most)
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer  # noqa: S301


def test_another_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"keep='middle' is not one of end, start, both"):
        Tokenizer("words", Vocabulary(("a",)), "middle")
    assert pickle.loads(pickle.dumps(Tokenizer("words", Vocabulary(("a",)), "both"))).keep == "both"  # noqa: S301
