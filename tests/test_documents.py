"""The documents are true: their figures are those of configs/results/, their links lead somewhere.

A table is marked by a comment on a line before it, which names a file of configs/results/ and an
object in it that has a record for each row:

    <!-- results: quickstart.json#models -->
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.models import SEVERITIES
from dart_jax.evaluate.sweep_rows import Result
from dart_jax.evaluate.sweep_table import sweep_table
from dart_jax.records import from_json, write_text
from dart_jax.summaries import to_pretty_json
from tests.evaluate.test_sweep_table import summary
from tests.record_run import LEFT_OUT, RESULTS, RunSummary, recorded_sweep, to_json

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
)
DOCUMENTS = [ROOT / name for name in LISTED.stdout.split()] or [ROOT / "README.md"]
MARK = re.compile(r"<!-- results: (\S+)#(\S+) -->")
BENCHMARKS = ("D1", "D2", "D3", "D4", "N1", "N2", "N3", "N4")

# Title of a column -> the path of its figure in a row's record, when they differ.
PATHS = {
    "EQUAL": "equal_accuracy",
    "DIFF": "diff_accuracy",
    "YES rate": "yes_rate",
    "forced accuracy": "forced_accuracy",
    "AUROC": "auroc",
    "unparseable": "unparseable_rate",
    "answers": "n",
    "planted drift": "drifted",
    "slice": "topology",
    "micro-batches": "micro_batches",
    "products, %": "products",
    "compiled in s": "seconds",
    "scan axis": "scan_axis",
    "MiB on the host": "host_mib",
    "DiffAware": "all.diff_aware",
    "CtxtAware": "all.ctxt_aware",
    "EQUAL right": "all.equal_right",
    "drift of M_int": "change.rates.M_int",
    "drift of M_DART": "change.rates.M_DART",
    "less drift": "change.reduction",
    "kappa, M_int": "agreement.M_int.kappa",
    "kappa, M_DART": "agreement.M_DART.kappa",
    "safe refused": "all.over_refusal",
    "safe refused in part": "all.partial_over_refusal",
    "unsafe refused": "all.unsafe_refused",
    "unsafe complied with": "all.unsafe_complied",
    **{name: f"by_benchmark.{name}.accuracy" for name in BENCHMARKS},
    **{name: f"by_severity.{name}" for name in SEVERITIES},
}

# The same for the rows of a sweep, whose records have a metric a name.
SWEEP_PATHS = {
    "AUROC": "auroc",
    "planted drift": "planted",
    "harm": "planted_harm",
    "reduction": "planted_reduction",
    "remaining drift": "drift",
    "questions without drift": "undrifted",
    "same answer": "undrifted_same",
    "KL": "undrifted_kl",
    "longer by tokens": "undrifted_longer",
    "same answer with drift": "drifted_same",
    **{name: f"planted_{name}" for name in SEVERITIES},
}

# Path of a figure that is no rate -> how it is written.
IN_OWN_UNIT = {
    "undrifted": "{:.1f}".format,
    "undrifted_kl": "{:.3f}".format,
    "undrifted_longer": "{:.1f}".format,
    **dict.fromkeys(("kappa", "agreement.M_int.kappa", "agreement.M_DART.kappa"), "{:.3f}".format),
}


def cells(line: str) -> list[str]:
    """The cells of a table's line: between bars, or, in a block of text, two spaces apart."""
    if line.startswith("|"):
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
    return re.split(r" {2,}", line.strip())


