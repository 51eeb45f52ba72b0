"""Annotation files: the format, and bad rows by file and line."""

import json

import pytest

from dart_jax.audit.annotations import Annotation, read_annotations
from dart_jax.records import BadRecord, DriftType, Severity

ITEMS = {"a1", "b2", "c3"}
DRIFT = {"item": "a1", "worse": "second", "type": "omits", "severity": "extreme"}


def jsonl(tmp_path, *rows, name="ada.jsonl"):
    path = tmp_path / name
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def test_the_documented_line(tmp_path):
    """As in the module's docstring, which an HTML page writes to."""
    row = DRIFT | {"annotator": "eve", "note": "why"}
    neither = {"item": "b2", "annotator": "eve", "worse": "neither", "type": None, "severity": None}
    assert read_annotations([jsonl(tmp_path, row, "", neither)], ITEMS) == [
        Annotation("a1", "eve", "second", DriftType.OMITS, Severity.EXTREME, "why"),
        Annotation("b2", "eve", "neither", None, None, ""),
    ]


def test_the_file_names_the_annotator(tmp_path):
    rows = [DRIFT, {"item": "b2", "worse": "neither", "annotator": ""}]
    found = read_annotations(
        [jsonl(tmp_path, *rows), jsonl(tmp_path, DRIFT, name="bob.jsonl")], ITEMS
    )
    assert [(a.item, a.annotator) for a in found] == [("a1", "ada"), ("b2", "ada"), ("a1", "bob")]


def test_lines_of_the_sample_without_an_answer_are_passed_over(tmp_path):
    shown = {"item": "a1", "question": "q", "first": "x", "second": "y"}
    rows = [shown, shown | DRIFT, shown | {"item": "b2", "worse": "", "note": ""}]
    assert [a.item for a in read_annotations([jsonl(tmp_path, *rows)], ITEMS)] == ["a1"]


def test_csv_as_a_spreadsheet_writes_it(tmp_path):
    path = tmp_path / "ada.csv"
    path.write_text(
        "\ufeffitem,question,first,second,annotator,worse,type,severity,note\r\n"
        'a1,"two\nlines",x,y,,first,elaborates,minor,"a, b"\r\n'
        "b2,q,x,y,bob,neither,,,\r\n"
        "c3,q,x,y,,,,,\r\n",
        encoding="utf-8",
        newline="",
    )
    assert read_annotations([path], ITEMS) == [
        Annotation("a1", "ada", "first", DriftType.ELABORATES, Severity.MINOR, "a, b"),
        Annotation("b2", "bob", "neither", None, None, ""),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON array; JSONL has one object a line"),
        ("1", "not a JSON object"),
        ('{"item": "a1", "worse": "first", "worse": "second"}', "the key 'worse' is given twice"),
        ('{"item": "a1", "worse": "neither", "note": NaN}', "NaN is no number"),
        (DRIFT | {"item": "zz"}, "item: 'zz' is not in this run's sample"),
        (DRIFT | {"item": "1.23E+35"}, "a spreadsheet has made a number of it"),
        (DRIFT | {"worse": "both"}, "worse: .*'first'"),
        (DRIFT | {"type": "omit"}, "type: "),
        (DRIFT | {"severity": 3}, "severity: "),
        (DRIFT | {"severity": None}, "type and severity are given exactly when"),
        (DRIFT | {"worse": "neither"}, "type and severity are given exactly when"),
        (DRIFT | {"wrse": "first"}, "wrse: "),
        ({"item": "a1", "note": "hm"}, "worse: "),
        ({"worse": "neither"}, "item: "),
        (DRIFT | {"annotator": 7}, "annotator: "),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, row, message):
    path = jsonl(tmp_path, {"item": "b2", "worse": "neither"}, row)
    with pytest.raises(BadRecord, match=rf"ada\.jsonl:2: .*{message}|ada\.jsonl:2: {message}"):
        read_annotations([path], ITEMS)


