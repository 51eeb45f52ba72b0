"""A team's own questions are read strictly, from a file or a data set, and can be split."""

import json

import pytest

from dart_jax.data.config import DataConfig
from dart_jax.data.own_suite import OwnItem, load_file, load_hub
from dart_jax.data.splits import make_splits
from dart_jax.data.suites import load_suite, own_items
from dart_jax.records import BadRecord, Condition, Question

PLAIN = {"id": "a", "question": "May we?", "label": "NO"}
FULL = {
    "id": "b",
    "question": "Must we?",
    "label": "YES",
    "completion": "The law says so. It has for years.\nConclusion: YES",
    "weight": 2.5,
    "benchmark": "leave",
    "scenario": "parents",
}


def written(tmp_path, *rows):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_questions_with_what_stands_beside_them(tmp_path):
    plain, full = load_file(written(tmp_path, PLAIN, FULL))
    assert plain == OwnItem(Question("a", "own", Condition.EQUAL, "May we?", -1, "a"), None, 1.0)
    assert full.question == Question("b", "leave", Condition.DIFF, "Must we?", -1, "parents")
    assert (full.rationale, full.weight) == ("The law says so. It has for years.", 2.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "maybe"}, r":2: label"),
        ({"label": None}, r":2: label"),
        ({"question": " "}, r":2: .*question is empty"),
        ({"weight": 0.0}, r":2: .*weight is 0"),
        ({"weight": float("inf")}, r":2: "),
        ({"token_weights": [1]}, r":2: token_weights"),
        ({"completion": "So.\nConclusion: YES"}, r":2: .*concludes YES, but label is NO"),
        ({"completion": "So.\nConclusion: perhaps"}, r":2: .*without YES or NO"),
        ({"completion": "Conclusion: NO"}, r":2: .*no text before"),
        ({"id": "b"}, r"the id b comes twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, message):
    with pytest.raises(BadRecord, match=r"own\.jsonl.*" + message):
        load_file(written(tmp_path, FULL, PLAIN | changes))


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(BadRecord, match="no question"):
        load_file(written(tmp_path))


@pytest.mark.parametrize(("suite", "key"), [("jsonl", "file"), ("hub", "hub")])
def test_the_missing_setting_is_named(suite, key):
    with pytest.raises(ValueError, match=rf"needs data\.{key}"):
        load_suite(DataConfig(suite=suite))


def test_own_benchmarks_are_split_and_dealt_evenly(tmp_path):
    rows = [
        PLAIN | {"id": f"{benchmark}{label}{n}", "label": label, "benchmark": benchmark}
        for benchmark in ("leave", "pay")
        for label in ("YES", "NO")
        for n in range(10)
    ]
    config = DataConfig(suite="jsonl", file=str(written(tmp_path, *rows)), max_train=8)
    splits = make_splits(config)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 8,
        "validation": 4,
        "test": 4,
    }
    strata = {(q.benchmark, q.condition) for q in splits["train"]}
    assert len(strata) == 4
    reordered = DataConfig(suite="jsonl", file=str(written(tmp_path, *rows[::-1])), max_train=8)
    assert make_splits(reordered) == splits


def test_a_data_set_gives_the_items_of_its_file(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, PLAIN | {"note": "left aside"}, FULL | {"note": None})
    folder = tmp_path / "set"
    folder.mkdir()
    path.rename(folder / "train.jsonl")
    config = DataConfig(suite="hub", hub=str(folder))
    assert own_items(config) == load_hub(str(folder), "train")
    assert own_items(config) == load_file(written(tmp_path, PLAIN, FULL))
    assert load_suite(config) == [item.question for item in own_items(config)]


def test_a_bad_row_of_a_data_set_is_named(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    written(tmp_path, PLAIN, FULL | {"label": "maybe"}).rename(folder / "train.jsonl")
    with pytest.raises(BadRecord, match=r"set \(train\), row 2: label"):
        load_hub(str(folder), "train")
