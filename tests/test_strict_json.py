"""What Python's json takes without a word is refused; files of another kind are named as such."""

import bz2
import gzip
import io
import lzma
import zipfile
from dataclasses import dataclass

import pytest

from dart_jax.append_only import resume_jsonl
from dart_jax.records import BadRecord, read_jsonl
from dart_jax.strict_json import BadJson, RepeatedKey, parse_json, read_lines, read_text

LINE = '{"name": "naïve"}\n'


@dataclass(frozen=True)
class Row:
    name: str
    size: float = 1.0


def zipped(text):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rows.jsonl", text)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": 1, "a": 1}', "the key 'a' is given twice"),
        ('[{"a": {"b": [], "c": 0, "b": []}}]', "the key 'b' is given twice"),
        (r'{"a": 1, "\u0061": 2}', "the key 'a' is given twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "too large"),
        ("9" * 5000, "too large"),
        (r'"\ud83d"', "half a surrogate pair"),
        (r'{"\udc00": 1}', "half a surrogate pair"),
        ('"\ud83d"', "half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes"),
        ('{"a": 1},', r"not JSON: Extra data \(column 9\)"),
        ('{"a": 1,}', "not JSON"),
        ('"a\tb"', "not JSON: Invalid control character"),
        ('{\n"a": }', r"not JSON: Expecting value \(line 2, column 6\)"),
        ("", "not JSON"),
    ],
)
def test_an_ambiguous_or_broken_text_is_no_value(text, message):
    with pytest.raises(BadJson, match=message):
        parse_json(text)


def test_what_json_allows_is_read():
    text = r'{"a": [1, 2.5, -3e2, true, null, "\ud83d\ude00"], "b": {"a": "\u2028"}}'
    assert parse_json(text) == {"a": [1, 2.5, -300.0, True, None, "😀"], "b": {"a": "\u2028"}}
    assert parse_json("9" * 300) == 10**300 - 1


def test_a_repeated_key_can_be_told_from_other_faults():
    with pytest.raises(RepeatedKey) as error:
        parse_json('{"verdict": "no", "verdict": "yes"}')
    assert error.value.key == "verdict"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LINE.encode("utf-16"), r":1: not UTF-8: this is UTF-16 text; .*iconv -f UTF-16 "),
        (LINE.encode("utf-16-be"), r":1: a NUL byte: this is UTF-16 text.*UTF-16BE"),
        (LINE.encode("utf-32"), r":1: not UTF-8: this is UTF-32 text"),
        (
            (LINE[:-2] + '"}\n').encode("utf-16-le"),
            r":1: a NUL byte: this is UTF-16 text.*UTF-16LE",
        ),
        (b'{"name": "a"}\n' + LINE.encode("latin-1"), r":2: not UTF-8: byte 0xef; .*Latin-1"),
        (b'{"name": "a"}\n{"name": "\x00"}\n', r":2: a NUL byte: .*damaged"),
        (b"\n\n" + LINE.encode()[:13], r":3: .*the file ends inside a character"),
        # Without a time, which would be another in each process and so another name of the case.
        (gzip.compress(LINE.encode(), mtime=0), r":1: .*gzip; unpack"),
        (bz2.compress(LINE.encode()), r":1: .*bzip2"),
        (lzma.compress(LINE.encode()), r":1: .*xz"),
        (zipped(LINE), r":1: .*zip archive or an \.xlsx"),
        (b'[{"name": "a"}]', r":1: a JSON array; .*jq -c '\.\[\]' FILE > FILE\.jsonl"),
        (b'[\n{"name": "a"}\n]', r":1: not JSON.*; JSONL has one object a line"),
        (b'{\n"name": "a"\n}', r":1: not JSON.*whole in one line.*jq -c \. FILE"),
        (b'{"name": "a"}\n5\n', r":2: Input should be "),
        (b'{"name": "a"}\r\n{"name": "b", "name": "c"}\r\n', r":2: the key 'name' is given twice"),
        (b'{"name": "a", "size": NaN}', r":1: NaN is no number"),
        (b'{"name": "\\udc00"}', r":1: half a surrogate pair"),
        (b'{"name": "a"}\n\n{"name": 5}\n', r":3: name: "),
    ],
)
def test_a_file_of_another_kind_is_named_with_its_line(tmp_path, data, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadRecord, match=r"rows\.jsonl" + message):
        read_jsonl(path, Row)


def test_a_byte_order_mark_windows_lines_and_blank_lines_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    text = '\ufeff{"name": "a"}\r\n \r\n\n\ufeff{"name": "b\u2028c"}'
    path.write_text(text, encoding="utf-8", newline="")
    assert read_jsonl(path, Row) == [Row("a"), Row("b\u2028c")]
    assert [where for where, _ in read_lines(path)] == [f"{path}:1", f"{path}:4"]


@pytest.mark.parametrize("text", ["", "\ufeff", "\n \r\n\t\n"])
def test_a_file_without_a_line_has_no_rows(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_jsonl(path, Row) == []


def test_a_folder_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; give the file"):
        read_text(tmp_path)


def test_a_file_that_is_being_written_is_read_as_strictly(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"name": "a"}\n{"name": "b", "name": "c"}\n{"na')
    with pytest.raises(BadRecord, match=r"rows\.jsonl:2: the key 'name' is given twice"):
        resume_jsonl(path, Row)
