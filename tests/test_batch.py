"""Texts as ids, and the compiled packing against the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import ops, reference
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ShapeError

ARRAYS = (
    "rows",
    "lengths",
    "step_offsets",
    "words",
    "index",
    "occurrences",
    "occurrence_offsets",
)


def assert_same_batch(given_batch: PackedBatch, expected: PackedBatch) -> None:
    assert (given_batch.steps, given_batch.padding_steps) == (
        expected.steps,
        expected.padding_steps,
    )
    for name in ARRAYS:
        array = getattr(given_batch, name)
        assert array.dtype == np.int32, name
        np.testing.assert_array_equal(array, getattr(expected, name), err_msg=name)


@given(
    texts=st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=12),
    chosen=st.data(),
    max_length=st.integers(1, 8),
    masked=st.booleans(),
)
def test_pack_equals_the_reference(
    texts: list[list[int]], chosen: Any, max_length: int, masked: bool
) -> None:
    rows = (
        chosen.draw(st.lists(st.integers(0, len(texts) - 1), max_size=15), label="rows")
        if texts
        else []
    )
    tokenized = TokenizedTexts.from_rows(texts)
    assert_same_batch(
        ops.pack(tokenized, rows, max_length=max_length, masked=masked, vocabulary_size=12),
        reference.pack(tokenized, rows, max_length=max_length, masked=masked),
    )


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_pack_of_many_long_texts_equals_the_reference(masked: bool) -> None:
    generator = np.random.default_rng(1)
    tokenized = TokenizedTexts.from_rows(
        [generator.integers(0, 2_000, length) for length in generator.integers(0, 90, 70)]
    )
    rows = generator.permutation(70)
    assert_same_batch(
        ops.pack(tokenized, rows, max_length=64, masked=masked, vocabulary_size=2_000),
        reference.pack(tokenized, rows, max_length=64, masked=masked),
    )


def test_pack_by_hand() -> None:
    texts = TokenizedTexts.from_rows([[7], [4, 5, 6, 7], [], [6, 0]])
    batch = ops.pack(texts, [3, 1, 2, 0], max_length=3, masked=False, vocabulary_size=8)
    # Packed rows: 5 6 7 (its last three) | 6 0 | 7 | nothing, and the padding row for 3 steps
    assert batch.rows.tolist() == [1, 0, 3, 2]
    assert batch.lengths.tolist() == [3, 2, 1, 0]
    assert (batch.steps, batch.padding_steps) == (3, 3)
    assert (batch.batch_size, batch.positions, batch.total_positions) == (4, 6, 9)
    assert batch.step_offsets.tolist() == [0, 1, 3, 6]
    assert batch.words[batch.index].tolist() == [5, 6, 6, 7, 0, 7, 0, 0, 0]


def test_pack_takes_any_whole_numbers_as_rows() -> None:
    texts = TokenizedTexts.from_rows([[1, 2], [3]])
    expected = ops.pack(texts, np.array([1, 0]), max_length=4, masked=True, vocabulary_size=4)
    for rows in ([1, 0], (1, 0), np.array([1, 0], np.int32), np.array([9, 1, 9, 0])[1::2]):
        assert_same_batch(
            ops.pack(texts, rows, max_length=4, masked=True, vocabulary_size=4), expected
        )


# --- TokenizedTexts ----------------------------------------------------------------------------


@given(rows=st.lists(st.lists(st.integers(-5, 2**31 - 1), max_size=5), max_size=8))
def test_rows_come_back(rows: list[list[int]]) -> None:
    texts = TokenizedTexts.from_rows(rows)
    assert len(texts) == len(rows)
    assert [texts.row(i).tolist() for i in range(len(texts))] == rows
    assert texts.lengths.tolist() == [len(row) for row in rows]
    assert (texts.token_ids.dtype.name, texts.offsets.dtype.name) == ("int32", "int64")
    picked = list(range(len(rows) - 1, -1, -1)) * 2
    selected = texts.select(picked)
    assert [selected.row(i).tolist() for i in range(len(selected))] == [rows[i] for i in picked]


def test_selected_rows_are_copies() -> None:
    texts = TokenizedTexts.from_rows([[1, 2], [3]])
    selected = texts.select([1])
    selected.token_ids[0] = 9
    assert texts.row(1).tolist() == [3]


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("token_ids", "offsets", "message"),
    [
        (int64(1, 2), int64(0, 2), r"token_ids has dtype int64 and shape \(2,\); give one-dim"),
        (int32(1, 2).reshape(1, 2), int64(0, 2), r"token_ids has dtype int32 and shape \(1, 2\)"),
        (int32(1, 2), int32(0, 2), "offsets has dtype int32"),
        (int32(1, 2), int64(0, 2).reshape(2, 1), r"offsets has dtype int64 and shape \(2, 1\)"),
        (int32(), int64(), r"offsets has dtype int64 and shape \(0,\)"),
        (int32(1, 2, 3, 4)[::2], int64(0, 2), "must be contiguous; use np.ascontiguousarray"),
        (int32(1, 2), int64(1, 2), "offsets must rise from 0 to the number of token ids, 2; they"),
        (int32(1, 2), int64(0, 3), "they begin with 0 and end with 3"),
        (int32(1, 2), int64(0, 1), "they begin with 0 and end with 1"),
        (int32(1, 2), int64(0, 2, 1, 2), "offsets must rise"),
        (int32(1, 2), int64(0, -1, 2), "offsets must rise"),
    ],
)
def test_arrays_that_are_no_texts(token_ids: Any, offsets: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        TokenizedTexts(token_ids, offsets)


def test_offsets_whose_differences_overflow() -> None:
    """2^63 - 1 to -1 is a rise in 64 bits that wrap around."""
    with pytest.raises(ShapeError, match="offsets must rise"):
        TokenizedTexts(int32(1, 2), int64(0, 2**63 - 1, -(2**63) + 5, 2))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.5, 2.0], r"a row of ids has shape \(2,\) and dtype float64; give one-dimensional"),
        ([[1, 2]], r"a row of ids has shape \(1, 2\)"),
        (["a"], "give one-dimensional integers"),
        ([True], "dtype bool"),
        (5, r"a row of ids has shape \(\)"),
        ([2**31], "int32|2147483648"),
        (np.array([2**40]), "int32|1099511627776"),
        (np.array([2**31], np.uint32), "int32|2147483648"),
    ],
)
def test_rows_that_are_no_ids(row: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        TokenizedTexts.from_rows([[1], row])


def test_offsets_are_the_texts_own() -> None:
    """Kernels trust them: a change from outside must not reach them."""
    offsets = np.array([0, 2, 3])
    texts = TokenizedTexts(np.array([1, 2, 3], np.int32), offsets)
    offsets[1] = 10**10
    assert texts.offsets.tolist() == [0, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        texts.offsets[1] = 10**10


@pytest.mark.parametrize("vocabulary", [5, 40, 1_000, 2**31 - 1])
def test_words_of_any_vocabulary_are_told_apart(vocabulary: int) -> None:
    """Ids that fall on the same place of a small table too, batch after batch."""
    generator = np.random.default_rng(vocabulary)
    for tokens in (1, 3, 40, 7):
        spread = generator.integers(0, vocabulary, tokens)
        near = np.arange(tokens) * 16 % vocabulary  # all in one place of 16
        ids = np.concatenate([spread, near, spread]).astype(np.int32)
        texts = TokenizedTexts(ids, np.array([0, len(ids)]))
        batch = ops.pack(texts, [0], max_length=len(ids), masked=True, vocabulary_size=vocabulary)
        np.testing.assert_array_equal(batch.words[batch.index], ids)
        assert len(set(batch.words.tolist())) == len(batch.words)
