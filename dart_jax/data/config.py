"""Settings of a run's questions and their splits."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from dart_jax.settings import BadSetting, Count, Name, Range, Seed, check_fields, shown

PartShare = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class DataConfig:
    """Questions and splits.

    Attributes:
        suite: mini (embedded), difference_awareness (needs data.dir), jsonl (your own questions; needs data.file) or hub (a data set of the Hugging Face hub; needs data.hub).
        dir: Folder with D1.jsonl..N4.jsonl, or with the original D1_1k.pkl..N4_1k.pkl (python -m dart_jax fetch gets them); gs://BUCKET/FOLDER is copied to this machine once.
        file: JSONL file of your own questions, one {id?, question | messages | prompt, label?, completion?, weight?, token_weights?, benchmark?, scenario?} a line.
        hub: Name of a data set, or its local folder, with the same columns.
        hub_split: The data set's split that holds the questions; training, validation and test questions are all taken from it.
        learn_turns: Of unlabelled own rows with several turns of the assistant's: learn the last, or all of them (TRL's assistant_only_loss), each as a row of its own after the turns before it.
        split_by: Split single rows, or whole scenarios (no template shared between splits); none: every row is for training, and nothing is held back to evaluate on.
        shares: Shares of training, validation and test questions; the paper's are 0.8, 0.1, 0.1.
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
    learn_turns: Literal["last", "all"] = "last"
    split_by: Literal["row", "scenario", "none"] = "row"
    shares: tuple[PartShare, PartShare, PartShare] = (0.8, 0.1, 0.1)
    max_train: Count | None = None
    max_validation: Count | None = None
    max_test: Count | None = None
    seed: Seed = 42

    def __post_init__(self) -> None:
        check_fields(self, "data")
        # As floats, shares that add up to 1 on paper need not do so to the last digit.
        if not math.isclose(math.fsum(self.shares), 1):
            raise BadSetting(
                f"data.shares: {shown(self.shares)} add up to {math.fsum(self.shares):g}; give "
                "the shares of training, validation and test questions, which add up to 1"
            )
