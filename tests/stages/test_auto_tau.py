"""`audit.tau: auto` on a run of the tiny model: set once, from the pool, and used everywhere."""

import json

import numpy as np
import pytest

from dart_jax.audit.noise_floor import Calibration, null_deltas
from dart_jax.commands.audit import main as audit_command
from dart_jax.config import STAGES, parse
from dart_jax.generate import answers
from dart_jax.generate.divergence import Divergence
from dart_jax.records import DriftCase, Generation, Score, read_jsonl
from dart_jax.run_dir import RunDir, as_recorded
from dart_jax.stages import evaluate
from dart_jax.stages import noise as stages_noise
from dart_jax.stages.context import Run
from dart_jax.summaries import read_json
from dart_jax.train import main

POOL = 24
AUTO = {
    "audit__tau": "auto",
    "audit__mode": "screen_only",
    "audit__severity_bins": "[0.0001, 0.0002, 0.0003, 0.0004]",
    "data__max_validation": POOL,
    # A training changes more than this noise does.
    "decode__temperature": 0.1,
    "repair__cycles": 2,
    "evaluate__first_tokens": 8,
}


@pytest.fixture(scope="module")
def automatic(settings, tmp_path_factory):
    """The folder of a run with two cycles whose tau was set by noise."""
    root = tmp_path_factory.mktemp("runs")
    assert main(settings(root, **AUTO)) == 0
    return root / "run"


@pytest.fixture
def again(settings, automatic):
    """A function: the command line of a further start of the run, with other settings."""

    def arguments(**changes):
        return settings(automatic.parent, **AUTO | changes)

    return arguments


@pytest.fixture
def noise(automatic) -> Calibration:
    return read_json(automatic / "audit/tau.json", Calibration)


def deltas(scores_path, candidate):
    """Score of a candidate's answer less that of M0's, by question."""
    values = {(s.model, s.question_id): s.value for s in read_jsonl(scores_path, Score)}
    asked = [id for model, id in values if model == "M0"]
    return {id: values[candidate, id] - values["M0", id] for id in asked}


def test_tau_is_the_least_that_one_in_twenty_pairs_of_m0_exceed(automatic, noise):
    null = null_deltas(np.array(noise.scores["profanity"])).ravel()
    assert len(null) == noise.pairs == 2 * POOL
    assert (null > noise.tau).mean() <= 0.05
    smaller = null[null < noise.tau].max()
    assert (null > smaller).mean() > 0.05
    assert noise.tau > 0, "the answers must differ for the tests to say anything"

    first, second = (
        read_jsonl(automatic / f"audit/generations/{name}.jsonl", Generation)
        for name in ("M0", "M0_reseeded")
    )
    assert [a.question_id for a in first] == [a.question_id for a in second]
    assert [a.text for a in first] != [a.text for a in second]


@pytest.mark.parametrize("candidate", [False, True])
def test_m0_is_asked_again_as_it_was_in_the_audit(
    candidate, settings, tiny_model, tmp_path, monkeypatch
):
    """Beside M_int, so that the same programs serve; a candidate's adapter is of another base."""
    further = {"model__candidate": tiny_model} if candidate else {}
    config, _, _ = parse(settings(tmp_path, **AUTO | further))
    beside = []

    def answer(model, adapters, *rest):
        beside.append(list(adapters))
        raise LookupError

    monkeypatch.setattr(Run, "adapters", lambda run, names: dict.fromkeys(names))
    monkeypatch.setattr(stages_noise, "answer_questions", answer)
    with pytest.raises(LookupError):
        stages_noise.set_tau(Run(config, RunDir(config.run)), [], [])
    assert beside == [[] if candidate else ["M_int"]]


def test_every_audit_of_the_run_screens_by_it(automatic, noise, summary_of):
    """The pool's, that of the second cycle, and those of the test questions."""
    summary = summary_of(automatic)
    assert (summary["tau"], summary["tau_set"], summary["tau_pairs"]) == (
        noise.tau,
        "auto",
        2 * POOL,
    )
    audited = {
        "audit/scores.jsonl": ("M_int", summary["cycles"][0]["pool"]),
        "cycles/2/audit/scores.jsonl": ("M_DART", summary["cycles"][1]["pool"]),
        "evaluation/scores.jsonl": ("M_int", summary["drift"]["M_int"]),
    }
    for path, (candidate, counts) in audited.items():
        rises = deltas(automatic / path, candidate).values()
        assert counts["screened"] == sum(rise > noise.tau for rise in rises)
    assert summary["cycles"][0]["pool"]["screened"] > 0
    cases = read_jsonl(automatic / "audit/drift_cases.jsonl", DriftCase)
    assert all(case.delta > noise.tau for case in cases)
    assert not (automatic / "cycles/2/audit/tau.json").exists(), "it is set once"


