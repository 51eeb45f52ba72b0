"""The sections on open-ended queries and external suites."""

import json
from dataclasses import replace

import pytest

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.audit.refusals import Refusal
from dart_jax.audit.responses import GradedResponse
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.data.open_ended import load_open_ended
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.external import EXTERNAL, ExternalSummary, PartCounts
from dart_jax.evaluate.hatecheck import hatecheck_rates
from dart_jax.evaluate.open_ended import (
    OPEN_ENDED,
    OpenEndedSummary,
    compare_outcomes,
    outcome_shares,
)
from dart_jax.evaluate.refusal_error import measured_error
from dart_jax.records import write_text
from dart_jax.report.external import external_sections
from dart_jax.report.to_markdown import blocks_to_markdown
from dart_jax.run_dir import hash_path
from dart_jax.summaries import to_pretty_json
from tests.evaluate.conftest import drift

CONFIG = EvaluateConfig(bootstrap_samples=50)


def open_ended(judge="openai:m", adapter="") -> OpenEndedSummary:
    queries = load_open_ended()[:4]
    good, bad = Outcome.DIFFERENCE_APPROPRIATE, Outcome.REFUSAL

    def judged(model, outcomes):
        pairs = zip(queries, outcomes, strict=True)
        return [JudgedAnswer(query.id, model, outcome, "", "", judge) for query, outcome in pairs]

    of = {
        "M0": judged("M0", [bad, bad, bad, good]),
        "M_DART": judged("M_DART", [good, good, bad, good]),
    }
    return OpenEndedSummary(
        queries=4,
        no_room=0,
        adapters={"M_DART": adapter},
        judge=judge,
        confidence=0.95,
        models={name: outcome_shares(queries, found, CONFIG, 0) for name, found in of.items()},
        against_M0={"M_DART": compare_outcomes(queries, of["M0"], of["M_DART"])},
    )


def hatecheck(mode="screen_only", adapter="", group="women") -> ExternalSummary:
    prompts = [
        ExternalPrompt("a", "hatecheck", "x", group, "derog_h", "hateful"),
        ExternalPrompt("b", "hatecheck", "y", "", "slur_nh", "non-hateful"),
    ]
    responses = {
        "a": GradedResponse("a", "M0", True, Refusal.NONE, "", "", "screen"),
        "b": GradedResponse("b", "M0", False, Refusal.FULL, "", "", "screen"),
    }
    rates = hatecheck_rates(prompts, responses, CONFIG, 0)
    counts = replace(drift(1, 0, 0, 0), pairs=2, screened=1, uncertain=0, failed=0)
    parts = {"M_DART": {"derog_h": PartCounts(2, 1, 1)}}
    return ExternalSummary(
        suite="hatecheck",
        prompts=2,
        of=3728,
        no_room={"M0": 0, "M_DART": 0},
        adapters={"M_DART": adapter},
        mode=mode,
        judge="none" if mode == "screen_only" else "openai",
        confidence=0.95,
        mean_score={"M0": {"profanity": 0.1}, "M_DART": {"profanity": 0.2}},
        drift={"M_DART": counts},
        drift_by_functionality=parts,
        drift_by_group=parts,
        rates={"M0": rates, "M_DART": rates},
        refusal_error=measured_error() if mode == "screen_only" else None,
    )


@pytest.fixture
def page(tmp_path):
    """A function: the sections of a run that has these summaries, of its own adapter."""
    adapter = tmp_path / "adapters/M_DART"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_text("new")

    def write(*summaries, stale=()):
        for summary in summaries:
            external = isinstance(summary, ExternalSummary)
            name = EXTERNAL.format(suite="hatecheck") if external else OPEN_ENDED
            own = {"M_DART": "another hash" if summary in stale else hash_path(adapter)}
            write_text(tmp_path / name, to_pretty_json(replace(summary, adapters=own)))
        return blocks_to_markdown(external_sections(tmp_path))

    return write


def test_nothing_was_measured(page):
    assert page() == ""


def test_open_ended_shares_and_the_comparison_with_m0(page):
    found = page(open_ended())
    assert "| M0 | all | 4 | 0 | 25.0 [" in found and "| M_DART | all | 4 | 0 | 75.0 [" in found
    assert "| M_DART | all | 4 | 2 | 0 | 0.500 | 0 | 2 | 0.500 |" in found
    assert "exercise the pipeline" not in found
    assert "exercise the pipeline" in page(open_ended("local:m"))


def test_hatecheck_by_functionality_and_group(page):
    found = page(hatecheck())
    assert "2 of 3728 prompts; audit.mode screen_only, judge: none" in found
    assert "| M_DART | 0.200 | 2 | 0 | 1 | 1 | 0 | 0 |" in found
    assert "| M0 | slur_nh | 1 | 100.0 | 0.0 | 0 | n/a |" in found
    assert "| M0 | women | 0 | n/a | n/a | 1 | 100.0 |" in found
    assert "| M0 | 1 | 100.0 | 0.0 | 1 | 100.0 |" in found
    assert "a score sees words" in found
    assert "Against people's labels" in found, "the measured error stands beside the rates"
    judged = page(hatecheck("judge_all"))
    assert "a score sees words" not in judged and "decided by rules" not in judged


def test_figures_of_earlier_models_are_not_shown(page):
    old = open_ended()
    found = page(old, hatecheck(), stale=[old])
    assert "open_ended/summary.json is of models that were trained anew since" in found
    shown = found[: found.index("## External suite")]
    assert "| M0 |" not in shown and "| M0 |" in found


def test_prompts_without_room_are_counted_in_words(page):
    assert "left no room" not in page(open_ended(), hatecheck())
    some = replace(hatecheck(), no_room={"M0": 3, "M_DART": 3})
    found = page(replace(open_ended(), no_room=2), some)
    assert "2 of the prompts left no room" in found and "3 of the prompts left no room" in found


def test_a_summary_of_an_earlier_version_is_not_read(page, tmp_path):
    page(hatecheck())
    path = tmp_path / EXTERNAL.format(suite="hatecheck")
    raw = json.loads(path.read_text("utf-8"))
    del raw["no_room"]
    write_text(path, json.dumps(raw))
    assert "earlier version of the program: run it again" in page()
