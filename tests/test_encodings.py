"""Encodings of tables: what is understood without a word, what has to be named, what is wrong."""

from __future__ import annotations

import io
from encodings.aliases import aliases
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from test_tables import read_texts, write
from tidegate.data import encodings, load_table, source_of
from tidegate.errors import ConfigError, DataError, TidegateError

ROWS = [["text", "label"], ["naïve «é»\nα", "x"], ["日本 😀", "y"]]
CSV = 'text,label\r\n"naïve «é»\nα",x\r\n日本 😀,y\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_unicode_with_and_without_marks(tmp_path: Path, encoding: str, kind: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    text = CSV if kind == "csv" else "naïve «é»\r\n日本 😀"
    read = read_texts(write(tmp_path / f"a.{kind}", (mark + text).encode(encoding)))
    if kind == "csv":
        assert [read.columns, *read.rows] == ROWS
        assert read.lines == [2, 4]
    else:
        assert read.texts == ["naïve «é»", "日本 😀"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gb18030", "utf-16-le", "utf-7", "utf8"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_encodings_by_name(tmp_path: Path, encoding: str, kind: str) -> None:
    content = {"csv": "text\ncaf\xe9\n", "jsonl": '{"text": "caf\xe9"}\n', "txt": "caf\xe9\n"}[kind]
    path = write(tmp_path / f"a.{kind}", content.encode(encoding))
    assert read_texts(path, encoding=encoding).texts == ["caf\xe9"]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"text\nok\ncaf\xe9\n", None, r"UTF-8: byte 0xe9 at offset 11 \(line 3\); save it as UTF"),
        (
            b"text\ncaf\xc3",
            None,
            r"is not UTF-8: byte 0xc3 at offset 8 \(line 2\); .*--encoding cp",
        ),
        (
            b"text\n\x81\n",
            "cp1252",
            r"is not cp1252: byte 0x81 at offset 5 \(line 2\); name another",
        ),
        (b"\xfe\xff\0t\0\n\xd8", None, r"not UTF-16-BE: byte 0xd8 at offset 6 \(line 2\)"),
        (b"text\nt\0e\0x\0t\0\n", None, "line 2: a NUL byte; .* --encoding utf-16-le or latin-1"),
        (b"x" * 70_000 + b"\n\n\xff", None, r"byte 0xff at offset 70002 \(line 3\)"),
        (b"x\n" * 32_767 + b"\xc3\xa9\n" * 3 + b"\xff", None, r"offset 65543 \(line 32771\)"),
    ],
)
def test_bytes_that_are_no_text_are_named(
    tmp_path: Path, content: bytes, encoding: str | None, message: str
) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=message) as caught:
        load_table(path, encoding=encoding)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "rot13", "", "a\0b", "undefined"])
def test_encodings_that_are_none(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"encoding='.*' is not an encoding of texts that Python"):
        source_of(tmp_path / "a.csv", encoding=encoding)


def test_parquet_has_no_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoding='cp1252' is for text files, not Parquet"):
        source_of(tmp_path / "a.parquet", encoding="cp1252")


@given(
    encoding=st.sampled_from(sorted({*aliases.values(), "idna", "punycode"})),
    content=st.binary(max_size=30) | st.text(max_size=20).map(str.encode),
)
def test_any_bytes_in_any_encoding_are_read_or_refused(
    scratch: Path, encoding: str, content: bytes
) -> None:
    for name in ("a.csv", "a.txt"):
        path = write(scratch / name, b"text\n" + content)
        refusal = ""
        try:
            read_texts(path, encoding=encoding)
        except TidegateError as error:
            refusal = str(error)
        assert "\n" not in refusal


class Pieces(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe may."""

    size = 1

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self.size)


@given(
    text=st.text(st.sampled_from("ab,é日😀\r\n\u2028\x85\x0b"), max_size=40),
    size=st.integers(1, 7),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "gb18030"]),
    marked=st.booleans(),
    returns=st.booleans(),
)
@example(text="a\r\nb\rc\r", size=1, encoding="utf-8", marked=True, returns=True)
def test_lines_are_python_s_lines_however_they_arrive(
    text: str, size: int, encoding: str, marked: bool, returns: bool
) -> None:
    stream = Pieces((("\ufeff" if marked else "") + text).encode(encoding))
    stream.size = size
    given_name = None if marked and encoding.startswith("utf") else encoding
    lines = encodings.Lines(stream, "a test", given_name, returns=returns)
    assert list(lines) == list(io.StringIO(text, newline="" if returns else "\n"))
    assert lines.characters == len(text)
