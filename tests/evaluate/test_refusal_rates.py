"""Refusals of safe and unsafe prompts, and graders' agreement with people, by hand."""

import numpy as np
import pytest

from dart_jax.audit.between_people import cohens_kappa
from dart_jax.audit.refusal_judge import GradedRefusal
from dart_jax.audit.refusals import Refusal
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations
from dart_jax.evaluate.refusal_agreement import (
    RefusalAgreement,
    grader_agreement,
    rules_agreement,
)
from dart_jax.evaluate.refusal_error import measured_error, refusal_error
from dart_jax.evaluate.refusal_rates import refusal_rates
from dart_jax.report.cells import shown_rows
from dart_jax.report.refusals import agreement_table

FULL, PARTIAL, NONE = Refusal
CONFIG = EvaluateConfig(bootstrap_samples=200)


def case(number, functionality, refusal):
    label = "unsafe" if functionality.startswith("contrast_") else "safe"
    prompt = ExternalPrompt(f"xstest-{number}", "xstest", "x", "", functionality, label)
    return prompt, GradedRefusal(prompt.id, "M0", refusal, "", "", "rules")


CASES = [
    case(1, "homonyms", FULL),
    case(2, "homonyms", NONE),
    case(3, "privacy", PARTIAL),
    case(4, "privacy", NONE),
    case(5, "contrast_privacy", FULL),
    case(6, "contrast_privacy", FULL),
    case(7, "contrast_privacy", PARTIAL),
    case(8, "contrast_privacy", NONE),
    case(9, "contrast_privacy", NONE),
]
PROMPTS = [prompt for prompt, _ in CASES]
GRADED = {prompt.id: graded for prompt, graded in CASES}


def test_each_rate_is_over_the_prompts_of_its_label():
    found = refusal_rates(PROMPTS, GRADED, CONFIG, seed=0, judge_failed=3)
    every = found.all
    assert (every.over_refusal.n, every.over_refusal.rate) == (4, 1 / 4)
    assert every.partial_over_refusal.rate == 1 / 4
    assert (every.unsafe_refused.n, every.unsafe_refused.rate) == (5, 2 / 5)
    assert every.unsafe_complied.rate == 2 / 5, "what is refused in part is neither"
    assert found.judge_failed == 3
    low, high = every.over_refusal.interval
    assert 0 <= low <= 1 / 4 <= high <= 1

    homonyms = found.by_functionality["homonyms"]
    assert homonyms.over_refusal.rate == 1 / 2 and homonyms.unsafe_refused.rate is None
    assert refusal_rates(PROMPTS[::-1], GRADED, CONFIG, seed=0, judge_failed=3) == found


def test_prompts_and_grades_are_one_to_one():
    with pytest.raises(UnmatchedGenerations, match="xstest-9"):
        refusal_rates(PROMPTS[:-1], GRADED, CONFIG, seed=0)


def test_kappa_of_a_grader_is_that_of_its_grades():
    labels = [FULL, FULL, FULL, PARTIAL, PARTIAL, NONE, NONE, NONE]
    grades = [FULL, FULL, NONE, FULL, PARTIAL, NONE, PARTIAL, NONE]
    error = refusal_error(labels, grades, CONFIG)
    found = grader_agreement("x.csv", "openai:m", error, CONFIG, failed=2)
    codes = [np.array([list(Refusal).index(r) for r in which]) for which in (labels, grades)]
    assert found.kappa.value == pytest.approx(cohens_kappa(*codes, range(3)))
    assert found.kappa.low <= found.kappa.value <= found.kappa.high
    assert (found.grader, found.failed, found.error.n) == ("openai:m", 2, 8)


def test_kappa_is_not_defined_where_chance_agrees_as_well():
    for labels in ([], [NONE, NONE]):
        error = refusal_error(labels, labels, CONFIG)
        assert grader_agreement("x.csv", "rules", error, CONFIG).kappa.value is None


def test_the_rules_agree_with_people_on_both_models():
    found = rules_agreement(measured_error(), CONFIG)
    assert [grader.grader for grader in found] == ["rules", "rules"]
    for grader in found:
        assert 0 < grader.kappa.low < grader.kappa.value < grader.kappa.high < 1
    table = agreement_table(RefusalAgreement(0.95, found))
    cells = dict(zip([c.title for c in table.columns], shown_rows(table)[0], strict=True))
    assert (cells["grader"], cells["n"], cells["failed"]) == ("rules", "450", "0")
    assert cells["kappa"].startswith("0.846 [")
