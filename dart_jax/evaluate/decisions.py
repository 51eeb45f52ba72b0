"""What each model concluded on each test question: `evaluation/decisions.jsonl`.

It holds what a comparison between runs needs, without the questions' texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dart_jax.evaluate.metrics import answered_by_all, labelled, match_labelled
from dart_jax.records import Condition, Decision, Generation, Question, digest


@dataclass(frozen=True)
class QuestionDecisions:
    """One test question that has a label.

    Attributes:
        question_id, benchmark, condition, scenario_id: As in the suite.
        text_digest: SHA-256 of the question's text.
        decisions: Of M0, M_int, M_DART and the shortcut baseline; None where unparseable.
    """

    question_id: str
    benchmark: str
    condition: Condition
    scenario_id: str
    text_digest: str
    decisions: dict[str, Decision | None]

    def right(self, model: str) -> bool:
        """Whether a model's conclusion is the gold one."""
        gold = Decision.YES if self.condition is Condition.DIFF else Decision.NO
        return self.decisions[model] is gold


def question_decisions(
    questions: Sequence[Question], answers: Mapping[str, Sequence[Generation]]
) -> list[QuestionDecisions]:
    """Of the labelled questions that were answered, by id. Raises UnmatchedGenerations.

    What left no room for an answer has no decision that could be right or wrong.
    """
    questions, answers = answered_by_all(questions, answers)
    found = {
        name: [answer.decision for _, answer in match_labelled(questions, of_model)]
        for name, of_model in answers.items()
    }
    ordered = sorted(labelled(questions), key=lambda question: question.id)

    return [
        QuestionDecisions(
            question_id=question.id,
            benchmark=question.benchmark,
            condition=question.condition,
            scenario_id=question.scenario_id,
            text_digest=digest(question.text),
            decisions={name: of_model[index] for name, of_model in found.items()},
        )
        for index, question in enumerate(ordered)
    ]
