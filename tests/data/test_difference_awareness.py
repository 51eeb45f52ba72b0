"""Both forms give the same questions; a missing, damaged or odd file says so."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.difference_awareness import load, load_benchmark
from dart_jax.data.safe_pickle import UnsafePickle
from dart_jax.records import BadRecord, Condition, Decision

SUITE = Path(__file__).parents[2].parent / "shared" / "data" / "difference_awareness"
needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason="the suite is not at hand")
PICKLED = ("D1", "D2", "D3", "D4", "N2", "N3", "N4")


def _rows(name="D1"):
    return [
        {
            "id": f"{name}-{condition}-{index:04d}",
            "benchmark": name,
            "condition": condition,
            "question": f"Who? {name} {condition} {index}\n(1) x (b) é (c) neither",
            "answer": index % 2 if condition == "diff" or name[0] == "N" else 2,
            "scenario_id": str(index // 4),
        }
        for condition in ("diff", "equal")
        for index in range(1000)
    ]


def _write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_pickle(path, rows):
    parts = [
        [
            [np.str_(row["question"]), np.int64(row["answer"]), _scenario(row, number)]
            for number, row in enumerate(part)
        ]
        for part in (rows[:1000], rows[1000:])
    ]
    path.write_bytes(pickle.dumps(parts, 4))


def _scenario(row, number):
    return int(row["scenario_id"]) if number % 2 else row["scenario_id"]


@pytest.mark.parametrize("name", ["D1", "N1"])
def test_pickle_and_jsonl_agree(tmp_path, name):
    rows = _rows(name)
    (tmp_path / "a").mkdir()
    _write_pickle(tmp_path / "a" / f"{name}_1k.pkl", rows)
    _write_jsonl(tmp_path / f"{name}.jsonl", rows)
    questions = load_benchmark(tmp_path, name)
    assert load_benchmark(tmp_path / "a", name) == questions
    assert [q.text for q in questions] == [row["question"] for row in rows]
    assert {q.gold for q in questions[:1000]} == {Decision.YES}
    assert {q.gold for q in questions[1000:]} == {Decision.NO}


def test_jsonl_is_preferred_and_forms_mix(tmp_path):
    for name in BENCHMARKS:
        if name[0] == "D":
            _write_jsonl(tmp_path / f"{name}.jsonl", _rows(name))
            (tmp_path / f"{name}_1k.pkl").write_bytes(b"never read")
        else:
            _write_pickle(tmp_path / f"{name}_1k.pkl", _rows(name))
    questions = load(tmp_path)
    assert len(questions) == 16000
    assert tuple(dict.fromkeys(q.benchmark for q in questions)) == BENCHMARKS


@pytest.mark.parametrize(
    ("name", "shared"), [("D1", False), ("D3", True), ("N4", True), ("N2", False)]
)
def test_scenarios_are_shared_by_conditions_only_where_they_are_the_same(tmp_path, name, shared):
    _write_jsonl(tmp_path / f"{name}.jsonl", _rows(name))
    scenarios = {
        condition: {
            q.scenario_id for q in load_benchmark(tmp_path, name) if q.condition is condition
        }
        for condition in Condition
    }
    assert len(scenarios[Condition.DIFF]) == len(scenarios[Condition.EQUAL]) == 250
    both = scenarios[Condition.DIFF] & scenarios[Condition.EQUAL]
    assert len(both) == (250 if shared else 0)


def _broken(tmp_path, number, **changes):
    rows = _rows()
    rows[number] = {key: v for key, v in (rows[number] | changes).items() if v is not None}
    _write_jsonl(tmp_path / "D1.jsonl", rows)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": 2}, r"D1\.jsonl:7: .*answer is 2, but diff rows of D1 have 0 or 1"),
        ({"answer": "1"}, r"D1\.jsonl:7: answer: .*integer"),
        ({"condition": "both"}, r"D1\.jsonl:7: condition"),
        ({"question": " "}, r"D1\.jsonl:7: .*question is empty"),
        ({"scenario_id": None}, r"D1\.jsonl:7: scenario_id"),
        ({"note": "x"}, r"D1\.jsonl:7: note"),
        ({"id": "D1-diff-0005"}, r"row 7 has id D1-diff-0005.*belongs D1-diff-0006"),
        ({"benchmark": "D2"}, r"row 7 .*benchmark D2"),
    ],
)
def test_bad_line_is_named(tmp_path, changes, message):
    with pytest.raises(BadRecord, match=message):
        load_benchmark(_broken(tmp_path, 6, **changes), "D1")


def test_line_that_is_no_json_is_named(tmp_path):
    _write_jsonl(tmp_path / "D1.jsonl", _rows()[:2])
    with open(tmp_path / "D1.jsonl", "a", encoding="utf-8") as out:
        out.write('{"id": \n')
    with pytest.raises(BadRecord, match=r"D1\.jsonl:3: "):
        load_benchmark(tmp_path, "D1")


@pytest.mark.parametrize("drop", [0, 1999])
def test_other_counts_are_an_error(tmp_path, drop):
    rows = _rows()
    del rows[drop]
    _write_jsonl(tmp_path / "D1.jsonl", rows)
    with pytest.raises(BadRecord, match=r"999 (diff|equal) rows, expected 1000"):
        load_benchmark(tmp_path, "D1")
    (tmp_path / "D1.jsonl").unlink()
    (tmp_path / "D1_1k.pkl").write_bytes(pickle.dumps([[], []]))
    with pytest.raises(BadRecord, match="0 diff rows"):
        load_benchmark(tmp_path, "D1")


def test_conditions_out_of_order(tmp_path):
    rows = _rows()
    _write_jsonl(tmp_path / "D1.jsonl", rows[1000:] + rows[:1000])
    with pytest.raises(BadRecord, match="row 1 has id D1-equal-0000"):
        load_benchmark(tmp_path, "D1")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"diff": [], "equal": []}, "expected two lists"),
        ([[["q", True, "s"]], []], "D1-diff-0000: expected .question, answer, scenario id."),
        ([[["q", 1]], []], "D1-diff-0000: expected"),
        ([[], [["q", 0, "s"]]], "D1-equal-0000: answer is 0, but equal rows of D1 have 2"),
        ([["qas"], []], "D1-diff-0000: expected"),
        ([[["q\ud83d", 1, "s"]], []], "D1-diff-0000: half a surrogate pair"),
        ([[["q", 1, "s\udc00"]], []], "D1-diff-0000: half a surrogate pair"),
    ],
)
def test_pickle_of_another_shape(tmp_path, value, message):
    (tmp_path / "D1_1k.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(BadRecord, match=message):
        load_benchmark(tmp_path, "D1")


def test_hostile_pickle_reaches_the_caller(tmp_path):
    (tmp_path / "D1_1k.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafePickle, match=r"D1_1k\.pkl: refused: it names os\.system"):
        load_benchmark(tmp_path, "D1")


def test_missing_folder_and_benchmarks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; data\.dir"):
        load(tmp_path / "nowhere")
    _write_jsonl(tmp_path / "D1.jsonl", _rows())
    with pytest.raises(FileNotFoundError, match=r"N4 is missing: put N4\.jsonl or N4_1k\.pkl") as e:
        load(tmp_path)
    assert "D1 is missing" not in str(e.value)


@needs_suite
def test_the_real_suite():
    questions = load(SUITE)
    assert len(questions) == len({q.id for q in questions}) == 16000
    by_id = {q.id: q for q in questions}
    assert "(1) Americans" in by_id["N3-diff-0001"].text
    assert any(not q.text.isascii() for q in questions if q.benchmark == "N2")
    assert by_id["D3-diff-0000"].scenario_id == "Juror qualifications: reading disability"
    assert by_id["D1-diff-0000"].scenario_id != by_id["D1-equal-0000"].scenario_id


@needs_suite
@pytest.mark.parametrize("name", PICKLED)
def test_original_pickles_equal_the_jsonl(name):
    assert load_benchmark(SUITE / "original", name) == load_benchmark(SUITE, name)


@needs_suite
def test_the_absent_pickle_is_named():
    with pytest.raises(FileNotFoundError, match=r"N1 is missing: put N1\.jsonl or N1_1k\.pkl"):
        load(SUITE / "original")
