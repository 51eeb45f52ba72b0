"""The shortcut baseline: accuracy that wording alone reaches, without a language model.

A difference-awareness suite is written from templates, so that words give labels away. Every
results table shows what a linear classifier on TF-IDF features reaches on the same split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.forced import with_forced
from dart_jax.evaluate.metrics import ModelMetrics, answered_by_all, labelled, model_metrics
from dart_jax.prompts.conclusion import Margin
from dart_jax.records import Condition, Decision, Generation, Question

SHORTCUT = "shortcut"

# On validation rows of the real suite, weaker penalties than this bring no more than noise.
_INVERSE_PENALTY = 30.0


@dataclass(frozen=True)
class Shortcut:
    """What the shortcut baseline makes of the labelled test questions, in their order.

    Attributes:
        answers: Answers of the model `shortcut`, without a text; measured like any model's.
        margins: The classifier's log-odds of DIFF, of which each answer's decision is the sign.
    """

    answers: list[Generation]
    margins: list[Margin]


def shortcut_baseline(train: Sequence[Question], test: Sequence[Question]) -> Shortcut | None:
    """Fit TF-IDF (1- and 2-grams) with logistic regression, and answer the test questions.

    Unlabelled questions (custom data) are left out.

    Args:
        train: Questions that the models were trained on; both conditions must occur.
        test: Questions that the models are measured on.

    Returns:
        Answers and margins; None where some questions are unlabelled and the others are too few to
        fit or to measure the baseline.

    Raises:
        ValueError: No test question, or training questions of one condition only.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    total = len(train) + len(test)
    train, test = labelled(train), labelled(test)
    # Custom data may lack labels, which is no fault; a labelled suite that is too small is one.
    has_unlabelled = len(train) + len(test) < total
    if has_unlabelled and not _can_fit(train, test):
        return None

    _check(train, test)

    # Pairs of words, too: what gives a label away may be their order alone.
    classifier = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000)
    )
    classifier.fit([question.text for question in train], _labels(train))
    log_odds = classifier.decision_function([question.text for question in test])

    shortcut = Shortcut([], [])
    for question, value in zip(test, log_odds.tolist(), strict=True):
        shortcut.answers.append(_answer(question, value > 0))
        shortcut.margins.append(Margin(question.id, SHORTCUT, value))
    return shortcut


def shortcut_metrics(
    shortcut: Shortcut | None,
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    config: EvaluateConfig,
    seed: int,
) -> ModelMetrics:
    """Measure the baseline on the questions that the models were able to answer.

    Args:
        shortcut: None where it could not be fitted, and is measured on no question.
        questions: The test questions.
        answers: The models' answers to them, by name.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    if shortcut is None:
        return model_metrics([], [], config, seed)

    answered, answered_by = answered_by_all(questions, {**answers, SHORTCUT: shortcut.answers})
    # The baseline concludes on labelled questions only.
    own = model_metrics(labelled(answered), answered_by[SHORTCUT], config, seed)
    return with_forced(own, answered, shortcut.margins, config, seed)


def _answer(question: Question, is_diff: bool) -> Generation:
    return Generation(
        question_id=question.id,
        model=SHORTCUT,
        text="",
        decision=Decision.YES if is_diff else Decision.NO,
        unparseable=None,
        # Without a text nothing stops: the decision alone tells `had_room` that there was room.
        stop=None,
        prompt_tokens=0,
        new_tokens=0,
    )


def _labels(questions: Sequence[Question]) -> list[bool]:
    return [question.condition is Condition.DIFF for question in questions]


def _can_fit(train: Sequence[Question], test: Sequence[Question]) -> bool:
    return bool(test) and len({question.condition for question in train}) == 2


def _check(train: Sequence[Question], test: Sequence[Question]) -> None:
    conditions = {question.condition.value for question in train}
    if len(conditions) < 2:
        raise ValueError(
            "the shortcut baseline needs training questions of both conditions, but got "
            f"{sorted(conditions) or 'none'}; raise data.max_train"
        )
    if not test:
        raise ValueError("the shortcut baseline has no test questions; raise data.max_test")
