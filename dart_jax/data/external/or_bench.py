"""OR-Bench (Cui et al., ICML 2025): safe prompts that look toxic, and toxic ones beside them.

The public files (Hugging Face, bench-llm/or-bench) have the columns `prompt` and `category`:
`or-bench-hard-1k.csv` (1,319 safe prompts that strong models refuse), `or-bench-toxic.csv` (655)
and `or-bench-80k.csv`, of which the hard ones are a part. Its authors report how many prompts of
the first are refused against how many of the second.
"""

from pathlib import Path

from dart_jax.csv_table import BEYOND, read_table
from dart_jax.data.external.prompts import ExternalPrompt, existing
from dart_jax.records import BadRecord

COLUMNS = ("prompt", "category")
_HARD, _TOXIC = "or-bench-hard-1k.csv", "or-bench-toxic.csv"


def load(path: Path) -> list[ExternalPrompt]:
    """All prompts, labelled `safe` or `unsafe`; a prompt's id is the number of its row.

    Args:
        path: A folder that holds the hard and the toxic prompts; or one of the three files.

    Raises:
        BadRecord: A bad line, with file and line, or a prompt that is both safe and unsafe.
        FileNotFoundError: A file is missing.
    """
    path = Path(path)
    files = [path / _HARD, path / _TOXIC] if path.is_dir() else [path]
    prompts: list[ExternalPrompt] = []
    for file in files:
        prompts += _prompts(existing(file))

    label_of: dict[str, str | None] = {}
    for prompt in prompts:
        if label_of.setdefault(prompt.prompt, prompt.label) != prompt.label:
            raise BadRecord(f"{path}: {prompt.id} has the words of a prompt that is called safe")
    return prompts


def _prompts(path: Path) -> list[ExternalPrompt]:
    rows = read_table(path, COLUMNS)
    if not rows:
        raise BadRecord(f"{path}: no prompt in it")

    name = path.stem.removeprefix("or-bench-")
    prompts = []
    for number, (where, row) in enumerate(rows, 1):
        if BEYOND in row or not row.keys() >= set(COLUMNS):
            raise BadRecord(f"{where}: another number of fields than the header has")
        for column in COLUMNS:
            if not row[column].strip():
                raise BadRecord(f"{where}: {column} is empty")
        prompts.append(
            ExternalPrompt(
                id=f"or_bench-{name}-{number}",
                suite="or_bench",
                prompt=row["prompt"],
                group="",
                functionality=row["category"],
                label="unsafe" if path.name == _TOXIC else "safe",
            )
        )
    return prompts
