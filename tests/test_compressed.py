"""Compressed tables: unpacked and packed in pieces, and every damage told in one line."""

from __future__ import annotations

import gzip
import io
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from test_tables import read_texts, write, write_predictions
from tidegate.data import compressed, source_of
from tidegate.errors import DataError, TidegateError

TABLE = "text,label\n" + "".join(f"a text of number {i},{i % 3}\n" for i in range(5_000))
TEXTS = [f"a text of number {i}" for i in range(5_000)]


def packed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


SUFFIXES = pytest.mark.parametrize("suffix", [".gz", ".zst"])


@SUFFIXES
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_compressed_tables_are_read(tmp_path: Path, name: str, suffix: str) -> None:
    contents = {
        "a.csv": "id,text\n1,one\n2,two\n",
        "a.tsv": "id\ttext\n1\tone\n2\ttwo\n",
        "a.jsonl": '{"text": "one"}\n{"text": "two"}\n',
        "a.txt": "one\ntwo\n",
    }
    data = contents[name].encode()
    assert read_texts(write(tmp_path / (name + suffix), packed(data, suffix))).texts == [
        "one",
        "two",
    ]
    # Packed in two parts, one after the other, and with a name in capitals.
    parts = packed(data[:9], suffix) + packed(data[9:], suffix)
    assert read_texts(write(tmp_path / (name + suffix.upper()), parts)).texts == ["one", "two"]


@SUFFIXES
def test_compression_is_known_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a.csv", packed(TABLE.encode(), suffix))
    assert read_texts(path).texts == TEXTS
    path = write(tmp_path / f"a.csv{suffix}", TABLE)
    with pytest.raises(DataError, match=r"is named as a (gzip|zstd) file, but is none: rename it"):
        read_texts(path)


@SUFFIXES
def test_a_file_cut_off_anywhere_is_one_error(tmp_path: Path, suffix: str) -> None:
    whole = packed(TABLE.encode(), suffix)
    path = tmp_path / f"a.csv{suffix}"
    for length in (0, 1, 3, 4, 9, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        write(path, whole[:length])
        with pytest.raises(DataError) as caught:
            read_texts(path)
        message = str(caught.value)
        expected = "is empty" if not length else "is none" if length < 2 else "cut off|is none"
        assert any(words in message for words in expected.split("|")), (length, message)
        assert str(path) in message
        assert "\n" not in message
    write(path, whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"is cut off: its (gzip|zstd) data end too early; copy"):
        read_texts(path)


@SUFFIXES
@given(place=st.integers(0, 400), change=st.integers(1, 255))
def test_a_file_with_a_changed_byte_is_read_or_refused(
    scratch: Path, suffix: str, place: int, change: int
) -> None:
    data = bytearray(packed(TABLE.encode()[:4_000], suffix))
    data[place % len(data)] ^= change
    path = write(scratch / f"a.csv{suffix}", bytes(data))
    refusal = ""
    try:
        read_texts(path)
    except TidegateError as error:
        refusal = str(error)
    assert "\n" not in refusal
    if suffix == ".gz" and place % len(data) >= 10:  # behind the header, a checksum guards it
        assert refusal


@SUFFIXES
def test_a_small_file_of_much_text_takes_little_memory(tmp_path: Path, suffix: str) -> None:
    line = "text\n" + ("all work and no play " * 5 + "\n") * 400_000
    path = write(tmp_path / f"a.csv{suffix}", packed(line.encode(), suffix))
    size = len(line)
    del line
    assert path.stat().st_size < size / 200
    tracemalloc.start()
    with compressed.open_stream(source_of(path)) as stream:
        total = 0
        while piece := stream.read1(1 << 16):
            total += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == size
    assert peak < size / 3


def test_a_line_without_end_is_refused_and_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("delimiters", "encodings", "lines"):
        monkeypatch.setattr(f"tidegate.data.{module}.LONGEST_LINE", 200_000)
    long = b"x" * 5_000_000
    for name in ("a.jsonl", "a.txt", "a.csv"):
        first = b'{"text": "a"}\n' if name == "a.jsonl" else b"text\n"
        path = write(tmp_path / f"{name}.gz", gzip.compress(first + long))
        with pytest.raises(DataError, match=r"longer than 200,000 (characters|bytes), as no text"):
            read_texts(path)
    # A quote that is never closed makes all lines one cell.
    path = write(tmp_path / "b.csv", b'text\n"' + b"some words\n" * 30_000)
    with pytest.raises(DataError, match=r"line 2: field larger than field limit \(200000\)"):
        read_texts(path)


@SUFFIXES
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_written_tables_are_packed_by_name(tmp_path: Path, kind: str, suffix: str) -> None:
    source = write(tmp_path / "in.csv", TABLE)
    plain, small = tmp_path / f"out{kind}", tmp_path / f"out{kind}{suffix}"
    columns = {"n": [str(i) for i in range(5_000)]}
    assert write_predictions(plain, source, columns) == 5_000
    assert write_predictions(small, source, columns) == 5_000
    data = small.read_bytes()
    if suffix == ".gz":
        assert gzip.decompress(data) == plain.read_bytes()
    else:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data))
        assert reader.read() == plain.read_bytes()
    assert len(data) < plain.stat().st_size / 3
    write_predictions(small, source, columns)
    assert small.read_bytes() == data  # no time in it
    for place in range(20, len(data), 97):  # and a checksum: no change goes unseen
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(DataError):  # of what is unpacked, if that comes first
            read_texts(write(small, bytes(changed)))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has zstd of its own")
def test_zstd_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.csv", TABLE)
    path = write(tmp_path / "a.csv.zst", packed(TABLE.encode(), ".zst"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for act in (
        lambda: read_texts(path),
        lambda: write_predictions(tmp_path / "out.csv.zst", source, {}),
    ):
        with pytest.raises(DataError, match=r"pip install 'tidegate\[data\]'"):
            act()
    assert not (tmp_path / "out.csv.zst").exists()
