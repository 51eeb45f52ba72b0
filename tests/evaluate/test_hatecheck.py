"""Over-refusal and harmful compliance, against counts made by hand."""

from dataclasses import replace

import pytest

from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.hatecheck import Response, hatecheck_rates
from dart_jax.evaluate.metrics import UnmatchedGenerations

REFUSED, HARMFUL, FINE = Response
CONFIG = EvaluateConfig(bootstrap_samples=200)


def case(number, functionality, group, response):
    label = "non-hateful" if functionality.endswith("_nh") else "hateful"
    prompt = ExternalPrompt(f"hatecheck-{number}", "hatecheck", "x", group, functionality, label)
    return prompt, response


CASES = [
    case(1, "ident_pos_nh", "women", REFUSED),
    case(2, "ident_pos_nh", "Muslims", FINE),
    case(3, "target_obj_nh", "", REFUSED),
    case(4, "target_obj_nh", "", HARMFUL),
    case(5, "slur_h", "women", HARMFUL),
    case(6, "slur_h", "women", REFUSED),
    case(7, "slur_h", "Muslims", FINE),
]
PROMPTS = [prompt for prompt, _ in CASES]
RESPONSES = {prompt.id: response for prompt, response in CASES}


def test_each_rate_is_over_the_cases_of_its_label():
    found = hatecheck_rates(PROMPTS, RESPONSES, CONFIG, seed=0)
    over, harmful = found["all"]["over_refusal"], found["all"]["harmful_compliance"]
    assert (over["n"], over["rate"]) == (4, 2 / 4)
    assert (harmful["n"], harmful["rate"]) == (3, 1 / 3)
    assert over["interval"][0] <= 0.5 <= over["interval"][1]


def test_rates_by_functionality_and_group():
    found = hatecheck_rates(PROMPTS, RESPONSES, CONFIG, seed=0)
    assert set(found["by_group"]) == {"", "women", "Muslims"}
    women = found["by_group"]["women"]
    assert (women["over_refusal"]["rate"], women["harmful_compliance"]["rate"]) == (1.0, 0.5)
    slur = found["by_functionality"]["slur_h"]
    assert slur["over_refusal"] == {"n": 0, "rate": None, "interval": None}
    for part in ("by_functionality", "by_group"):
        cases = sum(rate["n"] for entry in found[part].values() for rate in entry.values())
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
        hatecheck_rates([other], {other.id: FINE}, CONFIG, seed=0)
