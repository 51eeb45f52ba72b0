"""The report's sections on open-ended queries and external suites."""

import json

import pytest

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.audit.refusals import Refusal
from dart_jax.audit.responses import GradedResponse
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.data.open_ended import load_open_ended
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.hatecheck import hatecheck_rates
from dart_jax.evaluate.open_ended import compare_outcomes, outcome_shares
from dart_jax.evaluate.refusal_error import measured_error
from dart_jax.evaluate.refusal_sections import error_words
from dart_jax.evaluate.wider_sections import wider
from dart_jax.run_dir import hash_path

CONFIG = EvaluateConfig(bootstrap_samples=50)
SUITE = "external/hatecheck/summary.json"


def open_ended(judge="openai:m"):
    queries = load_open_ended()[:4]
    good, bad = Outcome.DIFFERENCE_APPROPRIATE, Outcome.REFUSAL

    def judged(model, outcomes):
        pairs = zip(queries, outcomes, strict=True)
        return [JudgedAnswer(query.id, model, outcome, "", "", judge) for query, outcome in pairs]

    of = {
        "M0": judged("M0", [bad, bad, bad, good]),
        "M_DART": judged("M_DART", [good, good, bad, good]),
    }
    return {
        "queries": 4,
        "no_room": 0,
        "judge": judge,
        "confidence": 0.95,
        "models": {name: outcome_shares(queries, found, CONFIG, 0) for name, found in of.items()},
        "against_M0": {"M_DART": compare_outcomes(queries, of["M0"], of["M_DART"])},
    }


def hatecheck(mode="screen_only"):
    prompts = [
        ExternalPrompt("a", "hatecheck", "x", "women", "derog_h", "hateful"),
        ExternalPrompt("b", "hatecheck", "y", "", "slur_nh", "non-hateful"),
    ]
    responses = {
        "a": GradedResponse("a", "M0", True, Refusal.NONE, "", "", "screen"),
        "b": GradedResponse("b", "M0", False, Refusal.FULL, "", "", "screen"),
    }
    counts = {"pairs": 2, "no_room": 0, "screened": 1, "confirmed": 1, "uncertain": 0, "failed": 0}
    return {
        "suite": "hatecheck",
        "prompts": 2,
        "of": 3728,
        "no_room": {"M0": 0, "M_DART": 0},
        "mode": mode,
        "judge": "none" if mode == "screen_only" else "openai",
        "mean_score": {"M0": {"profanity": 0.1}, "M_DART": {"profanity": 0.2}},
        "drift": {"M_DART": counts},
        "drift_by_functionality": {"M_DART": {"derog_h": counts}},
        "rates": {
            name: hatecheck_rates(prompts, responses, CONFIG, 0) for name in ("M0", "M_DART")
        },
        **({"refusal_error": measured_error()} if mode == "screen_only" else {}),
    }


@pytest.fixture
def page(tmp_path):
    """A function: the sections of a run that has these summaries."""
    adapter = tmp_path / "adapters/M_DART"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_text("new")

    def write(**summaries):
        for name, summary in summaries.items():
            path = tmp_path / ("open_ended/summary.json" if name == "open_ended" else SUITE)
            path.parent.mkdir(parents=True, exist_ok=True)
            own = {"adapters": {"M_DART": hash_path(adapter)}, **summary}
            path.write_text(json.dumps(own))
        return wider(tmp_path)

    return write


def test_nothing_was_measured(page):
    assert page() == ""


def test_open_ended_shares_and_the_comparison_with_m0(page):
    found = page(open_ended=open_ended())
    assert "| M0 | all | 4 | 0 | 25.0 [" in found and "| M_DART | all | 4 | 0 | 75.0 [" in found
    assert "| M_DART | all | 4 | +2 -0, p = 0.5 | +0 -2, p = 0.5 |" in found
    assert "exercise the pipeline" not in found
    assert "exercise the pipeline" in page(open_ended=open_ended("local:m"))


def test_hatecheck_by_functionality_and_group(page):
    found = page(hatecheck=hatecheck())
    assert "2 of 3728 prompts; audit.mode screen_only, judge: none" in found
    assert "| M_DART | 0.2000 | 2 | 0 | 1 | 1 | 0 | 0 |" in found
    assert r"| M0 | slur\_nh | 1 | 100.0 [100.0, 100.0] | 0.0 [0.0, 0.0] | 0 | n/a |" in found
    assert "| M0 | women | 0 | n/a | n/a | 1 | 100.0 [100.0, 100.0] |" in found
    assert "| M0 | 1 | 100.0 [100.0, 100.0] | 0.0 [0.0, 0.0] | 1 | 100.0 [100.0, 100.0] |" in found
    assert "a score sees words" in found
    assert error_words(measured_error()) in found, "the measured error stands beside the rates"
    judged = page(hatecheck=hatecheck("judge_all"))
    assert "a score sees words" not in judged and "decided by rules" not in judged


def test_prompts_without_room_are_counted_in_words(page):
    none = page(open_ended=open_ended(), hatecheck=hatecheck())
    assert "left no room" not in none
    some = hatecheck() | {"no_room": {"M0": 3, "M_DART": 3}}
    found = page(open_ended=open_ended() | {"no_room": 2}, hatecheck=some)
    assert "2 of the prompts left no room" in found and "3 of the prompts left no room" in found


def test_a_summary_of_an_earlier_version_is_not_read(page):
    old = hatecheck()
    del old["no_room"]
    assert "earlier version of the program: run it again" in page(hatecheck=old)


def test_figures_of_earlier_models_are_not_shown(page):
    old = {"adapters": {"M_DART": "another hash"}}
    found = page(open_ended=open_ended() | old, hatecheck=hatecheck())
    assert "open_ended/summary.json is of models that were trained anew since" in found
    shown = found[found.index("## Open-ended") : found.index("## External suite")]
    assert "| M0 |" not in shown and "| M0 |" in found
