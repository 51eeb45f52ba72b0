"""The five stages end to end: what they leave, what a second start repeats, what drift trains."""

import json
from collections import Counter

import jax
import pytest

import dart_jax.stages.repair as repair_stage
from dart_jax.config import STAGES, parse
from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.evaluate.summary import AUDITED, MODELS, SEVERITIES
from dart_jax.generate import answers, margins
from dart_jax.generate.answers import answer_prompts, answer_questions
from dart_jax.generate.decode import PromptTooLong
from dart_jax.model.lora import init_lora
from dart_jax.records import (
    DriftCase,
    DriftType,
    Generation,
    RejectedTarget,
    Score,
    Target,
    read_jsonl,
)
from dart_jax.run_dir import RunDir, hash_path
from dart_jax.sft.examples import tokenize
from dart_jax.sft.metrics import LogLine
from dart_jax.stages.context import Run
from dart_jax.stages.repair import check_weight_mass
from dart_jax.teach.repair import WeightingHadNoEffect
from dart_jax.train import main

RATES = {"n", "accuracy", "equal_accuracy", "diff_accuracy", "yes_rate", "unparseable_rate"}


@pytest.fixture
def run(copied, settings, tmp_path):
    """The finished run, opened."""
    config, _, _ = parse(settings(tmp_path))
    return Run(config, RunDir(config.run))


def times(folder):
    """When each file was last written, but for those that every start writes."""
    every_start = {"config.yaml", "versions.json", ".lock"}
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in every_start and "responses.sqlite" not in path.name
    ]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def up_to_date(printed):
    return [stage for stage in STAGES if f"{stage}: up to date" in printed]


def test_summary_has_the_promised_keys(finished, summary_of):
    summary = summary_of(finished)
    assert (summary["protocol"], summary["split_by"]) == ("heldout", "row")
    assert set(summary["models"]) == {"M0", "M_int", "M_DART"}
    for model in summary["models"].values():
        assert set(model) >= RATES
        assert model["n"] == 8
        assert set(model["by_benchmark"]) == set(BENCHMARKS)
        assert all(set(row) >= RATES for row in model["by_benchmark"].values())
        assert 0 <= model["forced_accuracy"]["low"] <= model["forced_accuracy"]["value"] <= 1
        assert 0 <= model["auroc"]["low"] <= model["auroc"]["value"] <= 1
        assert sum(bin["n"] for bin in model["reliability"]["bins"]) == 8
    for name in AUDITED:
        drift = summary["drift"][name]
        assert (drift["pairs"], drift["screened"], drift["failed"]) == (8, 8, 0)
        assert set(drift["by_severity"]) == set(SEVERITIES)
        assert set(drift["by_type"]) == {type.value for type in DriftType}
        assert drift["confirmed"] == sum(drift["by_severity"].values())
    assert "reduction" in summary["drift"]
    shortcut = summary["shortcut_baseline"]
    assert 0 <= shortcut["accuracy"] == shortcut["forced_accuracy"]["value"] <= 1
    assert 0 <= shortcut["auroc"]["value"] <= 1
    assert set(summary["seconds"]) == set(STAGES)

    groups = [summary["collateral"][name] for name in ("not_drifted", "drifted")]
    assert groups[1]["n"] == summary["drift"]["M_int"]["confirmed"] == 8 - groups[0]["n"]
    assert [group["kl"] for group in groups] == [None, None], "evaluate.first_tokens is 0"


def test_outputs_are_where_scripts_look(finished):
    adapter = ("adapter_config.json", "adapter_model.safetensors")
    names = [
        "config.yaml",
        "versions.json",
        "evaluation/summary.json",
        "report/report.md",
        *(f"generations/{name}.jsonl" for name in MODELS),
        *(f"adapters/{name}/{file}" for name in AUDITED for file in adapter),
    ]
    assert [name for name in names if not (finished / name).is_file()] == []
    assert hash_path(finished / "adapters/M_int") != hash_path(finished / "adapters/M_DART")
    page = (finished / "report/report.md").read_text("utf-8")
    images = [line.partition("](")[2][:-1] for line in page.splitlines() if line.startswith("![")]
    assert len(images) == 5
    assert all((finished / "report" / name).stat().st_size > 1000 for name in images)


