"""Which questions a run uses, and how they are split."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Questions and splits.

    Attributes:
        suite: mini (embedded) or difference_awareness (needs data.dir).
        dir: Folder with D1.jsonl..N4.jsonl, or with the original D1_1k.pkl..N4_1k.pkl.
        split_by: Split single rows, or whole scenarios (no template shared between splits).
        max_train: Most training questions, spread evenly over benchmarks and conditions.
        max_validation: Most validation questions, spread likewise.
        max_test: Most test questions, spread likewise.
        seed: Seed of the split; the paper's is 42.
    """

    suite: Literal["mini", "difference_awareness"] = "mini"
    dir: str | None = None
    split_by: Literal["row", "scenario"] = "row"
    max_train: int | None = None
    max_validation: int | None = None
    max_test: int | None = None
    seed: int = 42
