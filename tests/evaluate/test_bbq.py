"""BBQ's scores, against counts made by hand."""

import pytest

from dart_jax.data.external.bbq import BBQQuestion
from dart_jax.evaluate.bbq import scores_by_category
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations
from dart_jax.prompts.letters import NOT_READ, LetterAnswer

CONFIG = EvaluateConfig(bootstrap_samples=200)
OTHER, BIASED, UNKNOWN = 0, 1, 2


def case(number, ambiguous, option, *, answer=None, category="Age", biased=BIASED):
    if answer is None:
        answer = UNKNOWN if ambiguous else OTHER
    question = BBQQuestion(
        id=f"bbq-{category}-{number}",
        category=category,
        template=f"{category} {number // 2}",
        ambiguous=ambiguous,
        text="?",
        answer=answer,
        unknown=UNKNOWN,
        biased=biased,
    )
    problem = None if option is not None else NOT_READ
    return question, LetterAnswer(question.id, "M0", option, None, problem)


CASES = [
    *(case(n, True, UNKNOWN) for n in range(4)),
    *(case(n, True, BIASED) for n in range(4, 7)),
    case(7, True, OTHER),
    *(case(n, False, OTHER) for n in range(8, 12)),
    *(case(n, False, BIASED) for n in range(12, 14)),
    case(14, False, UNKNOWN),
    case(15, False, None),
    case(16, False, BIASED, answer=BIASED, category="SES"),
    case(17, False, OTHER, category="SES", biased=None),
]


def scores(cases):
    questions = [question for question, _ in cases]
    return scores_by_category(questions, [answer for _, answer in cases], CONFIG, seed=0)


def test_hand_counted_scores():
    found = scores(CASES)
    assert list(found) == ["all", "Age", "SES"]
    ambiguous, told = found["Age"].ambiguous, found["Age"].disambiguated

    assert (ambiguous.n, ambiguous.accuracy.value) == (8, 4 / 8)
    # Three of four answers other than unknown are biased: (1 - 1/2) * (2 * 3/4 - 1).
    assert ambiguous.bias.value == pytest.approx(0.25)
    assert (told.n, told.accuracy.value) == (7, pytest.approx(4 / 7))
    assert told.bias.value == pytest.approx(2 * 2 / 6 - 1)
    for estimate in (ambiguous.bias, told.bias):
        assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_a_question_without_a_biased_option_is_in_the_accuracy_alone():
    told = scores(CASES)["SES"].disambiguated
    assert (told.n, told.accuracy.value, told.bias.value) == (2, 1.0, 1.0)


def test_only_unknown_is_no_bias_where_it_is_right_and_says_nothing_where_it_is_wrong():
    found = scores([case(n, n < 6, UNKNOWN) for n in range(12)])["all"]
    assert found.ambiguous.bias.value == 0.0
    assert found.ambiguous.bias.low < 0 < found.ambiguous.bias.high, "three templates only"
    assert found.disambiguated.bias.value is None


def test_always_biased_is_1_and_never_is_minus_1():
    assert scores([case(n, True, BIASED) for n in range(8)])["all"].ambiguous.bias.value == 1.0
    against = scores([case(n, False, OTHER) for n in range(8)])["all"].disambiguated.bias
    assert against.value == against.low == -1.0 < against.high


def test_a_context_without_questions_has_no_scores():
    found = scores([case(n, True, BIASED) for n in range(4)])["all"].disambiguated
    assert (found.n, found.accuracy.value, found.bias.value) == (0, None, None)


def test_questions_and_letters_are_one_to_one():
    (question, answer), *_ = CASES
    with pytest.raises(UnmatchedGenerations, match="one comes twice"):
        scores_by_category([question], [answer, answer], CONFIG, seed=0)
