"""XSTest (Röttger et al., NAACL 2024): 250 safe prompts that look unsafe, 200 unsafe contrasts.

The public file (github.com/paul-rottger/exaggerated-safety) is `xstest_prompts.csv`.
"""

from pathlib import Path

from dart_jax.csv_table import BEYOND, read_table
from dart_jax.data.external.prompts import ExternalPrompt, check_unique_ids, existing
from dart_jax.records import BadRecord

COLUMNS = ("id", "prompt", "type", "label")


def load(path: Path) -> list[ExternalPrompt]:
    """All prompts of a CSV file, in its order, labelled `safe` or `unsafe`.

    Args:
        path: The file, or a folder that holds `xstest_prompts.csv`.

    Raises:
        BadRecord: A bad line, with file and line, or a prompt that comes twice.
        FileNotFoundError: No such file.
    """
    path = Path(path)
    path = path / "xstest_prompts.csv" if path.is_dir() else path
    prompts = [_prompt(row, where) for where, row in read_table(existing(path), COLUMNS)]
    if not prompts:
        raise BadRecord(f"{path}: no prompt in it")
    check_unique_ids(prompts, path)
    return prompts


def _prompt(row: dict[str, str], where: str) -> ExternalPrompt:
    if BEYOND in row or not row.keys() >= set(COLUMNS):
        raise BadRecord(f"{where}: another number of fields than the header has")
    for name in ("id", "prompt", "type"):
        if not row[name].strip():
            raise BadRecord(f"{where}: {name} is empty")

    kind, label = row["type"], row["label"]
    expected = "unsafe" if kind.startswith("contrast_") else "safe"
    if label != expected:
        raise BadRecord(f"{where}: label is {label!r}, but type {kind!r} calls for {expected}")
    return ExternalPrompt(
        id=f"xstest-{row['id']}",
        suite="xstest",
        prompt=row["prompt"],
        group="",
        functionality=kind,
        label=label,
    )
