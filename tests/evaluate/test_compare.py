"""Runs side by side, made up."""

import dataclasses

import pytest

from dart_jax.evaluate.compare import ComparedRun, other_questions, paired_runs
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.decisions import question_decisions
from dart_jax.evaluate.metrics import UnmatchedGenerations
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.cells import shown_rows
from dart_jax.report.comparison import paired_table, parts_of, runs_table
from tests.evaluate.test_planted import made_up_planted
from tests.evaluate.test_statistics import QUESTIONS, RIGHT, answers_of, unanswered
from tests.report.test_report import CONFIG

PARTS = ("settings", "accuracy", "forced", "drift", "planted", "collateral", "evaluator_1")
BOOTSTRAP = EvaluateConfig(bootstrap_samples=200)


def decisions(right=RIGHT, questions=QUESTIONS):
    return question_decisions(
        questions, {name: answers_of(name, rows, questions) for name, rows in right.items()}
    )


def run_of(name: str, summary: RunSummary, right=RIGHT, questions=QUESTIONS) -> ComparedRun:
    return ComparedRun(name, CONFIG, summary, decisions(right, questions), 128)


def test_decisions_are_right_where_the_answers_are():
    for model, right in RIGHT.items():
        assert [line.right(model) for line in decisions()] == [bool(ok) for ok in right]
    with pytest.raises(UnmatchedGenerations):
        question_decisions(QUESTIONS[1:], {"M0": answers_of("M0", RIGHT["M0"])})


def test_what_left_no_room_for_an_answer_has_no_decision_to_compare():
    answers = {name: answers_of(name, rows) for name, rows in RIGHT.items()}
    answers["M0"][0] = unanswered(answers["M0"][0])
    assert question_decisions(QUESTIONS, answers) == decisions()[1:]


def test_a_row_a_run(summary):
    other = dataclasses.replace(summary, protocol="transductive", split_by="scenario")
    table = runs_table([run_of("a", summary), run_of("b", other)])
    first, second = shown_rows(table)
    row = dict(zip([column.title for column in table.columns], first, strict=True))
    assert (row["run"], row["protocol"], row["split"]) == ("a", "heldout", "row")
    assert row["M_DART"] == "68.8 [58.8, 78.8]" and row["shortcut"].startswith("90.7")
    assert (row["drift M_int"], row["drift M_DART"]) == ("10", "2")
    assert row["reduction, %"] == "80.0 [55.0, 93.0]"
    assert (row["weights"], row["seed"], row["targets"]) == ("linear", "1", "128")
    assert second[1:3] == ["transductive", "scenario"]


def test_forced_and_planted_figures_stand_beside_the_others(summary):
    planted = dataclasses.replace(summary, planted=made_up_planted())
    runs = [run_of("a", summary), run_of("b", planted)]
    parts = {table.name: table for table in parts_of(runs, runs_table(runs))}
    assert list(parts) == [f"runs_{of}" for of in PARTS]
    for table in parts.values():
        assert [row[0] for row in shown_rows(table)] == ["a", "b"]
        assert table.caption.endswith("; protocol heldout, split by row")
    without, with_planting = shown_rows(parts["runs_planted"])
    assert set(without[1:]) == {""}
    reduction = planted.planted.reduction
    assert with_planting[-1].startswith(f"{100 * reduction.value:.1f} [")
    assert shown_rows(parts["runs_forced"])[0][4] == "0.734 [0.611, 0.825]"

    def bare(run):
        models = {
            name: dataclasses.replace(metrics, forced_accuracy=None, auroc=None)
            for name, metrics in run.summary.models.items()
        }
        return run_of(run.name, dataclasses.replace(run.summary, models=models))

    neither = [bare(runs[0])]
    assert [table.name for table in parts_of(neither, runs_table(neither))] == [
        f"runs_{of}" for of in PARTS if of not in ("forced", "planted")
    ]


def test_other_answers_and_evaluators_stand_beside_the_others(summary):
    audit, _ = summary.drift_by
    earlier = dataclasses.replace(summary, collateral=None, drift_by=[audit])
    runs = [run_of("a", summary), run_of("b", earlier)]
    whole = runs_table(runs)
    parts = {table.name: table for table in parts_of(runs, whole)}

    measured, not_measured = shown_rows(parts["runs_collateral"])
    assert measured[1:4] == ["30", "90.0 [80.0, 97.0]", "0.012 [0.008, 0.020]"]
    assert set(not_measured[1:]) == {""}
    evaluator = parts["runs_evaluator_1"]
    assert "openai a|b, not independent of the audit and the repair in a;" in evaluator.caption
    assert shown_rows(evaluator)[0][2] == "0.780 [0.500, 0.940]"
    keys = [column.key for column in whole.columns]
    assert "kappa_M_DART by openai a|b" in keys and len(set(keys)) == len(keys)

    names = [table.name for table in parts_of(runs[1:], runs_table(runs[1:]))]
    assert not {"runs_collateral", "runs_evaluator_1"} & set(names)


def test_paired_tests_against_the_first_run(summary):
    better = {**RIGHT, "M_int": RIGHT["M_DART"]}
    runs = [run_of("a", summary), run_of("b", summary, better), run_of("c", summary)]
    assert other_questions(runs) == {}
    rows = paired_runs(runs, BOOTSTRAP, 0)
    assert [(row.run, row.model) for row in rows] == [
        (run, model) for run in ("b", "c") for model in ("M_int", "M_DART")
    ]
    assert paired_table(rows).rows[0]["against"] == "a"
    first, *others = [row.difference for row in rows]
    # M_DART is right where M_int is wrong on questions 2, 5, and 7; never the reverse.
    assert (first.gained, first.lost, first.p) == (3, 0, pytest.approx(2 / 2**3))
    assert first.p_holm == pytest.approx(1.0)
    assert first.difference == pytest.approx(3 / 8)
    assert {(row.gained, row.lost, row.p) for row in others} == {(0, 0, 1.0)}


def test_other_questions_are_not_compared(summary):
    fewer = {name: rows[:6] for name, rows in RIGHT.items()}
    reworded = [dataclasses.replace(QUESTIONS[0], text="Another?"), *QUESTIONS[1:]]
    runs = [
        run_of("a", summary),
        run_of("b", summary, fewer, QUESTIONS[:6]),
        run_of("c", summary, questions=reworded),
    ]
    assert other_questions(runs) == {
        "b": "6 test questions, 6 of them among the 8 of a",
        "c": "8 test questions, 7 of them among the 8 of a",
    }
    assert paired_runs(runs, BOOTSTRAP, 0) == []