def test_the_report_names_it_and_shows_the_noise(automatic, noise):
    page = (automatic / "report/report.md").read_text("utf-8")
    assert f"tau {noise.tau:.4g} (auto), protocol heldout" in page
    assert f"at most 5 % of {2 * POOL} pairs of M0 with itself exceed" in page
    assert "M0 against M0 under 2 seeds on 24 questions" in page
    assert "No case can be" in page, "all severities but one lie below this tau"


def test_a_second_start_does_nothing(again, capsys):
    assert main(again()) == 0
    assert capsys.readouterr().out.count(": up to date") == len(STAGES) + 2


def test_calibrating_the_next_seed_decodes_nothing(automatic, noise, again, monkeypatch, capsys):
    monkeypatch.setattr(answers, "decode", None)
    assert audit_command(["calibrate", "--run", str(automatic), "--seeds", "1"]) == 0
    found = read_json(automatic / "audit/calibration.json", Calibration)
    assert found == noise
    assert main(again()) == 0, "the run stays finished"
    assert capsys.readouterr().out.count(": up to date") == len(STAGES) + 2


def test_verdicts_by_another_tau_are_not_kept(automatic):
    """Its number may change while no setting does, for example with the drift pool."""
    config, _, _ = parse([f"--config={automatic / 'config.yaml'}"])
    run = Run(config, RunDir(config.run))
    inputs = as_recorded(evaluate.inputs(run))
    kept = set(evaluate.same_answers(run, inputs, inputs))
    other = set(evaluate.same_answers(run, inputs, {**inputs, "tau": "another"}))
    models = ("M_int", "M_DART", "M_DART_2")
    assert kept - other == {f"evaluation/verdicts_{name}.jsonl" for name in models}
    answers = {f"generations/{name}.jsonl" for name in ("M0", *models)}
    margins = {f"evaluation/margins_{name}.jsonl" for name in ("M0", *models)}
    assert other == answers | margins | {"evaluation/divergences.jsonl"}


def test_the_repair_moved_the_first_words_of_other_answers_too(automatic, summary_of):
    found = summary_of(automatic)["collateral"]
    kl = [row.kl for row in read_jsonl(automatic / "evaluation/divergences.jsonl", Divergence)]
    groups = [found["not_drifted"], found["drifted"]]
    assert sum(group["n"] for group in groups) == len(kl) and min(kl) > 0
    total = sum(group["n"] * (group["kl"]["value"] or 0) for group in groups)
    assert total == pytest.approx(sum(kl))
    assert "KL, first 8 tokens" in (automatic / "report/report.md").read_text("utf-8")


def test_a_number_sets_the_noise_aside_and_keeps_the_answers(automatic, again, capsys):
    """This changes the run, and is last."""
    assert main([*again(audit__tau=1.0), "--stages=audit"]) == 0
    printed = capsys.readouterr().out
    assert "audit.tau changed (auto -> 1.0)" in printed
    assert "audit: kept, as it would be the same: audit/generations/M0.jsonl, audit/gen" in printed
    assert not (automatic / "audit/tau.json").exists()
    assert not (automatic / "audit/generations/M0_reseeded.jsonl").exists()
    assert json.loads((automatic / "audit/summary.json").read_text())["screened"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__max_validation": 19}, r"audit\.tau auto: 19 questions .* fewer than 20"),
        ({"decode__temperature": 0}, r"audit\.tau auto: with decode\.temperature 0"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_gives_no_tau_is_refused_before_any_work(changes, message, dry, settings, tmp_path):
    with pytest.raises(ValueError, match=message):
        main([*settings(tmp_path, **AUTO | changes), *dry])
    assert not (tmp_path / "run/teach").exists()


def test_questions_without_room_do_not_count(settings, tmp_path):
    """24 questions, of which a few leave no room: those that are left may be too few."""
    config, _, _ = parse(settings(tmp_path, **AUTO))
    lengths = prompt_lengths(config)
    context = lengths[18] + config.decode.max_new_tokens
    with pytest.raises(ValueError, match=r"audit\.tau auto: 19 questions"):
        main([*settings(tmp_path, **AUTO), f"--model.context_length={context}"])


def prompt_lengths(config):
    run = Run(config, RunDir(config.run))
    prompts = answers.answer_prompts(run.splits["validation"], run.model)
    return sorted(prompt.length for prompt in prompts)
