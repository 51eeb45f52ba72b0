"""The answer convention: YES rows name an option, EQUAL rows depend on the family's kind."""

import pytest

from dart_jax.data.benchmarks import BENCHMARKS, check_answer
from dart_jax.records import Condition


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_allowed_answers(benchmark):
    allowed = {Condition.DIFF: {0, 1}, Condition.EQUAL: {2} if benchmark < "E" else {0, 1}}
    for condition, answers in allowed.items():
        for answer in (-1, 0, 1, 2, 3):
            if answer in answers:
                check_answer(benchmark, condition, answer)
            else:
                with pytest.raises(ValueError, match=f"answer is {answer}"):
                    check_answer(benchmark, condition, answer)


def test_unknown_family():
    with pytest.raises(ValueError, match="benchmark 'D5' is none of D1"):
        check_answer("D5", Condition.DIFF, 0)
