"""Settings of a run's questions and their splits."""

from dataclasses import dataclass
from typing import Literal

from dart_jax.settings import Count, Name, Seed, check_fields


@dataclass(frozen=True)
class DataConfig:
    """Questions and splits.

    Attributes:
        suite: mini (embedded), difference_awareness (needs data.dir), jsonl (your own questions; needs data.file) or hub (a data set of the Hugging Face hub; needs data.hub).
        dir: Folder with D1.jsonl..N4.jsonl, or with the original D1_1k.pkl..N4_1k.pkl.
        file: JSONL file of your own questions, one {id?, question | messages | prompt, label?, completion?, weight?, token_weights?, benchmark?, scenario?} a line.
        hub: Name of a data set, or its local folder, with the same columns.
        hub_split: The data set's split that holds the questions; training, validation and test questions are all taken from it.
        split_by: Split single rows, or whole scenarios (no template shared between splits); none: every row is for training, and nothing is held back to evaluate on.
        max_train: Largest number of training questions, spread evenly over benchmarks and conditions.
        max_validation: Largest number of validation questions, spread likewise.
        max_test: Largest number of test questions, spread likewise.
        seed: Seed of the split; the paper's is 42.
    """

    suite: Literal["mini", "difference_awareness", "jsonl", "hub"] = "mini"
    dir: Name | None = None
    file: Name | None = None
    hub: Name | None = None
    hub_split: Name = "train"
    split_by: Literal["row", "scenario", "none"] = "row"
    max_train: Count | None = None
    max_validation: Count | None = None
    max_test: Count | None = None
    seed: Seed = 42

    def __post_init__(self) -> None:
        check_fields(self, "data")
