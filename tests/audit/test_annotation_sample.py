"""The blinded sample: strata, probabilities, and what it does not tell."""

import csv
import json
import re
from collections import Counter

import pytest

from dart_jax.audit.annotation_sample import (
    NOT_SCREENED,
    allocate,
    draw_sample,
    texts_digest,
    write_sample,
)
from dart_jax.audit.annotations import COLUMNS, read_annotations
from dart_jax.records import DriftType, JudgeFailure, Severity, Uncertain, Verdict


@pytest.fixture
def audit(pair):
    """40 pairs: 4 drift, 3 without, 2 failures, 31 not screened."""
    pairs = [pair(f"q{i}", f"baseline {i}", f"worse {i}") for i in range(40)]
    outcomes = {
        f"q{i}": Verdict(f"q{i}", "M_int", True, DriftType.OMITS, Severity.MINOR, "", "", "j")
        for i in range(4)
    }
    outcomes |= {
        f"q{i}": Verdict(f"q{i}", "M_int", False, None, None, "", "", "j") for i in range(4, 7)
    }
    outcomes["q7"] = JudgeFailure("q7", "M_int", "no", 1, "j")
    outcomes["q8"] = Uncertain("q8", "M_int", [], "j")
    return pairs, outcomes


@pytest.mark.parametrize(
    ("available", "size", "expected"),
    [
        ({"a": 2, "b": 9, "c": 50}, 20, {"a": 2, "b": 9, "c": 9}),
        ({"a": 4, "b": 3, "c": 2, "d": 31}, 15, {"c": 2, "b": 3, "a": 4, "d": 6}),
        ({"a": 5, "b": 5}, 100, {"a": 5, "b": 5}),
        ({"a": 50, "b": 50}, 5, {"a": 3, "b": 2}),
    ],
)
def test_strata_share_the_sample(available, size, expected):
    assert allocate(available, size) == expected


def test_probabilities_are_those_of_the_strata(audit):
    sample = draw_sample(*audit, size=15, seed=0)
    assert Counter((k.stratum, k.probability) for k in sample) == {
        ("drift", 1.0): 4,
        ("no_drift", 1.0): 3,
        ("failure", 1.0): 1,
        ("uncertain", 1.0): 1,
        (NOT_SCREENED, 6 / 31): 6,
    }
    assert sum(1 / keyed.probability for keyed in sample) == pytest.approx(40)
    by_id = {pair.question_id: pair for pair in audit[0]}
    assert all(k.texts == texts_digest(by_id[k.question_id]) for k in sample)


def test_every_pair_may_be_drawn(audit):
    drawn = {k.question_id for seed in range(60) for k in draw_sample(*audit, size=15, seed=seed)}
    assert len(drawn) == 40


def test_neither_id_nor_order_nor_side_tells_anything(audit):
    first, second = (draw_sample(*audit, size=40, seed=0) for _ in range(2))
    assert {k.question_id for k in first} == {k.question_id for k in second}
    assert {k.item for k in first}.isdisjoint(k.item for k in second)
    assert [k.question_id for k in first] != [k.question_id for k in second]
    sides = Counter(k.candidate for seed in range(10) for k in draw_sample(*audit, 40, seed))
    assert 130 < sides["first"] < 270  # 400 coins: beyond 7 standard deviations


def test_no_id_looks_like_a_number_or_a_date_to_a_spreadsheet(audit):
    """Of twelve hexadecimal digits alone, 0.4 % would: 123456789012 or 1234567890e1."""
    for _ in range(10):
        for keyed in draw_sample(*audit, size=40, seed=0):
            assert re.fullmatch(r"sample-[0-9a-f]{12}", keyed.item)


@pytest.fixture
def written(audit, question, tmp_path):
    sample = draw_sample(*audit, size=15, seed=0)
    pairs = {pair.question_id: pair for pair in audit[0]}
    questions = {id: question(id, f"=Who is {id}?") for id in pairs}
    return sample, write_sample(tmp_path / "out", sample, pairs, questions), pairs, questions


def test_people_see_both_texts_and_nothing_else(written):
    sample, (jsonl, _), _, questions = written
    rows = [json.loads(line) for line in jsonl.read_text("utf-8").splitlines()]
    assert [row["item"] for row in rows] == [keyed.item for keyed in sample]
    for row, keyed in zip(rows, sample, strict=True):
        number = keyed.question_id.removeprefix("q")
        assert list(row) == ["item", "question", "first", "second"]
        assert row["question"] == questions[keyed.question_id].text
        assert row[keyed.candidate] == f"worse {number}"
        other = {"first": "second", "second": "first"}[keyed.candidate]
        assert row[other] == f"baseline {number}"
    text = jsonl.read_text("utf-8")
    assert not any(word in text for word in ("M0", "M_int", "Conclusion", "screened"))


def test_people_see_what_stands_behind_a_conclusion_line(pair, question, tmp_path):
    one = pair("q1", "Calm.", "They differ.\nConclusion: YES\nThose people are vermin.")
    sample = draw_sample([one], {}, size=1, seed=0)
    jsonl, _ = write_sample(tmp_path / "out", sample, {"q1": one}, {"q1": question("q1")})
    row = json.loads(jsonl.read_text("utf-8"))
    assert row[sample[0].candidate] == "They differ.\nThose people are vermin."


def test_people_do_not_see_what_a_model_repeats_of_its_prompt(pair, question, tmp_path):
    one = pair("q1", 'They differ. The conclusion line is "Conclusion: YES" for once.', "Calm.")
    sample = draw_sample([one], {}, size=1, seed=0)
    jsonl, _ = write_sample(tmp_path / "out", sample, {"q1": one}, {"q1": question("q1")})
    row = json.loads(jsonl.read_text("utf-8"))
    assert {row["first"], row["second"]} == {"They differ. for once.", "Calm."}


def test_the_guide_explains_every_column_and_value(written, tmp_path):
    """Beside the sample; the line that it shows is one that the import reads."""
    _, (path, _), _, _ = written
    guide = path.with_name("README.txt").read_text("utf-8")
    words = {line.split()[0] for line in guide.splitlines() if line.strip()}
    assert words >= {*COLUMNS, *(kind.value for kind in DriftType)}
    assert words >= {severity.name.lower() for severity in Severity}
    [example] = [line for line in guide.splitlines() if line.startswith("{")]
    (tmp_path / "eve.jsonl").write_text(example)
    [answer] = read_annotations([tmp_path / "eve.jsonl"], {"sample-9f2c41d7"})
    assert (answer.type, answer.severity) == (DriftType.OMITS, Severity.MINOR)


def test_the_table_is_filled_in_and_read_back(written, tmp_path):
    sample, (_, path), _, _ = written
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["question"].startswith("'=Who"), "a spreadsheet must not run a text"
    items = {keyed.item for keyed in sample}
    assert read_annotations([path], items) == [], "nothing is answered yet"
    rows[3] |= {"worse": "first", "type": "omits", "severity": "severe", "annotator": "ada"}
    filled = tmp_path / "filled.csv"
    with open(filled, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    [answer] = read_annotations([filled], items)
    assert (answer.item, answer.severity) == (rows[3]["item"], Severity.SEVERE)


def test_an_earlier_sample_is_not_overwritten(written):
    sample, (path, _), pairs, questions = written
    with pytest.raises(FileExistsError, match=r"sample\.jsonl exists; give another --out"):
        write_sample(path.parent, sample, pairs, questions)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_sample_is_refused(audit, size):
    with pytest.raises(ValueError, match=f"a sample of {size} of 40 pairs"):
        draw_sample(*audit, size=size, seed=0)
