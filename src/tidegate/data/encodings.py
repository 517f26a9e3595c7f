"""From bytes to lines of text: UTF-8, UTF-16 with a byte order mark, or an encoding by name.

Errors name the byte, its offset and its line, counted from 1 as an editor does.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from tidegate.data.compressed import Stream
from tidegate.errors import DataError

READ_BYTES = 1 << 16
# Characters of one line, or of one cell with lines in it; so much is kept in memory at most.
LONGEST_LINE = 1 << 26

_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_BY_NAME = "name its encoding, for example by --encoding cp1252 or latin-1"


class Decoder:
    """Bytes in pieces to text in pieces; a byte order mark is dropped.

    name: what the bytes are of, for errors. encoding: None for UTF-8, or UTF-16 with a mark.
    """

    def __init__(self, name: str, encoding: str | None) -> None:
        self._name = name
        self._encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begin = b""  # what came before it was enough to know the encoding
        self._offset = 0  # of the next piece
        self._lines = 0
        self._marked = False

    def decode(self, piece: bytes, *, final: bool = False) -> str:
        """The text of the next piece. DataError for bytes that are no text, and for NUL."""
        if self._decoder is None:
            piece = self._begin + piece
            if len(piece) < 3 and not final:
                self._begin = piece
                return ""
            if self._encoding is None:
                self._encoding = _MARKS.get(piece[:2], "utf-8")
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            raise self._wrong_byte(error, piece) from error
        except ValueError as error:  # of encodings that are no tables of characters
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self._name} is not {self._encoding} ({reason}); name another encoding"
            ) from error
        self._offset += len(piece)
        if text and not self._marked:
            self._marked = True
            text = text.removeprefix("\ufeff")
        if (nul := text.find("\0")) >= 0:
            raise DataError(
                f"{self._name}, line {self._lines + text.count(chr(10), 0, nul) + 1}: a NUL byte; "
                "it is not a text file, or is of another encoding: save it as UTF-8, or "
                + _BY_NAME.replace("cp1252", "utf-16-le")
            )
        self._lines += text.count("\n")
        return text

    def _wrong_byte(self, error: UnicodeDecodeError, piece: bytes) -> DataError:
        # The decoder may have kept some bytes of the piece before.
        offset = self._offset + len(piece) - len(error.object) + error.start
        encoding = str(self._encoding)
        wrong = error.object[error.start : error.start + 1].hex() or "??"
        before = error.object[: error.start]
        try:
            line = self._lines + before.decode(encoding, "ignore").count("\n") + 1
        except ValueError:  # some encodings know no way to pass over an error
            line = self._lines + before.count(b"\n") + 1
        plain = encoding.upper() if encoding.startswith("utf") else encoding
        mend = f"save it as UTF-8, or {_BY_NAME}"
        if encoding != "utf-8":
            mend = "name another encoding, or save it as UTF-8 and name none"
        return DataError(
            f"{self._name} is not {plain}: byte 0x{wrong} at offset {offset} (line {line}); {mend}"
        )


class Lines:
    """The lines of a stream, each with its end, as text; to be iterated over once.

    returns: whether a carriage return alone ends a line, too. ``characters`` counts what was
    decoded so far. Raises DataError as Decoder does, and for a line longer than LONGEST_LINE.
    """

    def __init__(self, stream: Stream, name: str, encoding: str | None, *, returns: bool) -> None:
        self.characters = 0
        self._stream = stream
        self._name = name
        self._decoder = Decoder(name, encoding)
        self._returns = returns

    def __iter__(self) -> Iterator[str]:
        newline = "" if self._returns else "\n"
        begun: list[str] = []  # pieces of the line whose end is still to come
        held = number = 0
        while True:
            piece = self._stream.read1(READ_BYTES)
            text = self._decoder.decode(piece, final=not piece)
            self.characters += len(text)
            end = self._last_end(text)
            if end:
                whole = "".join([*begun, text[:end]])
                begun, held = [text[end:]], len(text) - end
                number += whole.count("\n")
                yield from io.StringIO(whole, newline)
            else:
                begun.append(text)
                held += len(text)
                if held > LONGEST_LINE:
                    raise DataError(
                        f"{self._name}, line {number + 1}: it is longer than {LONGEST_LINE:,} "
                        "characters, as no text is: check the file"
                    )
            if not piece:
                yield from io.StringIO("".join(begun), newline)
                return

    def _last_end(self, text: str) -> int:
        """Behind the last line's end; a final carriage return may be half of one."""
        end = text.rfind("\n") + 1
        if self._returns:
            end = max(end, text.rfind("\r", end, len(text) - 1) + 1)
        return end


class AsUtf8:
    """A stream of another encoding as one of UTF-8; one of UTF-8 passes as it is, unchecked."""

    def __init__(self, stream: Stream, name: str, encoding: str | None) -> None:
        self._stream = stream
        self._name = name
        self._decoder = None if encoding is None else Decoder(name, encoding)
        self._begun = False

    def fileno(self) -> int:
        return self._stream.fileno()

    def read1(self, size: int, /) -> bytes:
        while True:
            piece = self._stream.read1(size)
            if not self._begun and self._decoder is None:
                if piece in (b"\xff", b"\xfe"):  # half a mark
                    piece += self._stream.read1(size)
                if piece[:2] in _MARKS:
                    self._decoder = Decoder(self._name, None)
            self._begun = True
            if self._decoder is None:
                return piece
            text = self._decoder.decode(piece, final=not piece)
            if text or not piece:
                return text.encode(errors="surrogatepass")
