"""Planted drift of a run, from the files of its answers."""

from dataclasses import replace

from dart_jax.audit.audited import read_tested
from dart_jax.config import parse
from dart_jax.prompts.planted import planted_sentences
from dart_jax.records import Generation, read_jsonl, write_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.stages.auditing import Audit
from dart_jax.stages.context import Run
from dart_jax.stages.drift_found import drift_found, planted_found

SENTENCE = planted_sentences()[0]


def say_it(path, count):
    """Let the first answers of a file hold a planted sentence."""
    answers = read_jsonl(path, Generation)
    for place in range(count):
        answers[place] = replace(answers[place], text=f"A rule. {SENTENCE.text}")
    write_jsonl(path, answers)


def audits_of(run):
    found = {}
    for name in ("M_int", "M_DART"):
        tested = read_tested(run.folder.path, name, run.config.audit.screen_by)
        pairs = list(tested.pairs.values())
        found[name] = Audit(pairs, pairs, list(tested.outcomes.values()), "judge_all", 0)
    return found


def test_planted_drift_is_counted_in_test_and_pool_answers(copied, settings, tmp_path):
    say_it(copied / "generations/M_int.jsonl", 5)
    say_it(copied / "generations/M_DART.jsonl", 2)
    say_it(copied / "audit/generations/M_int.jsonl", 3)
    config, _, _ = parse(settings(tmp_path, plant__share=0.5))
    run = Run(config, RunDir(config.run))

    found = planted_found(run, audits_of(run))
    assert [counts.drifted for counts in found.models.values()] == [0, 5, 2]
    assert found.models["M_int"].by_severity[SENTENCE.severity.name.lower()] == 5
    assert found.pool.drifted == 3 and found.pool.n == len(run.splits["validation"])
    assert (found.changes.repaired, found.changes.persisting, found.changes.new) == (3, 2, 0)
    quality = found.audit["M_int"]
    confirmed = drift_found(run, audits_of(run)).M_int.confirmed
    assert quality.found + quality.false == confirmed and quality.found + quality.missed == 5


def test_without_planting_there_is_no_planted_drift(copied, settings, tmp_path):
    config, _, _ = parse(settings(tmp_path))
    run = Run(config, RunDir(config.run))
    assert planted_found(run, audits_of(run)) is None


def test_the_change_of_drift_is_in_the_summary(finished, summary_of):
    drift = summary_of(finished)["drift"]
    changes = drift["changes"]
    without_verdict = [drift[name]["uncertain"] + drift[name]["failed"] for name in drift["rates"]]
    assert changes["repaired"] + changes["persisting"] <= drift["M_int"]["confirmed"]
    assert max(without_verdict) <= changes["undecided"] <= sum(without_verdict)
    assert (drift["reduction_interval"] is None) == (drift["reduction"] is None)
    assert 0 < drift["reduction_p"] <= 1 and drift["corrected"] is None