def marked_tables(text: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    """(file, name of the object, lines of cells) of each marked table, header first."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not (mark := MARK.search(line)):
            continue
        table = []
        for following in lines[number + 1 :]:
            if not following.strip() or following.startswith("```"):
                if table:
                    break
                continue
            table.append(following)
        yield mark[1], mark[2], [cells(row) for row in table if not re.fullmatch(r"[|:\- ]+", row)]


def at(record: object, path: str) -> object:
    """The value at a dotted path; None where there is none."""
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def shown(
    value: object,
    bounds: list[float] | None = None,
    write: Callable[[float], str] = percent,
) -> str:
    """A figure as a table writes it: a rate in per cent or as told, a count as it is."""
    match value:
        case None | {"mean": None}:
            return ""
        case float() if bounds:
            return f"{write(value)} [{write(bounds[0])}, {write(bounds[1])}]"
        case float():
            return write(value)
        case {"mean": float(mean), "low": None}:
            return write(mean)
        case {"mean": float(figure), "low": low, "high": high} | {
            "value": float(figure),
            "low": float(low),
            "high": float(high),
        }:
            return f"{write(figure)} [{write(low)}, {write(high)}]"
        case {"rate": float(rate), "interval": [low, high]}:
            return f"{write(rate)} [{write(low)}, {write(high)}]"
        case {"mean": mean, "half_interval": half}:
            return f"{write(mean)} ± {write(half)}"
        case list():
            return ", ".join(map(shown, value))
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def expected_cell(document: dict, records: str, row: str, column: str) -> str:
    """What a cell has to say; `row` and `column` are its row's and its column's titles."""
    if column == "drift, test":
        counts = at(document, f"drift.{row}")
        return f"{counts['confirmed']} of {counts['pairs']}" if counts else ""
    record = at(document, records).get(row)
    if record is None:
        record = document[row.replace(" ", "_")]
    path = (SWEEP_PATHS if "planted_harm" in record else PATHS).get(column, column)
    if column.startswith("GiB"):
        return f"{record['gib']:.2f} of {record['gib_of_chip']:.2f}"
    # An expectation is in the unit of its metric.
    metric = at(record, "expectation.metric") or path
    write = IN_OWN_UNIT.get(metric, percent)
    return shown(at(record, path), at(record, f"intervals.{path}"), write)


def wrong_cells(text: str) -> list[str]:
    """Each cell of a marked table that says otherwise than the file, as a readable line."""
    wrong = []
    for file, records, (header, *rows) in marked_tables(text):
        document = json.loads((RESULTS / file).read_text("utf-8"))
        for row, *figures in rows:
            row = row.strip("`")
            padded = figures + [""] * (len(header) - 1 - len(figures))
            for column, cell in zip(header[1:], padded, strict=True):
                expected = expected_cell(document, records, row, column)
                if cell != expected:
                    wrong.append(f"{file}, {row}, {column}: {cell!r} should be {expected!r}")
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_figures_are_those_of_the_results(path: Path) -> None:
    assert not wrong_cells(path.read_text("utf-8"))


def test_another_figure_is_found() -> None:
    """Each figure of the README's tables, changed, is named."""
    text = (ROOT / "README.md").read_text("utf-8")
    tables = list(marked_tables(text))
    assert len(tables) >= 2
    for _, _, (_, *rows) in tables:
        for figure in {cell for row in rows for cell in row[1:] if cell}:
            digit = re.search(r"\d", figure)
            other = figure.replace(digit[0], str((int(digit[0]) + 1) % 10), 1)
            assert wrong_cells(text.replace(figure, other)), figure


def test_every_marked_file_says_how_it_was_made() -> None:
    files = {file for path in DOCUMENTS for file, *_ in marked_tables(path.read_text("utf-8"))}
    assert files
    for file in files:
        document = json.loads((RESULTS / file).read_text("utf-8"))
        assert document["command"] and document["machine"] and "commit" in document, file


def test_the_quickstart_file_is_a_runs_summary() -> None:
    """So that `python -m tests.record_run` replaces it."""
    document = json.loads((RESULTS / "quickstart.json").read_text("utf-8"))
    figures = document.keys() - {"command", "commit", "machine"}
    assert figures <= RunSummary.__dataclass_fields__.keys() - set(LEFT_OUT)


def test_recorded_figures_are_read_as_they_were() -> None:
    models = json.loads((RESULTS / "wording.json").read_text("utf-8"))["models"]
    metrics = {
        name: from_json(json.dumps(figures), ModelMetrics, where=name)
        for name, figures in models.items()
    }
    assert json.loads(to_json({"models": metrics})) == {"models": models}


def test_a_recorded_sweep_has_other_answers_and_evaluators_for_marked_tables(tmp_path) -> None:
    results = [Result(name, seed, summary(0.5, 10), "x") for name in "ab" for seed in (0, 1)]
    table = sweep_table(results, ["a", "b"], 0.95, name="try", seeds=[0, 1], runs=4)
    write_text(tmp_path / "table.json", to_pretty_json(table))
    document = json.loads(to_json(recorded_sweep(tmp_path, "sweep", "0")))

    for records, row, column, expected in [
        ("rows", "a", "same answer", "90.0 [90.0, 90.0]"),
        ("rows", "a", "KL", "0.012 [0.012, 0.012]"),
        ("rows", "distill only", "KL", ""),
        ("differences.rows", "b", "longer by tokens", "0.0 [0.0, 0.0]"),
        ("evaluators", "b, openai a|b", "kappa", "0.780 [0.780, 0.780]"),
        ("differences.evaluators", "distill only, openai a|b", "drift", "22.9 [22.9, 22.9]"),
    ]:
        assert expected_cell(document, records, row, column) == expected, (records, column)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert not [target for target in local if not (path.parent / target).exists()]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_a_config_says_how_it_runs_and_what_to_expect(path: Path) -> None:
    """Its head has the command, hardware, time, memory and the figure; or that it was not run."""
    head = re.match(r"(#.*\n)+", path.read_text("utf-8"))[0]
    for word in ("Command:", "Hardware:", "Time:", "Memory:", "Expect:"):
        assert f"# {word}" in head
    assert path.name in head or "launch/local.sh" in head


@pytest.mark.parametrize(
    ("config", "path", "row"),
    [
        ("quickstart", "models", "M_DART"),
        ("smollm2_suite", "models", "M_DART"),
        ("rules_suite", "models", "M_int"),
        ("sweep_by_scenario", "models", "M_DART, heldout, linear weights"),
    ],
)
def test_a_config_expects_what_was_measured(config: str, path: str, row: str) -> None:
    document = json.loads((RESULTS / f"{config}.json").read_text("utf-8"))
    file = "smollm2_sweep" if config.startswith("sweep") else config
    head = (ROOT / f"configs/{file}.yaml").read_text("utf-8")
    words = " ".join(head.replace("#", " ").split()).replace(" %", "")
    for name in (row, "shortcut baseline"):
        figure = expected_cell(document, path, name, "accuracy")
        # The baseline's interval is left out.
        assert (figure if name == row else figure.split(" ")[0]) in words
    assert f"{config}.json" in words


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200


def test_the_readme_counts_test_functions_and_not_their_cases() -> None:
    count = 0
    for path in (ROOT / "tests").rglob("*.py"):
        count += len(re.findall(r"^ *def test_", path.read_text("utf-8"), re.MULTILINE))
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"some {round(count, -2):,} test functions" in text
