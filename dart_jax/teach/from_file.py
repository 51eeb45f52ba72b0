"""Targets that come with the questions: the suite's own rationales, or own data's completions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dart_jax.records import RejectedTarget
from dart_jax.teach.writer import (
    IsSafer,
    JudgeRepairs,
    TargetRequest,
    TargetResult,
    find_violations,
    make_target,
    with_conclusion,
)


class MissingRationale(ValueError):
    """The suite has no rationale for a question."""


def file_targets(
    requests: Sequence[TargetRequest],
    rationales: dict[str, str],
    is_safer: IsSafer | None = None,
    judge: JudgeRepairs | None = None,
) -> list[TargetResult]:
    """Make targets of the suite's own rationales, under the same quality control.

    The text of an unlabelled question is taken as it is, without conclusion line or control.

    Args:
        requests: Requests of either stage; their messages are not used.
        rationales: Analysis text, without conclusion line, by question id; for an unlabelled
            question its completion.
        is_safer, judge: As for `write_targets`; a file cannot be asked again.

    Raises:
        MissingRationale: A question has no rationale.
    """
    check_rationales([request.question.id for request in requests], rationales)
    completions = [_own_completion(request, rationales) for request in requests]
    proposals = list(zip(requests, completions, strict=True))
    violations = find_violations(proposals, is_safer, judge)

    results: list[TargetResult] = []
    for (request, completion), violation in zip(proposals, violations, strict=True):
        if violation is None:
            target = make_target(request, completion, provider="file", attempts=0)
            results.append(replace(target, spans=request.spans))
        else:
            id, reason = request.question.id, f"{violation.code}: {violation.rule}"
            results.append(RejectedTarget(id, request.stage, [reason], [rationales[id]]))
    return results


def check_rationales(question_ids: Iterable[str], rationales: Mapping[str, str]) -> None:
    """Raise MissingRationale unless each question has a text."""
    missing = [id for id in question_ids if id not in rationales]
    if missing:
        raise MissingRationale(
            f"{len(missing)} questions have no rationale, the first is {missing[0]};"
            " teacher.provider file takes the suite's own texts (mini has them for both stages, a"
            " suite jsonl or hub may have completions for distill): set teacher.provider to rules"
            " for the suite difference_awareness, to local or openai otherwise"
        )


def _own_completion(request: TargetRequest, rationales: Mapping[str, str]) -> str:
    """Take an unlabelled question's text as it is; put the conclusion line below any other."""
    question = request.question
    text = rationales[question.id]
    return text if question.condition is None else with_conclusion(text, question)
