"""Load the questions of the suite that `data.suite` names."""

from pathlib import Path

from dart_jax.data import custom_dataset, difference_awareness, mini_suite
from dart_jax.data.bucket import is_address, local_copy
from dart_jax.data.config import DataConfig
from dart_jax.data.custom_dataset import CustomItem
from dart_jax.records import Question


def load_suite(config: DataConfig) -> list[Question]:
    """Load every question of `config.suite`, in the suite's order.

    Raises:
        ValueError: `data.dir`, `data.file` or `data.hub` is missing, or the suite has bad content
            (BadRecord, UnsafePickle, UnreadablePickle).
        FileNotFoundError: A benchmark's file is missing.
    """
    if config.suite == "mini":
        return [item.question for item in mini_suite.load_mini()]
    if config.suite in ("jsonl", "hub"):
        return [item.question for item in custom_items(config)]
    if config.dir is None:
        raise ValueError(
            "data.suite difference_awareness needs data.dir: the folder with D1.jsonl..N4.jsonl "
            "or the original D1_1k.pkl..N4_1k.pkl"
        )
    if is_address(config.dir):
        return difference_awareness.load(local_copy(config.dir, "data.dir"))
    return difference_awareness.load(Path(config.dir))


def custom_items(config: DataConfig) -> list[CustomItem]:
    """Load the items of a `jsonl` or `hub` suite; none for other suites. Raises as `load_suite`."""
    if config.suite == "jsonl":
        if config.file is None:
            raise ValueError("data.suite jsonl needs data.file: the JSONL file with your questions")
        return custom_dataset.load_file(Path(config.file), config.learn_turns)
    if config.suite == "hub":
        if config.hub is None:
            raise ValueError("data.suite hub needs data.hub: the name of the data set")
        return custom_dataset.load_hub(config.hub, config.hub_split, config.learn_turns)
    return []
