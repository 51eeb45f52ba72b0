"""A key given twice is an error in every YAML that is read: the line is named."""

from argparse import ArgumentError

import pytest
from jsonargparse import ArgumentParser

from dart_jax.strict_yaml import RepeatedSetting, load_yaml, nested, read_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r":3: a is given twice"),
        ("a:\n  b: 1\n  b: 1\n", r":3: b is given twice"),
        ("- x\n- {c: [{d: 1, d: 2}]}\n", r":2: d is given twice"),
        ("a: &x {b: 1}\nc: *x\nd: {e: 1, 'e': 2}\n", r":3: e is given twice"),
        ("a: {b: ]\n", r":1: .*expected the node content"),
        ("a: 1\n\tb: 2\n", r":2: .*cannot start any token"),
        ("a: 1\n---\nb: 1\n", r":2: expected a single document"),
        ("a: \x07\n", r": unacceptable character"),
        ('a: 1\nb: [x, "\\ud83d"]\n', r":2: half a surrogate pair"),
        ("- 1\n", r": not a mapping"),
        ("", r": not a mapping"),
        ("true", r": not a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"settings\.yaml" + message):
        read_settings(path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "settings.yaml"
    path.write_bytes("a: 1 # naïve\n".encode(encoding))
    with pytest.raises(ValueError, match=r"settings\.yaml:1: not UTF-8"):
        read_settings(path)


def test_a_byte_order_mark_and_an_alias_are_read(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("\ufeffa: &x {b: 1e-4}\nc: *x\nd: {<<: *x, b: 2}\n", encoding="utf-8")
    assert read_settings(path) == {"a": {"b": 1e-4}, "c": {"b": 1e-4}, "d": {"b": 2}}


def test_an_alias_of_what_it_stands_in_ends():
    with pytest.raises(RepeatedSetting, match="b is given twice"):
        load_yaml("a: &x {again: *x, b: 1, b: 2}")


def test_jsonargparse_reads_with_it():
    """Its set_loader is global: whoever imports this module has it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sizes", type=dict[str, int])
    assert parser.parse_args(["--sizes", "{a: 1, b: 2}"]).sizes == {"a": 1, "b": 2}
    with pytest.raises(ArgumentError, match="sizes"):
        parser.parse_args(["--sizes", "{a: 1, a: 2}"])


@pytest.mark.parametrize(
    "flat",
    [
        {"a.b": 1, "a": {"b": 2}},
        {"a": {"b": 2}, "a.b": 1},
        {"a": 1, "a.b": 2},
        {"a.b": 1, "a": 2},
        {"a.b.c": 1, "a.b": {"c": 2}},
    ],
)
def test_a_setting_with_and_without_dots_is_given_twice(flat):
    with pytest.raises(ValueError, match=r"here: a.* is set twice"):
        nested(flat, "here")


def test_dots_are_sections():
    assert nested({"a.b": 1, "a": {"c": {"d.e": 2}}}, "here") == {
        "a": {"b": 1, "c": {"d": {"e": 2}}}
    }
