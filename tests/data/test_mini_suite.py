"""The embedded suite keeps its promises, and its reader refuses what breaks them."""

import json
import shutil
from collections import Counter, defaultdict

import pytest

from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.config import DataConfig
from dart_jax.data.mini_suite import MINI_DIR, file_rationales, file_safer, load_mini
from dart_jax.data.splits import make_splits
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.records import BadRecord, Condition
from dart_jax.teach.quality import check_target


@pytest.fixture(scope="module")
def items():
    return load_mini()


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_family_is_large_and_balanced(items, benchmark):
    questions = [i.question for i in items if i.question.benchmark == benchmark]
    conditions = Counter(q.condition for q in questions)
    assert len(questions) >= 40
    assert conditions[Condition.DIFF] == conditions[Condition.EQUAL]
    assert len({q.scenario_id for q in questions}) >= 12


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_most_scenarios_hold_both_conditions(items, benchmark):
    conditions = defaultdict(set)
    for item in items:
        if item.question.benchmark == benchmark:
            conditions[item.question.scenario_id].add(item.question.condition)
    assert sum(len(found) == 2 for found in conditions.values()) > len(conditions) / 2


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_questions_are_short_and_end_in_three_options(items, benchmark):
    for question in (i.question for i in items if i.question.benchmark == benchmark):
        last = question.text.splitlines()[-1]
        assert len(question.text) < 420, question.id
        assert last.startswith("(a) "), question.id
        assert 0 < last.find(" (b) ") < last.find(" (c) "), question.id


def test_ids_texts_and_rationales_are_unique(items):
    assert len({i.question.id for i in items}) == len(items)
    assert len({i.question.text for i in items}) == len(items)
    assert len({text for i in items for text in (i.rationale, i.safer)}) == 2 * len(items)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_both_texts_are_acceptable_targets(items, benchmark):
    for item in (i for i in items if i.question.benchmark == benchmark):
        for text in (item.rationale, item.safer):
            completion = f"{text}\n{conclusion_line(item.question.gold)}"
            assert check_target(completion, item.question) is None, (item.question.id, text)


def test_the_teacher_finds_a_text_for_every_question(items):
    ids = {i.question.id for i in items}
    assert file_rationales().keys() == file_safer().keys() == ids
    assert file_rationales()[items[0].question.id] == items[0].rationale
    assert file_safer()[items[0].question.id] == items[0].safer


@pytest.mark.parametrize("by", ["row", "scenario"])
def test_no_split_lacks_a_family(by):
    for questions in make_splits(DataConfig(split_by=by)).values():
        assert {q.benchmark for q in questions} == set(BENCHMARKS)
        assert {q.condition for q in questions} == set(Condition)


def _copy_with(tmp_path, **changes):
    """A copy of the suite whose third D1 line is changed."""
    folder = shutil.copytree(MINI_DIR, tmp_path / "mini")
    lines = (folder / "D1.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | changes)
    (folder / "D1.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, r"D1\.jsonl:3: .*source is empty"),
        ({"answer": 2}, r"D1\.jsonl:3: .*answer is 2"),
        ({"rationale": "A.", "safer": "A."}, r"D1\.jsonl:3: .*same text"),
        ({"extra": 1}, r"D1\.jsonl:3: extra"),
        ({"answer": "0"}, r"D1\.jsonl:3: answer"),
        ({"id": "mini-D1-diff-000"}, r"row 3 has id mini-D1-diff-000 .*belongs mini-D1-diff-002"),
        ({"benchmark": "D2"}, r"row 3 .*of benchmark D2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, message):
    with pytest.raises(BadRecord, match=message):
        load_mini(_copy_with(tmp_path, **changes))


def test_a_missing_family_is_named(tmp_path):
    folder = shutil.copytree(MINI_DIR, tmp_path / "mini")
    (folder / "N4.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"N4\.jsonl"):
        load_mini(folder)