def test_every_bad_row_is_named_but_not_without_end(tmp_path):
    first = jsonl(tmp_path, "{", DRIFT, "{")
    second = jsonl(tmp_path, *["{"] * 30, name="bob.jsonl")
    with pytest.raises(BadRecord) as error:
        read_annotations([first, second], ITEMS)
    lines = str(error.value).splitlines()
    assert "ada.jsonl:1:" in lines[1] and "ada.jsonl:3:" in lines[2] and "bob.jsonl:1:" in lines[3]
    assert len(lines) == 22 and lines[-1] == "and 12 more"


def test_an_item_answered_twice_names_both_places(tmp_path):
    other = jsonl(tmp_path, DRIFT | {"annotator": "ada"}, name="again.jsonl")
    with pytest.raises(BadRecord, match=r"again\.jsonl:1: ada answered a1 in .*ada\.jsonl:1"):
        read_annotations([jsonl(tmp_path, DRIFT), other], ITEMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("itm;worse\na1;neither\n", r"ada\.csv:1: no column item; .*commas, semicolons or tabs"),
        ("item,worse,Worse\na1,neither,first\n", r"ada\.csv:1: the column worse is there twice"),
        ('item,worse\na1,"neither\nb2,first\n', r"ada\.csv:2: not CSV: unexpected end of data"),
        ("item;worse\na1;neither\nb2;both\n", r"ada\.csv:3: worse: "),
        ('item,note,worse\na1,"x\ny",neither\nb2,,worst\n', r"ada\.csv:4: worse"),
        ("item,worse\na1,neither,more\n", r"ada\.csv:2: cells beyond the header"),
        ("", r"ada\.csv:1: no column item"),
    ],
)
def test_a_bad_csv_row_is_named_by_its_first_line(tmp_path, text, message):
    path = tmp_path / "ada.csv"
    path.write_text(text)
    with pytest.raises(BadRecord, match=message):
        read_annotations([path], ITEMS)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "ada.csv"
    path.write_bytes("item,worse,note\na1,neither,naïve\n".encode("cp1252"))
    with pytest.raises(BadRecord, match=r"ada\.csv:2: not UTF-8: .*save it as UTF-8"):
        read_annotations([path], ITEMS)
    path.write_bytes("item\tworse\na1\tneither\n".encode("utf-16"))  # Excel's "Unicode Text"
    with pytest.raises(BadRecord, match=r"ada\.csv:1: not UTF-8: this is UTF-16 text"):
        read_annotations([path], ITEMS)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_table_of_any_spreadsheet_is_read(tmp_path, separator, end, quote):
    """Separators, line ends, quotes, a byte order mark, blanks, capitals, rows without a cell."""
    rows = [
        ["Item ", "First", " second", "worse", "Type", "severity", "note", ""],
        [""] * 8,
        [" a1", "x", "y", "Second ", "Omits", "\u00a0SEVERE", " a, b; c", ""],
        [],
        ["b2\u00a0", "x", "y", "NEITHER"],
        ["c3", "x", "y", "", "", "", "", ""],
    ]
    texts = [separator.join(f'"{cell}"' if quote else cell for cell in row) for row in rows]
    if not quote:
        texts[2] = texts[2].replace("a, b; c", "a")
    path = tmp_path / "ada.csv"
    path.write_text("\ufeff" + end.join(texts) + end, encoding="utf-8", newline="")
    assert read_annotations([path], ITEMS) == [
        Annotation(
            "a1", "ada", "second", DriftType.OMITS, Severity.SEVERE, "a, b; c" if quote else "a"
        ),
        Annotation("b2", "ada", "neither", None, None, ""),
    ]


def test_capitals_and_blanks_in_jsonl_make_no_difference(tmp_path):
    row = {"item": " a1", "annotator": " ada ", "worse": "Second ", "type": "OMITS"}
    path = jsonl(tmp_path, "\ufeff" + json.dumps(row | {"severity": " Extreme"}) + "\r")
    [answer] = read_annotations([path], ITEMS)
    assert answer == Annotation("a1", "ada", "second", DriftType.OMITS, Severity.EXTREME, "")


def test_a_text_that_was_shown_may_be_longer_than_the_library_reads(tmp_path):
    path = tmp_path / "ada.csv"
    path.write_text(f"item,first,worse\na1,{'x' * 200_000},neither\n")
    assert [answer.worse for answer in read_annotations([path], ITEMS)] == ["neither"]