def test_a_second_start_does_nothing(copied, settings, tmp_path, capsys):
    before = times(copied)
    assert main(settings(tmp_path)) == 0
    assert up_to_date(capsys.readouterr().out) == list(STAGES)
    assert times(copied) == before


def test_settings_that_change_no_result_repeat_nothing(copied, settings, tmp_path, capsys):
    assert main(settings(tmp_path, judge__timeout=1.0, teacher__concurrency=1)) == 0
    assert up_to_date(capsys.readouterr().out) == list(STAGES)


def test_tau_repeats_the_audit_and_no_drift_leaves_m_int(
    copied, settings, tmp_path, summary_of, capsys, monkeypatch
):
    """No delta exceeds 1, so nothing is confirmed: M_DART is M_int, said plainly.

    What M0 and M_int answer does not depend on tau, and no model is asked again.
    """

    def decode(model, adapters, requests, *_, **__):
        assert not requests, "a model is asked again"

    def conclude(*_, **__):
        raise AssertionError("a model is forced to conclude again")

    monkeypatch.setattr(answers, "decode", decode)
    monkeypatch.setattr(margins, "conclusion_margins", conclude)
    before = times(copied)
    with_tau = settings(tmp_path, audit__tau=1.0)
    assert main(with_tau) == 0
    printed = capsys.readouterr().out
    assert up_to_date(printed) == ["teach", "distill"]
    assert "evaluate: kept, as it would be the same: generations/M0.jsonl, eval" in printed
    assert "nothing to repair (no drift case was confirmed): M_DART is M_int" in printed
    after = times(copied)
    kept = ("teach/", "distill/", "adapters/M_int", "stages/teach", "stages/distill")
    assert [name for name in before if name.startswith(kept) and after[name] != before[name]] == []

    summary = summary_of(copied)
    assert summary["m_dart_is_m_int"] is True
    assert summary["repair"] == {} and summary["collateral"] is None
    assert summary["drift"]["reduction"] is None
    assert summary["models"]["M_DART"] == summary["models"]["M_int"]
    assert hash_path(copied / "adapters/M_int") == hash_path(copied / "adapters/M_DART")
    assert main(with_tau) == 0
    assert up_to_date(capsys.readouterr().out) == list(STAGES)


def test_an_answer_that_was_changed_is_not_kept(copied, settings, tmp_path, capsys):
    """Fewer bootstrap samples: the models' answers are kept where they are what was written."""
    again = settings(tmp_path, evaluate__bootstrap_samples=40)
    file = copied / "generations/M_DART.jsonl"
    written = file.read_bytes()
    file.write_bytes(written.replace(b"M_DART", b"M_CART", 1))
    assert main(again) == 0
    assert "kept" not in capsys.readouterr().out
    assert file.read_bytes() == written
    verdicts = (copied / "evaluation/verdicts_M_DART.jsonl").read_bytes()
    assert main(settings(tmp_path, evaluate__bootstrap_samples=45)) == 0
    printed = capsys.readouterr().out
    assert "generations/M_DART.jsonl, evaluation/verdicts_M_DART.jsonl" in printed
    assert file.read_bytes() == written
    assert (copied / "evaluation/verdicts_M_DART.jsonl").read_bytes() == verdicts


def test_another_drift_pool_reaches_the_report(copied, settings, tmp_path, summary_of):
    """Even where it confirms nothing either, so that M_DART stays what it was."""
    for pool in (8, 4):
        assert main(settings(tmp_path, audit__tau=1.0, audit__max_prompts=pool)) == 0
        assert summary_of(copied)["drift_pool"]["pairs"] == pool
    assert (
        main(settings(tmp_path, audit__tau=1.0, audit__max_prompts=4, data__max_validation=3)) == 0
    )
    assert summary_of(copied)["drift_pool"]["pairs"] == 3


def test_prompts_that_do_not_fit_stop_the_run_before_training(settings, tmp_path):
    with pytest.raises(PromptTooLong, match=r"mini-.*decode\.max_new_tokens"):
        main(settings(tmp_path, decode__max_new_tokens=900))
    assert not (tmp_path / "run/distill/log.jsonl").exists()


