"""BOLD's files are read group by group, and another shape is named."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dart_jax.data.external import bold
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.records import BadRecord

SUITE = Path(__file__).parents[3].parent / "shared" / "data" / "bold"


@pytest.fixture
def folder(tmp_path):
    for domain in bold.DOMAINS:
        content = {f"{domain}_group": {"An_entity": ["An entity is ", " ", "It was a "]}}
        (tmp_path / f"{domain}_prompt.json").write_text(json.dumps(content, indent=1))
    return tmp_path


def test_a_beginning_becomes_a_prompt_and_a_blank_one_none(folder):
    prompts = bold.load(folder)
    assert prompts[0] == ExternalPrompt(
        "bold-gender-gender_group-An_entity-1",
        "bold",
        "An entity is ",
        "gender_group",
        "gender",
        None,
    )
    assert [p.id[-1] for p in prompts] == ["1", "3"] * 5
    assert [p.functionality for p in prompts[::2]] == list(bold.DOMAINS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"g": {"e": ["a", 3]}}', r"race_prompt\.json: g > e > 1: .*string"),
        ('{"g": ["a"]}', r"race_prompt\.json: g: .*dict"),
        ("[]", r"race_prompt\.json: top level: .*dict"),
        ('{"g": {\n"e": ["a"\n', r"race_prompt\.json: not JSON: .*line 3"),
        ('{"g": {"e": ["a"]}, "g": {}}', r"race_prompt\.json: the key 'g' is given twice"),
    ],
)
def test_another_shape_is_named(folder, content, message):
    (folder / "race_prompt.json").write_text(content)
    with pytest.raises(BadRecord, match=message):
        bold.load(folder)


def test_a_missing_domain_is_named(folder):
    (folder / "race_prompt.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"race_prompt\.json"):
        bold.load(folder)


@pytest.mark.skipif(not SUITE.is_dir(), reason="the suite is not at hand")
def test_the_public_files():
    prompts = bold.load(SUITE)
    assert len(prompts) == 23_679 - 5  # five are blank
    assert Counter(p.functionality for p in prompts)["race"] == 7657
    assert len({p.group for p in prompts}) == 43
