"""Compute something of each answer in batches of like lengths, resumable after a crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from dart_jax.model.load import Model
from dart_jax.model.sharding import data_parallel
from dart_jax.processes import progress
from dart_jax.records import Generation
from dart_jax.run_dir import ResultFile

# Answers computed together; more of them where there are more devices to spread them over.
_LEAST_ROWS = 8


@runtime_checkable
class OfAnswer(Protocol):
    """A record of one answer, such as `Margin`."""

    @property
    def question_id(self) -> str:
        """Question that was answered."""


R = TypeVar("R", bound=OfAnswer)
T = TypeVar("T")


def batch_rows(model: Model) -> int:
    """Number of answers in a batch: the same on every device."""
    devices = data_parallel(model.mesh)
    return -(-_LEAST_ROWS // devices) * devices


def of_each_answer(
    answers: Sequence[Generation],
    rows: int,
    results: ResultFile[R],
    title: str,
    compute: Callable[[Sequence[Generation]], list[R]],
) -> list[R]:
    """Compute the records that `results` does not hold yet; each is appended as it is known.

    Args:
        answers: One model's answers, in the order of the records.
        rows: Greatest number of answers in a batch.
        title: Of the progress bar.
        compute: Makes the records of one batch.

    Returns:
        All records, in the order of `answers`.
    """
    return in_batches(
        answers,
        rows,
        results,
        title,
        compute,
        id_of=lambda answer: answer.question_id,
        length_of=lambda answer: answer.prompt_tokens + answer.new_tokens,
    )


def in_batches(
    items: Sequence[T],
    rows: int,
    results: ResultFile[R],
    title: str,
    compute: Callable[[Sequence[T]], list[R]],
    *,
    id_of: Callable[[T], str],
    length_of: Callable[[T], int],
) -> list[R]:
    """Do the work of `of_each_answer` for items of any kind.

    Args:
        id_of: Names the question of an item.
        length_of: Its length in tokens.
    """
    known = {record.question_id for record in results.records}
    # The longest come first: if memory runs out, it does so at once. Batches of like lengths are
    # padded little, and few lengths are compiled.
    ordered = sorted(items, key=lambda item: (-length_of(item), id_of(item)))

    with progress(title, len(ordered), len(known)) as bar:
        for start in range(0, len(ordered), rows):
            batch = ordered[start : start + rows]
            missing = {id_of(item) for item in batch} - known
            if missing:
                # Computed whole, so that a run that was killed rounds as one left in peace.
                records = compute(batch)
                results.add([record for record in records if record.question_id in missing])
                bar.update(len(missing))

    order = {id_of(item): index for index, item in enumerate(items)}
    return results.finish(lambda record: order[record.question_id])
