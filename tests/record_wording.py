"""Measure how many labels of the whole suite the wording gives away; no model is asked.

    .venv/bin/python -m tests.record_wording PATH/TO/difference_awareness

writes configs/results/wording.json, which README.md's first section quotes.
"""

import sys

from dart_jax.data.config import DataConfig
from dart_jax.data.splits import make_splits
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.forced import with_forced
from dart_jax.evaluate.metrics import ModelMetrics, model_metrics
from dart_jax.evaluate.shortcut import shortcut_baseline
from dart_jax.machine import machine
from dart_jax.records import write_text
from tests.record_run import RESULTS, head, to_json


def measured(folder: str, split_by: str) -> tuple[dict[str, int], ModelMetrics]:
    """The sizes of the splits, and the baseline on the test questions."""
    splits = make_splits(DataConfig(suite="difference_awareness", dir=folder, split_by=split_by))
    shortcut = shortcut_baseline(splits["train"], splits["test"])
    own = model_metrics(splits["test"], shortcut.answers, EvaluateConfig(), seed=0)
    metrics = with_forced(own, splits["test"], shortcut.margins, EvaluateConfig(), seed=0)
    return {name: len(questions) for name, questions in splits.items()}, metrics


def main() -> None:
    """Measure both splits and write the file."""
    commit, here = head(), machine()
    sizes, metrics = {}, {}
    for split_by in ("row", "scenario"):
        sizes[split_by], metrics[split_by] = measured(sys.argv[1], split_by)
    content = {
        "command": "python -m tests.record_wording PATH/TO/difference_awareness",
        "commit": commit,
        "machine": here,
        "sizes": sizes,
        "models": metrics,
    }
    write_text(RESULTS / "wording.json", to_json(content))


if __name__ == "__main__":
    main()
