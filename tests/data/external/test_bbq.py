"""BBQ's files are read row by row with their metadata, and a bad line is named."""

import json

import pytest

from dart_jax.data.external import bbq
from dart_jax.data.external.bbq import BBQQuestion
from dart_jax.records import BadRecord


def row(number=0, ambiguous=True, **changes):
    """A line in the public form, of our own words."""
    values = {
        "example_id": number,
        "question_index": "7",
        "question_polarity": "neg",
        "context_condition": "ambig" if ambiguous else "disambig",
        "category": "Age",
        "answer_info": {
            "ans0": ["grandmother", "old"],
            "ans1": ["Not known", "unknown"],
            "ans2": ["student", "nonOld"],
        },
        "additional_metadata": {"stereotyped_groups": ["old"], "source": "x"},
        "context": "A grandmother and a student waited for the bus.",
        "question": "Who forgot the ticket?",
        "ans0": "The grandmother",
        "ans1": "Not known",
        "ans2": "The student",
        "label": 1 if ambiguous else 2,
    }
    return values | changes


METADATA = ["Age,7,0,0", "Age,7,1,0", "Age,7,2,2", "Age,7,3,NA", "Age,7,0,0"]


def written(folder, *rows, metadata=METADATA, header="category,question_index,example_id"):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(values) for values in rows]
    (folder / "Age.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "\n".join([f"{header},target_loc", *metadata]) + "\n"
    (folder / "additional_metadata.csv").write_text(text, encoding="utf-8")
    return folder


def test_a_row_becomes_a_question(tmp_path):
    first, second, without = bbq.load(written(tmp_path, row(0), row(1, False), row(3)))
    assert first == BBQQuestion(
        id="bbq-Age-0",
        category="Age",
        template="Age 7",
        ambiguous=True,
        text="A grandmother and a student waited for the bus. Who forgot the ticket?\n"
        "(a) The grandmother (b) Not known (c) The student",
        answer=1,
        unknown=1,
        biased=0,
    )
    assert not second.ambiguous and second.answer == 2
    assert without.biased is None


def test_the_repository_as_it_is(tmp_path):
    written(tmp_path / "data", row(0))
    (tmp_path / "supplemental").mkdir()
    metadata = tmp_path / "data/additional_metadata.csv"
    metadata.rename(tmp_path / "supplemental/additional_metadata.csv")
    assert len(bbq.load(tmp_path)) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(1, label=2), r"jsonl:2: .*label is 2 in a context that is ambig"),
        (row(1, False, label=1), r"jsonl:2: .*label is 1 in a context that is disambig"),
        (row(1, label=3), r"jsonl:2: label"),
        (row(1, context_condition="x"), r"jsonl:2: context_condition"),
        (row(1, question=" "), r"jsonl:2: .*question is empty"),
        (row(1, answer_info={"ans0": ["a", "old"], "ans1": ["b", "x"], "ans2": ["c", "y"]}),
         r"jsonl:2: .*call one of its three answers unknown"),
        (row(1, answer_info={"ans1": ["b", "unknown"]}), r"jsonl:2: .*one of its three answers"),
        (row(9), r"jsonl:2: additional_metadata\.csv has no row of Age 9"),
        (row(0), r"bbq-Age-0 comes twice"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path, bad, message):
    with pytest.raises(BadRecord, match=message):
        bbq.load(written(tmp_path, row(0), bad))


def test_a_missing_key_is_named(tmp_path):
    values = row(0)
    del values["ans2"]
    with pytest.raises(BadRecord, match=r"jsonl:1: ans2"):
        bbq.load(written(tmp_path, values))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (["Age,7,0,3"], r"csv:2: target_loc is '3'"),
        (["Age,7,0"], r"csv:2: another number of fields"),
        (["Age,7,0,0", "Age,7,0,2"], r"csv:3: Age 0 has another target_loc further up"),
        (["Age,7,0,1"], r"jsonl:1: target_loc is 1, which is the unknown answer"),
    ],
)
def test_bad_metadata_is_named(tmp_path, metadata, message):
    with pytest.raises(BadRecord, match=message):
        bbq.load(written(tmp_path, row(0), metadata=metadata))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no JSONL file"):
        bbq.load(tmp_path)
    written(tmp_path, row(0))
    with pytest.raises(BadRecord, match=r"csv:1: no column example_id"):
        bbq.load(written(tmp_path, row(0), header="category,question_index,example"))
    (tmp_path / "additional_metadata.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"additional_metadata\.csv"):
        bbq.load(tmp_path)
