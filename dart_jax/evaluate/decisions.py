"""Each model's conclusion on each test question: `evaluation/decisions.jsonl`.

The file holds what a comparison between runs needs, without the questions' texts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dart_jax.evaluate.metrics import answered_by_all, labelled, match_labelled
from dart_jax.records import Condition, Decision, Generation, Question, digest


@dataclass(frozen=True)
class QuestionDecisions:
    """The models' conclusions on one test question that has a gold label.

    Attributes:
        question_id, benchmark, condition, scenario_id: As in the suite.
        text_digest: SHA-256 of the question's text.
        decisions: Conclusions of M0, M_int, M_DART and the shortcut baseline, by name; None where
            unparseable.
    """

    question_id: str
    benchmark: str
    condition: Condition
    scenario_id: str
    text_digest: str
    decisions: dict[str, Decision | None]

    def right(self, model: str) -> bool:
        """Say whether a model's conclusion is the gold one."""
        gold = Decision.YES if self.condition is Condition.DIFF else Decision.NO
        return self.decisions[model] is gold


def question_decisions(
    questions: Sequence[Question], answers: Mapping[str, Sequence[Generation]]
) -> list[QuestionDecisions]:
    """Collect the decisions on the labelled questions that every model answered, by id.

    A prompt that left no room for an answer has no decision that could be right or wrong.

    Raises:
        UnmatchedGenerations: Questions and answers are not one to one.
    """
    questions, answers = answered_by_all(questions, answers)
    decisions: dict[str, dict[str, Decision | None]] = defaultdict(dict)
    for name, of_model in answers.items():
        for question, answer in match_labelled(questions, of_model):
            decisions[question.id][name] = answer.decision

    return [
        QuestionDecisions(
            question_id=question.id,
            benchmark=question.benchmark,
            condition=question.condition,
            scenario_id=question.scenario_id,
            text_digest=digest(question.text),
            decisions=decisions[question.id],
        )
        for question in sorted(labelled(questions), key=lambda question: question.id)
    ]
