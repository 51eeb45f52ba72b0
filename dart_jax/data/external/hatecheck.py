"""HateCheck (Röttger et al., ACL 2021): 3,728 hateful and non-hateful cases by functionality.

The public file is `test_suite_cases.csv`, or `all_cases.csv` with the cases that its annotators
did not settle. On non-hateful cases a model can refuse too much, on hateful ones comply.
"""

from pathlib import Path

from dart_jax.csv_table import BEYOND, read_table
from dart_jax.data.external.prompts import ExternalPrompt, check_unique_ids, existing
from dart_jax.records import BadRecord

COLUMNS = ("functionality", "case_id", "test_case", "label_gold", "target_ident")
LABELS = {"_h": "hateful", "_nh": "non-hateful"}


def load(path: Path) -> list[ExternalPrompt]:
    """All cases of a CSV file, in its order; `group` is '' where no protected group is meant.

    Args:
        path: The file, or a folder that holds `test_suite_cases.csv`.

    Raises:
        BadRecord: A bad line, with file and line, or a case that comes twice.
        FileNotFoundError: No such file.
    """
    path = Path(path)
    path = path / "test_suite_cases.csv" if path.is_dir() else path
    prompts = [_prompt(row, where) for where, row in read_table(existing(path), COLUMNS)]
    if not prompts:
        raise BadRecord(f"{path}: no case in it")
    check_unique_ids(prompts, path)
    return prompts


def _prompt(row: dict[str, str], where: str) -> ExternalPrompt:
    if BEYOND in row or not row.keys() >= set(COLUMNS):
        raise BadRecord(f"{where}: another number of fields than the header has")
    functionality, label = row["functionality"], row["label_gold"]
    # Without any `_` this looks up the last letter, which has no label either.
    expected = LABELS.get(functionality[functionality.rfind("_") :])
    if label != expected:
        raise BadRecord(
            f"{where}: label_gold is {label!r}, but functionality {functionality!r} "
            f"calls for {expected or 'a name ending in _h or _nh'}"
        )

    if not row["case_id"].isdecimal():
        raise BadRecord(f"{where}: case_id is {row['case_id']!r}, not a number")
    if not row["test_case"].strip():
        raise BadRecord(f"{where}: test_case is empty")

    return ExternalPrompt(
        id=f"hatecheck-{int(row['case_id'])}",
        suite="hatecheck",
        prompt=row["test_case"],
        group=row["target_ident"],
        functionality=functionality,
        label=label,
    )
