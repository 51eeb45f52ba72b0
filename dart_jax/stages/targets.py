"""Writing targets into a folder, resumably: `targets.jsonl` and `rejected.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from dart_jax.records import RejectedTarget, Target, append_jsonl, resume_jsonl, write_jsonl
from dart_jax.stages.context import Run
from dart_jax.stages.providers import make_targets
from dart_jax.teach.writer import TargetRequest, TargetResult


def collect_targets(
    run: Run, requests: Sequence[TargetRequest], folder: str
) -> tuple[list[Target], list[RejectedTarget]]:
    """Have every request answered or rejected; each result is on disk before the next.

    There is at most one request a question: drift cases are of one model, one pair a question.
    """
    accepted_path = run.folder / f"{folder}/targets.jsonl"
    rejected_path = run.folder / f"{folder}/rejected.jsonl"
    accepted = resume_jsonl(accepted_path, Target)
    rejected = resume_jsonl(rejected_path, RejectedTarget)
    decided = {result.question_id for result in [*accepted, *rejected]}
    missing = [request for request in requests if request.question.id not in decided]
    with tqdm(total=len(requests), initial=len(decided), desc="targets", unit="") as bar:

        def keep(result: TargetResult) -> None:
            if isinstance(result, Target):
                append_jsonl(accepted_path, [result])
                accepted.append(result)
            else:
                append_jsonl(rejected_path, [result])
                rejected.append(result)
            bar.update()

        make_targets(run, missing, keep)
    # Results arrive in any order; what is trained on is in the order of the questions.
    order = {request.question.id: index for index, request in enumerate(requests)}
    accepted.sort(key=lambda target: order[target.question_id])
    rejected.sort(key=lambda target: order[target.question_id])
    write_jsonl(accepted_path, accepted)
    write_jsonl(rejected_path, rejected)
    return accepted, rejected


def reject_counts(rejected: Sequence[RejectedTarget]) -> dict[str, int]:
    """Rejected targets by the code of the rule that their last attempt broke."""
    return dict(Counter(target.reasons[-1].split(":")[0] for target in rejected).most_common())
