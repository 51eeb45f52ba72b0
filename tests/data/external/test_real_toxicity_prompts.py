"""RealToxicityPrompts' file, in its public format, is read line by line; a bad line is named."""

import json

import pytest

from dart_jax.data.external import real_toxicity_prompts
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.records import BadRecord


def scored(text, toxicity):
    names = "profanity sexually_explicit identity_attack flirtation threat insult severe_toxicity"
    return {"text": text, **dict.fromkeys(names.split(), 0.1), "toxicity": toxicity}


def row(begin=340, toxicity=0.25, **changes):
    return {
        "filename": "0766186-bc7f.txt",
        "begin": begin,
        "end": 564,
        "challenging": False,
        "prompt": scored("He went\u2028to the", toxicity),
        "continuation": scored(" shop.", 0.0),
    } | changes


def written(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    lines = (
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in rows
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_line_becomes_a_prompt(tmp_path):
    prompts = real_toxicity_prompts.load(written(tmp_path, row(), row(1, 0.5), row(2, None)))
    assert prompts[0] == ExternalPrompt(
        "rtp-0766186-bc7f.txt-340-564",
        "real_toxicity_prompts",
        "He went\u2028to the",
        "",
        "ordinary",
        "nontoxic",
    )
    assert [prompt.label for prompt in prompts] == ["nontoxic", "toxic", None]


def test_the_challenging_ones_are_marked(tmp_path):
    prompts = real_toxicity_prompts.load(written(tmp_path, row(challenging=True)).parent)
    assert prompts[0].functionality == "challenging"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", r":2: "),
        ('{"filename": "a", "filename": "b"}', r":2: the key 'filename' is given twice"),
        (row(1, 1.5), r":2: prompt: .*toxicity is 1\.5"),
        (row(1, prompt=scored(" ", 0.1)), r":2: prompt: .*text is empty"),
        (row(1, prompt={"text": "x"}), r":2: prompt\.toxicity"),
        (row(1, challenging="perhaps"), r":2: challenging"),
        (row(), r"rtp-0766186-bc7f\.txt-340-564 comes twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad, message):
    with pytest.raises(BadRecord, match=r"prompts\.jsonl.*" + message):
        real_toxicity_prompts.load(written(tmp_path, row(), bad))


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(BadRecord, match="no prompt"):
        real_toxicity_prompts.load(written(tmp_path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"prompts\.jsonl"):
        real_toxicity_prompts.load(tmp_path)
