"""Writing targets into a folder, resumably: `targets.jsonl` and `rejected.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dart_jax.processes import progress
from dart_jax.records import RejectedTarget, Target
from dart_jax.run_dir import ResultFile
from dart_jax.stages.context import Run
from dart_jax.stages.providers import make_targets
from dart_jax.teach.writer import TargetRequest, TargetResult


def collect_targets(
    run: Run, requests: Sequence[TargetRequest], folder: str
) -> tuple[list[Target], list[RejectedTarget]]:
    """Have every request answered or rejected; each result is on disk before the next.

    There is at most one request a question: drift cases are of one model, one pair a question.
    """
    accepted = ResultFile(run.folder / f"{folder}/targets.jsonl", Target)
    rejected = ResultFile(run.folder / f"{folder}/rejected.jsonl", RejectedTarget)
    decided = {result.question_id for result in [*accepted.records, *rejected.records]}
    missing = [request for request in requests if request.question.id not in decided]
    with progress("targets", len(requests), len(decided)) as bar:

        def keep(result: TargetResult) -> None:
            (accepted if isinstance(result, Target) else rejected).add([result])
            bar.update()

        make_targets(run, missing, keep)
    # Results arrive in any order; what is trained on is in the order of the questions.
    order = {request.question.id: index for index, request in enumerate(requests)}

    def position(result: TargetResult) -> int:
        return order[result.question_id]

    return accepted.finish(position), rejected.finish(position)


def reject_counts(rejected: Sequence[RejectedTarget]) -> dict[str, int]:
    """Rejected targets by the code of the rule that their last attempt broke."""
    return dict(Counter(target.reasons[-1].split(":")[0] for target in rejected).most_common())
