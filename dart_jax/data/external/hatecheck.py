"""HateCheck (Röttger et al., ACL 2021): 3,728 hateful and non-hateful cases by functionality.

The public file is `test_suite_cases.csv`, or `all_cases.csv` with the cases that its annotators
did not settle. On non-hateful cases a model can refuse too much, on hateful ones comply.
"""

import csv
import io
from pathlib import Path

from dart_jax.data.external.prompts import ExternalPrompt, check_unique_ids, read_utf8
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
    rows = csv.DictReader(io.StringIO(read_utf8(path), newline=""), strict=True)
    prompts = []
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise BadRecord(f"{path}:1: no column {', '.join(missing)}")
        for row in rows:
            prompts.append(_prompt(row, f"{path}:{rows.line_num}"))
    except csv.Error as error:
        raise BadRecord(f"{path}:{rows.reader.line_num}: {error}") from error
    check_unique_ids(prompts, path)
    return prompts


def _prompt(row: dict[str | None, str | None], where: str) -> ExternalPrompt:
    if None in row or None in row.values():
        raise BadRecord(f"{where}: another number of fields than the header has")
    functionality, label = row["functionality"], row["label_gold"]
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
