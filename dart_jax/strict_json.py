"""Strict reading of JSON and of text files, with errors that name file and line.

Python's `json` keeps the last of two equal keys, reads `NaN` as a number, and half a surrogate
pair as a character that cannot be written again. Here each of these is an error: a file or a reply
that says two things says neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = {
    b"\x1f\x8b": "compressed with gzip; unpack it first (gunzip)",
    b"BZh": "compressed with bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ\x00": "compressed with xz; unpack it first (unxz)",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first (unzstd)",
    b"PK\x03\x04": "a zip archive or an .xlsx workbook; unpack it, or save it as UTF-8 text",
    b"PAR1": "a Parquet file; give it as a data set (data.hub), or convert it to JSONL",
    b"\xff\xfe\x00\x00": "UTF-32 text; save it as UTF-8 (iconv -f UTF-32 -t UTF-8)",
    b"\x00\x00\xfe\xff": "UTF-32 text; save it as UTF-8 (iconv -f UTF-32 -t UTF-8)",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
"""First bytes of files that are no UTF-8 text, and advice; the longer of two prefixes first."""

_MOST_DIGITS = 400
"""Most digits of a whole number: more than a float64 holds, fewer than Python refuses to read."""


class BadRecord(ValueError):
    """A JSONL line that is not the record it should be; the message names file and line."""


class BadJson(ValueError):
    """A text that is not one JSON value; the message says why, without quoting its values."""


class RepeatedKey(BadJson):
    """An object gives a key twice.

    Attributes:
        key: The key that is repeated.
    """

    def __init__(self, key: str):
        super().__init__(f"the key {key!r} is given twice in one object")
        self.key = key


class NotFinite(BadJson):
    """A number that is not finite, or that is too large to be read as one."""


class HalfCharacter(BadJson):
    """A string holds half a surrogate pair, which no UTF-8 file could hold."""

    def __init__(self) -> None:
        super().__init__(
            "half a surrogate pair, such as \\ud83d alone: the text was cut inside a character; "
            "write it again from its source"
        )


def parse_json(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        RepeatedKey, NotFinite, HalfCharacter: The text is JSON, but ambiguous or not storable.
        BadJson: The text is not JSON.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        # A reply may hold as a character what a file has as an escape.
        written = json.dumps(value, ensure_ascii=False) if "\\u" in text else text
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise BadJson(f"not JSON: {error.msg} ({line}column {error.colno})") from error
    except RecursionError as error:
        raise BadJson("not readable: it is nested too deeply") from error

    if not is_unicode(written):
        raise HalfCharacter
    return value


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: half a surrogate pair can stand in a `str`, but in no file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse_line(line: str, where: str) -> Any:
    """Parse one line of a JSONL file; raise BadRecord naming `where` if it is not JSON."""
    try:
        value = parse_json(line)
    except BadJson as error:
        raise BadRecord(f"{where}: {error}{_layout_hint(line)}") from error
    if isinstance(value, list):
        raise BadRecord(f"{where}: a JSON array{_layout_hint(line)}")
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BadRecord: Not UTF-8, not JSON, or a key is given twice; names the file.
        FileNotFoundError, IsADirectoryError: There is no such file.
    """
    try:
        return parse_json(read_text(path))
    except BadJson as error:
        raise BadRecord(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark; line ends stay as they are.

    Raises:
        BadRecord: The file is compressed, or in another encoding; says which, and what to do.
        FileNotFoundError, IsADirectoryError: There is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the file")
    return decode_text(path.read_bytes(), str(path))


def decode_text(data: bytes, where: str) -> str:
    """Decode the bytes of a UTF-8 text file; raise BadRecord naming `where` and the line."""
    for beginning, what in _MAGIC.items():
        if data.startswith(beginning):
            raise BadRecord(f"{where}:1: not UTF-8: this is {what}")

    nul = data.find(0)
    if nul >= 0:
        # English in UTF-16 is valid UTF-8: each character is an ASCII byte beside a NUL.
        order = "BE" if nul == 0 else "LE"
        kind = f"UTF-16 text; save it as UTF-8 (iconv -f UTF-16{order} -t UTF-8)"
        what = kind if nul < 2 else "no text file, or a damaged one"
        raise BadRecord(f"{where}:{_line_of(data, nul)}: a NUL byte: this is {what}")

    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data"
        hint = (
            "the file ends inside a character; it was cut off"
            if cut
            else f"byte 0x{data[error.start]:02x}; if this is Latin-1 or Windows-1252, save it "
            "as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
        )
        raise BadRecord(f"{where}:{_line_of(data, error.start)}: not UTF-8: {hint}") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield `file:line` and text of every line of a text file that is not blank.

    Only a newline ends a line: U+2028 and its like may stand inside a JSON text. Files that were
    joined may have a byte order mark at the beginning of any line; it is removed.

    Raises:
        BadRecord, FileNotFoundError, IsADirectoryError: As `read_text`.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.removeprefix("\ufeff")
        if line.strip():
            yield f"{path}:{number}", line


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        names = [name for name, _ in members]
        raise RepeatedKey(next(name for name in names if names.count(name) > 1))
    return value


def _constant(name: str) -> None:
    raise NotFinite(f"{name} is no number that JSON has; leave the key out, or write null")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotFinite("a number is too large to be read")
    return value


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise NotFinite("a number is too large to be read")
    return int(digits)


def _layout_hint(line: str) -> str:
    """Advice on a file whose JSON is not laid out as one object per line; '' where it is."""
    if line.lstrip().startswith("["):
        return "; JSONL has one object a line: convert it (jq -c '.[]' FILE > FILE.jsonl)"
    if line.strip() == "{":
        return "; JSONL has each object whole in one line: convert it (jq -c . FILE > FILE.jsonl)"
    return ""


def _line_of(data: bytes, index: int) -> int:
    return data.count(b"\n", 0, index) + 1
