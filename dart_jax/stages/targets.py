"""Writing targets into a folder, resumably: `targets.jsonl`, `rejected.jsonl`, `labels.jsonl`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.audit.scorer_contents import scorer_contents
from dart_jax.data.splits import hold_out
from dart_jax.processes import progress
from dart_jax.records import DriftCase, PredictedLabel, Question, RejectedTarget, Target
from dart_jax.stages.context import Run
from dart_jax.stages.providers import make_targets, predict_labels
from dart_jax.teach.labels import with_labels, without_label
from dart_jax.teach.writer import TargetRequest, TargetResult

UNLABELLED = "the row has no label that a target could argue for (teacher.label is gold)"


def label_questions(
    run: Run, questions: Sequence[Question], folder: str
) -> tuple[list[Question], dict[str, str]]:
    """The questions with the labels that the teacher is to argue for (`teacher.label`).

    Returns:
        `(labelled, reasons)`: as of `teach.labels.with_labels`; with gold labels all questions
        but the unlabelled ones of own data.
    """
    if run.config.teacher.label == "gold":
        labelled = [question for question in questions if question.condition is not None]
        return labelled, {q.id: UNLABELLED for q in questions if q.condition is None}

    labels = run.results(f"{folder}/labels.jsonl", PredictedLabel)
    decided = {label.question_id for label in labels.records}
    missing = [question for question in questions if question.id not in decided]
    with progress("labels", len(questions), len(decided)) as bar:

        def keep(label: PredictedLabel) -> None:
            labels.add([label])
            bar.update()

        predict_labels(run, missing, keep)

    order = {question.id: index for index, question in enumerate(questions)}
    return with_labels(questions, labels.finish(lambda label: order[label.question_id]))


def collect_targets(
    run: Run,
    requests: Sequence[TargetRequest],
    folder: str,
    unlabelled: Mapping[str, str],
    file: str = "targets.jsonl",
) -> tuple[list[Target], list[RejectedTarget]]:
    """Have every request answered or rejected; each result is on disk once it is decided.

    There is at most one request a question: drift cases are of one model, one pair a question.

    Args:
        unlabelled: Why a question has no label, by id; these are rejected unasked.
        file: Where the accepted targets go, in the folder.
    """
    accepted = run.results(f"{folder}/{file}", Target)
    rejected = run.results(f"{folder}/rejected.jsonl", RejectedTarget)
    decided = {result.question_id for result in [*accepted.records, *rejected.records]}

    stage = "distill" if folder == "teach" else "repair"
    rejected.add(
        [without_label(id, stage, why) for id, why in unlabelled.items() if id not in decided]
    )

    missing = [request for request in requests if request.question.id not in decided]
    with progress("targets", len(requests), len(requests) - len(missing)) as bar:

        def keep(results: Sequence[TargetResult]) -> None:
            accepted.add([result for result in results if isinstance(result, Target)])
            rejected.add([result for result in results if isinstance(result, RejectedTarget)])
            bar.update(len(results))

        make_targets(run, missing, keep)
    # Results arrive in any order; what is trained on is in the order of the questions.
    asked = [*(request.question.id for request in requests), *unlabelled]
    order = {id: index for index, id in enumerate(asked)}

    def position(result: TargetResult) -> int:
        return order[result.question_id]

    return accepted.finish(position), rejected.finish(position)


def validation_ids(run: Run, targets: Sequence[Target]) -> set[str]:
    """Ids of the questions whose distill targets are held out (`sft.validation_share`)."""
    share = run.config.sft.validation_share
    if share == 0:
        return set()
    questions = [run.questions[target.question_id] for target in targets]
    # By data.seed, as the splits are: run.seed does not choose what is measured.
    return hold_out(questions, share, run.config.data.seed)


def scorer_input(run: Run) -> dict[str, Any]:
    """Identify the scorer of single texts."""
    settings = run.config.audit.identity().items()
    named = {key: value for key, value in settings if key.startswith(("scorer", "screen", "guard"))}
    return {**named, "contents": scorer_contents(run.config.audit)}


def reject_counts(
    rejected: Sequence[RejectedTarget], questions: Mapping[str, Question]
) -> dict[str, dict[str, int]]:
    """Rejected targets by the code of the rule that their last attempt broke, and by benchmark."""
    return _counts(rejected, {id: question.benchmark for id, question in questions.items()})


def reject_types(
    rejected: Sequence[RejectedTarget], cases: Sequence[DriftCase]
) -> dict[str, dict[str, int]]:
    """Rejected repair targets by the code of that rule, and by the type of drift to repair."""
    return _counts(rejected, {case.question_id: case.type.value for case in cases})


def _counts(
    rejected: Sequence[RejectedTarget], group_of: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Count by code and by what each question belongs to; the most frequent code comes first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for target in rejected:
        code = target.reasons[-1].split(":")[0]
        counts[code][group_of[target.question_id]] += 1
    by_total = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    return {code: dict(sorted(found.items())) for code, found in by_total}