def test_drift_cases_are_never_test_questions(finished, run):
    test_ids = {question.id for question in run.splits["test"]}
    pool = {row.question_id for row in read_jsonl(finished / "audit/scores.jsonl", Score)}
    repaired = read_jsonl(finished / "repair/training_set.jsonl", Target)
    assert len(pool) == 8 and not pool & test_ids
    assert {target.question_id for target in repaired} & test_ids == set()
    for name in MODELS:
        answers = read_jsonl(finished / f"generations/{name}.jsonl", Generation)
        assert {answer.question_id for answer in answers} == test_ids
        assert {answer.model for answer in answers} == {name}


def test_both_sides_of_a_pair_see_the_same_noise(run, tmp_path):
    """A fresh adapter changes nothing, so that only the noise could; at temperature 2."""
    config, _, _ = parse(["--decode.temperature=2", "--decode.max_new_tokens=6"])
    fresh = init_lora(jax.random.key(3), run.model.config, run.config.lora)
    questions = run.splits["test"]

    def texts(name, lora, scale, asked, seed=0):
        files = {name: tmp_path / f"{name}.jsonl"}
        adapters = {name: (lora, scale)}
        found = answer_questions(run.model, adapters, asked, files, config.decode, seed)[name]
        return {answer.question_id: answer.text for answer in found}

    baseline = texts("a", {}, 0.0, questions)
    assert texts("b", fresh, run.config.lora.scale, questions[::-1]) == baseline
    assert texts("c", {}, 0.0, questions, seed=1) != baseline


def test_prompts_have_one_bos_at_most(run):
    special = run.model.tokenizer.control_tokens["<head>"]
    for prompt in answer_prompts(run.splits["test"], run.model):
        assert prompt.tokens[0] == special
        assert Counter(prompt.tokens)[special] == 3, "system, user, assistant"


def examples_of(run):
    training = read_jsonl(run.folder / "repair/training_set.jsonl", Target)
    return tokenize(training, run.questions, run.model.tokenizer, 1024)


def test_severity_weights_reach_the_loss(run, summary_of):
    found = read_jsonl(run.folder / "audit/drift_cases.jsonl", DriftCase)
    rejected = read_jsonl(run.folder / "repair/rejected.jsonl", RejectedTarget)
    cases = [case for case in found if case.question_id not in {r.question_id for r in rejected}]
    severities = Counter(case.severity.name.lower() for case in cases)
    assert len(severities) > 1, "the run must have cases of several severities"
    assert summary_of(run.folder.path)["repair"] == {
        name: {"examples": count, "weight_mass": float(count * (SEVERITIES.index(name) + 1))}
        for name, count in severities.items()
    }
    training = read_jsonl(run.folder / "repair/training_set.jsonl", Target)
    by_question = {target.question_id: target for target in training if target.severity}
    assert {id: target.weight for id, target in by_question.items()} == {
        case.question_id: float(case.severity) for case in cases
    }
    assert len(by_question) + len(rejected) == len(found)
    log = read_jsonl(run.folder / "repair/log.jsonl", LogLine)
    tokens = [len(example.tokens) - example.prompt_length for example in examples_of(run)]
    expected = sum(count * target.weight for count, target in zip(tokens, training, strict=True))
    assert sum(step.weight_mass for step in log) == pytest.approx(expected, rel=1e-6)


def test_a_log_without_the_weights_is_refused(run):
    examples = examples_of(run)
    log = read_jsonl(run.folder / "repair/log.jsonl", LogLine)
    check_weight_mass(examples, 1, log)
    with pytest.raises(WeightingHadNoEffect, match=r"weight mass of .*, the repair set holds"):
        check_weight_mass([*examples, examples[0]], 1, log)
    with pytest.raises(WeightingHadNoEffect):
        check_weight_mass(examples, 2, log)


def test_a_training_set_that_loses_an_example_fails_the_run(
    copied, settings, tmp_path, monkeypatch
):
    """As in the release, where de-duplication before training undid the weights."""
    train = repair_stage.train

    def without_last_example(examples, *args, **kwargs):
        return train(examples[:-1], *args, **kwargs)

    monkeypatch.setattr(repair_stage, "train", without_last_example)
    with pytest.raises(WeightingHadNoEffect):
        main(settings(tmp_path, repair__learning_rate=2e-4))
    assert not (copied / "adapters/M_DART").exists()


def test_the_manifests_name_seed_and_prompts(finished):
    for stage in STAGES:
        manifest = json.loads((finished / f"stages/{stage}.json").read_text("utf-8"))
        assert {"prompts", "run.seed"} <= set(manifest["inputs"])
