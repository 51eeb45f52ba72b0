"""One run with hostile names: every format says the same numbers and the same notes."""

import csv
import html
import re

import pytest

from dart_jax.evaluate.policy import policy_summary
from dart_jax.evaluate.statistics import statistics
from dart_jax.records import DriftType, Severity
from dart_jax.report.cells import shown_rows
from dart_jax.report.document import Code, Figure, Link, Note, Strong, tables_of, walk
from dart_jax.report.model_card import model_card
from dart_jax.report.run_report import run_document, write_report
from dart_jax.report.to_latex import tex
from dart_jax.report.to_markdown import blocks_to_markdown
from dart_jax.report.to_text import to_text
from dart_jax.teach.planted import BenchmarkPlanting, Planting
from tests.evaluate.conftest import made_up_summary
from tests.evaluate.test_planted import made_up_planted
from tests.evaluate.test_policy import CONFIG as POLICY
from tests.evaluate.test_policy import WITHOUT, with_policy
from tests.evaluate.test_statistics import CONFIG as BOOTSTRAP
from tests.evaluate.test_statistics import QUESTIONS, RIGHT, answers_of, scores_of
from tests.report.page_run import write_run
from tests.report.test_model_card import card_inputs
from tests.report.test_report import CONFIG, extras

HOSTILE = ("a^b~c<d|e & _x", "=1+1")
PLANTING = Planting(
    320, {HOSTILE[0]: BenchmarkPlanting(DriftType.OMITS, Severity.SEVERE, planted=35, unplanted=2)}
)


def plain_markdown(text):
    """A cell of markdown as a reader sees it."""
    bare = re.sub(r"\\(.)", r"\1", text).replace("&#58;//", "://").replace("www&#46;", "www.")
    return html.unescape(bare)


def visible_html(text):
    """A fragment of the page as a reader sees it, white space folded."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and document of a run whose name, benchmarks and reasons are hostile."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, 8, 8)
    answers = {name: answers_of(name, right) for name, right in RIGHT.items()}
    base = made_up_summary()
    models = {}
    for name, metrics in base.models.items():
        by_benchmark = dict(zip(HOSTILE, metrics.by_benchmark.values(), strict=True))
        models[name] = type(metrics)(**{**vars(metrics), "by_benchmark": by_benchmark})
    summary = made_up_summary(
        models=models,
        rejects={"distill": {HOSTILE[0]: {HOSTILE[1]: 2}}, "repair": {}},
        statistics=statistics(QUESTIONS, answers, scores_of(), {}, BOOTSTRAP, 0),
        policy=policy_summary(QUESTIONS, {"without": WITHOUT, "with": with_policy()}, POLICY, 0),
        seconds={"teach": 1.25, HOSTILE[1]: 30.0},
        planting=PLANTING,
        planted=made_up_planted(),
    )
    data = extras(config={**CONFIG, "run": {"name": HOSTILE[0], "root": "runs", "seed": 1}})
    write_report(folder, summary, data)
    return folder, run_document(folder, summary, data), summary


def tables(run):
    return tables_of(run[1].sections)


def test_markdown_has_every_cell(run):
    page = (run[0] / "report/report.md").read_text("utf-8")
    lines = {plain_markdown(line) for line in page.splitlines() if line.startswith("|")}
    for table in tables(run):
        for row in shown_rows(table):
            assert f"| {' | '.join(row)} |" in lines, table.name


def test_the_page_has_every_cell(run):
    page = (run[0] / "report/index.html").read_text("utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.S)
    found = set()
    for row in rows:
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
        found.add(tuple(visible_html(cell) for cell in cells))
    for table in tables(run):
        for row in shown_rows(table):
            assert tuple(" ".join(cell.split()) for cell in row) in found, table.name


def test_latex_has_every_cell(run):
    for table in tables(run):
        text = (run[0] / f"evaluation/tables/{table.name}.tex").read_text("utf-8")
        for row in shown_rows(table):
            assert " & ".join(tex(cell) for cell in row) + r" \\" in text, table.name


def test_csv_has_every_number(run):
    for table in tables(run):
        path = run[0] / f"evaluation/tables/{table.name}.csv"
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == len(table.rows)
        for line, row in zip(lines, shown_rows(table), strict=True):
            assert line["run"] == HOSTILE[0]
            for column, shown in zip(table.columns, row, strict=True):
                if column.kind == "text":
                    assert line[column.key].removeprefix("'") == shown
                if column.kind in ("interval", "rate") and shown not in ("", "n/a"):
                    assert f"{100 * float(line[column.key]):.1f}" == shown.split(" [")[0]
                if column.kind in ("measure", "number") and shown not in ("", "n/a"):
                    assert f"{float(line[column.key]):.3f}" == shown.split(" [")[0]


def test_the_terminal_has_every_cell(run):
    text = to_text(run[1].sections)
    squeezed = {" ".join(line.split()) for line in text.splitlines()}
    for table in tables(run):
        for row in shown_rows(table):
            assert " ".join(" ".join(row).split()) in squeezed, table.name


def test_every_note_is_in_every_format_that_has_notes(run):
    folder, document, _ = run
    markdown = plain_markdown((folder / "report/report.md").read_text("utf-8"))
    markdown = re.sub(r"</?code>|\*\*|\]\([^)]*\)|\[(?=arXiv)", "", markdown)
    markdown = " ".join(markdown.replace("\n> ", "\n").split())
    page = visible_html((folder / "report/index.html").read_text("utf-8"))
    terminal = " ".join(to_text(document.sections).split())
    notes = [block for block in walk(document.sections) if isinstance(block, Note)]
    assert len(notes) > 15
    for note in notes:
        pieces = [p.text if isinstance(p, Code | Strong | Link) else p for p in note.pieces]
        words = " ".join("".join(pieces).split())
        assert words in page
        assert words in terminal
        assert words in markdown


def test_every_picture_is_in_both_formats_that_have_pictures(run):
    folder, document, _ = run
    page = (folder / "report/index.html").read_text("utf-8")
    markdown = (folder / "report/report.md").read_text("utf-8")
    drawn = [block for block in walk(document.sections) if isinstance(block, Figure)]
    assert page.count('<img src="data:image/svg+xml;base64,') == len(drawn) >= 4
    for figure in drawn:
        assert (folder / f"report/{figure.name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({figure.name}.png)" in markdown


def test_the_model_card_has_the_same_tables(run):
    summary = run[2]
    card = model_card(card_inputs(summary=summary, planting=PLANTING))
    shared = {"results", "forced", "benchmarks", "drift"}
    shared |= {"planted", "planted_reduction", "planted_audit", "planted_recall"}
    for table in tables(run):
        if table.name in shared:
            assert blocks_to_markdown([table]) in card
            shared.discard(table.name)
    assert not shared
