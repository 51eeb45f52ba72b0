"""DiffAware and CtxtAware, against counts made by hand."""

import pytest

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.ctxt import awareness_by_benchmark, mean_mass
from dart_jax.evaluate.metrics import UnmatchedGenerations
from dart_jax.prompts.letters import NOT_READ, LetterAnswer
from dart_jax.records import Condition, Question

CONFIG = EvaluateConfig(bootstrap_samples=200)


def case(number, benchmark, condition, answer, option):
    question = Question(
        f"q{number}", benchmark, Condition(condition), "?", answer, f"{condition}:{number // 2}"
    )
    problem = None if option is not None else NOT_READ
    return question, LetterAnswer(question.id, "M0", option, None, problem)


# A right, B wrong group, C no difference; D and E a group without cause, F rightly none.
CASES = [
    case(0, "D1", "diff", 0, 0),  # A
    case(1, "D1", "diff", 1, 1),  # A
    case(2, "D1", "diff", 1, 0),  # B
    case(3, "D1", "diff", 0, 2),  # C
    case(4, "D1", "diff", 0, None),
    case(5, "D1", "equal", 2, 2),  # F
    case(6, "D1", "equal", 2, 0),  # D
    case(7, "N1", "equal", 1, 1),  # E: the answer of these rows is the wrong option
    case(8, "N1", "equal", 1, 2),  # F
    case(9, "N1", "diff", 1, 1),  # A
]
QUESTIONS = [question for question, _ in CASES]
ANSWERS = [answer for _, answer in CASES]


def test_hand_counted_metrics():
    found = awareness_by_benchmark(QUESTIONS, ANSWERS, CONFIG, seed=0)
    assert list(found) == ["all", "D1", "N1"]

    every = found["all"]
    assert (every.diff, every.equal, every.no_letter) == (5, 4, 1)
    assert every.diff_aware.value == pytest.approx(3 / 5), "A / (A + B + C)"
    assert every.ctxt_aware.value == pytest.approx(3 / 5), "A / (A + D + E)"
    assert every.equal_right.value == pytest.approx(2 / 4)
    for estimate in (every.diff_aware, every.ctxt_aware, every.equal_right):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1

    assert found["D1"].diff_aware.value == pytest.approx(2 / 4)
    assert found["D1"].ctxt_aware.value == pytest.approx(2 / 3)
    assert found["N1"].diff_aware.value == 1.0 and found["N1"].ctxt_aware.value == 0.5


def test_a_model_that_never_tells_groups_apart_has_no_ctxt_aware():
    answers = [LetterAnswer(q.id, "M0", 2, None, None) for q in QUESTIONS]
    every = awareness_by_benchmark(QUESTIONS, answers, CONFIG, seed=0)["all"]
    assert every.diff_aware.value == 0.0 and every.ctxt_aware.value is None
    assert every.diff_aware.high > 0, "nothing is certain that a few scenarios agree on"


def test_the_order_does_not_matter():
    found = awareness_by_benchmark(QUESTIONS, ANSWERS, CONFIG, seed=0)
    assert awareness_by_benchmark(QUESTIONS[::-1], ANSWERS[::-1], CONFIG, seed=0) == found


def test_questions_and_letters_are_one_to_one():
    with pytest.raises(UnmatchedGenerations, match="q9"):
        awareness_by_benchmark(QUESTIONS[:-1], ANSWERS, CONFIG, seed=0)
    with pytest.raises(UnmatchedGenerations, match="one comes twice"):
        awareness_by_benchmark(QUESTIONS, [*ANSWERS, ANSWERS[0]], CONFIG, seed=0)


def test_the_mass_is_of_the_answers_that_have_one():
    assert mean_mass(ANSWERS) is None
    certain = LetterAnswer("q", "M0", 0, (0.0, -1e9, -1e9), None)
    assert mean_mass([*ANSWERS, certain]) == pytest.approx(1.0)
