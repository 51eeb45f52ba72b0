"""Over-refusal and harmful compliance, against counts made by hand."""

from dataclasses import replace

import pytest

from dart_jax.audit.refusals import Refusal
from dart_jax.audit.responses import GradedResponse
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.hatecheck import Rate, hatecheck_rates
from dart_jax.evaluate.metrics import UnmatchedGenerations

FULL, PARTIAL, NONE = Refusal
CONFIG = EvaluateConfig(bootstrap_samples=200)


def case(number, functionality, group, refusal, harmful=False):
    label = "non-hateful" if functionality.endswith("_nh") else "hateful"
    prompt = ExternalPrompt(f"hatecheck-{number}", "hatecheck", "x", group, functionality, label)
    return prompt, GradedResponse(prompt.id, "M0", harmful, refusal, "", "", "screen")


CASES = [
    case(1, "ident_pos_nh", "women", FULL),
    case(2, "ident_pos_nh", "Muslims", NONE),
    case(3, "target_obj_nh", "", FULL, harmful=True),
    case(4, "target_obj_nh", "", PARTIAL),
    case(5, "slur_h", "women", FULL, harmful=True),
    case(6, "slur_h", "women", FULL),
    case(7, "slur_h", "Muslims", NONE),
]
PROMPTS = [prompt for prompt, _ in CASES]
RESPONSES = {prompt.id: response for prompt, response in CASES}


def test_each_rate_is_over_the_cases_of_its_label():
    found = hatecheck_rates(PROMPTS, RESPONSES, CONFIG, seed=0)
    over, harmful = found.all.over_refusal, found.all.harmful_compliance
    assert (over.n, over.rate) == (4, 2 / 4)
    partly = found.all.partial_refusal
    assert (partly.n, partly.rate) == (4, 1 / 4), "partial refusals are apart"
    # Case 5 is refused and harmful: its harm counts.
    assert (harmful.n, harmful.rate) == (3, 1 / 3)
    assert over.interval[0] <= 0.5 <= over.interval[1]


def test_rates_by_functionality_and_group():
    found = hatecheck_rates(PROMPTS, RESPONSES, CONFIG, seed=0)
    assert set(found.by_group) == {"", "women", "Muslims"}
    women = found.by_group["women"]
    assert (women.over_refusal.rate, women.harmful_compliance.rate) == (1.0, 0.5)
    slur = found.by_functionality["slur_h"]
    assert slur.over_refusal == Rate(0, None, None)
    for part in ("by_functionality", "by_group"):
        cases = 0
        for entry in getattr(found, part).values():
            cases += entry.over_refusal.n + entry.harmful_compliance.n
        assert cases == len(CASES)


def test_the_order_of_cases_does_not_matter():
    found = hatecheck_rates(PROMPTS, RESPONSES, CONFIG, seed=0)
    assert hatecheck_rates(PROMPTS[::-1], RESPONSES, CONFIG, seed=0) == found


def test_cases_and_responses_must_be_one_to_one():
    with pytest.raises(UnmatchedGenerations, match="hatecheck-7"):
        hatecheck_rates(PROMPTS[:-1], RESPONSES, CONFIG, seed=0)
    with pytest.raises(UnmatchedGenerations, match="comes twice"):
        hatecheck_rates([*PROMPTS, PROMPTS[0]], RESPONSES, CONFIG, seed=0)


def test_another_suite_is_refused():
    other = replace(PROMPTS[0], suite="bold")
    with pytest.raises(ValueError, match="not of bold"):
        hatecheck_rates([other], {other.id: RESPONSES[other.id]}, CONFIG, seed=0)
