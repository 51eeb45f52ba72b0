"""The questions of the suite that a run names."""

from pathlib import Path

from dart_jax.data import difference_awareness, mini_suite
from dart_jax.data.config import DataConfig
from dart_jax.records import Question


def load_suite(config: DataConfig) -> list[Question]:
    """Every question of `config.suite`, in the suite's own order.

    Raises:
        ValueError: `difference_awareness` without `data.dir`, or with bad content (BadRecord,
            UnsafePickle, UnreadablePickle).
        FileNotFoundError: A benchmark's file is missing.
    """
    if config.suite == "mini":
        return [item.question for item in mini_suite.load_mini()]
    if config.dir is None:
        raise ValueError(
            "data.suite difference_awareness needs data.dir: the folder with D1.jsonl..N4.jsonl "
            "or the original D1_1k.pkl..N4_1k.pkl"
        )
    return difference_awareness.load(Path(config.dir))
