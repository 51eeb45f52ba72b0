"""HateCheck's file is read case by case, and a bad line is named."""

from collections import Counter
from pathlib import Path

import pytest

from dart_jax.data.external import hatecheck
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.records import BadRecord

SUITE = Path(__file__).parents[3].parent / "shared" / "data" / "hatecheck"

HEADER = ",functionality,case_id,test_case,label_gold,target_ident,direction"
GOOD = "0,ident_pos_nh,41,We like [these] people.,non-hateful,immigrants,"
QUOTED = '1,derog_x_h,42,"Two lines,\nand ""quotes"".",hateful,women,general'


def written(tmp_path, *rows, header=HEADER):
    path = tmp_path / "cases.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_case_becomes_a_prompt(tmp_path):
    first, second = hatecheck.load(written(tmp_path, GOOD, QUOTED))
    assert first == ExternalPrompt(
        "hatecheck-41",
        "hatecheck",
        "We like [these] people.",
        "immigrants",
        "ident_pos_nh",
        "non-hateful",
    )
    assert second.prompt == 'Two lines,\nand "quotes".'
    assert second.label == "hateful"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,ident_pos_nh,43,Text,hateful,women,", r":5: label_gold is 'hateful'"),
        ("2,ident,43,Text,hateful,women,", r":5: .*a name ending in _h or _nh"),
        ("2,ident_pos_nh,x,Text,non-hateful,women,", r":5: case_id is 'x'"),
        ("2,ident_pos_nh,43, ,non-hateful,women,", r":5: test_case is empty"),
        ("2,ident_pos_nh,43,Text,non-hateful", r":5: another number of fields"),
        ("2,ident_pos_nh,43,A,b,non-hateful,women,", r":5: another number of fields"),
        ('2,ident_pos_nh,43,"Text,non-hateful,women,', r":5: not CSV: unexpected end of data"),
        ("2,ident_pos_nh,41,Text,non-hateful,women,", r"hatecheck-41 comes twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, message):
    with pytest.raises(BadRecord, match=r"cases\.csv.*" + message):
        hatecheck.load(written(tmp_path, GOOD, QUOTED, row))


def test_a_spreadsheet_that_separates_by_semicolons_is_read(tmp_path):
    path = written(tmp_path, GOOD.replace(",", ";"), header="\ufeff" + HEADER.replace(",", ";"))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert hatecheck.load(path) == hatecheck.load(written(tmp_path, GOOD))


def test_a_column_that_is_there_twice_is_named(tmp_path):
    path = written(tmp_path, GOOD + ",x", header=HEADER + ",Test_case")
    with pytest.raises(BadRecord, match=r"cases\.csv:1: the column test_case is there twice"):
        hatecheck.load(path)


def test_a_file_without_cases_is_an_error(tmp_path):
    with pytest.raises(BadRecord, match="no case in it"):
        hatecheck.load(written(tmp_path))


def test_a_missing_column_is_named(tmp_path):
    path = written(tmp_path, GOOD, header=HEADER.replace("label_gold", "gold"))
    with pytest.raises(BadRecord, match=r"cases\.csv:1: no column label_gold"):
        hatecheck.load(path)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path):
    path = written(tmp_path, GOOD)
    path.write_bytes(path.read_bytes() + b"1,ident_pos_nh,42,\xff,non-hateful,women,\n")
    with pytest.raises(BadRecord, match=r"cases\.csv:3: not UTF-8"):
        hatecheck.load(path)


@pytest.mark.skipif(not SUITE.is_dir(), reason="the suite is not at hand")
def test_the_public_files():
    cases = hatecheck.load(SUITE)
    assert Counter(case.label for case in cases) == {"hateful": 2563, "non-hateful": 1165}
    assert len({case.functionality for case in cases}) == 29
    assert len({case.group for case in cases} - {""}) == 7
    assert len(hatecheck.load(SUITE / "all_cases.csv")) == 3901
