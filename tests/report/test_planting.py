"""A run that plants faults says so in every table of every format, and in the model card."""

import csv
from dataclasses import asdict

import pytest
import yaml

from dart_jax.evaluate.sweep_rows import Result
from dart_jax.evaluate.sweep_table import sweep_table
from dart_jax.records import DriftType, Severity
from dart_jax.report.document import Figure, Fold, Section, Table, tables_of, walk
from dart_jax.report.model_card import model_card
from dart_jax.report.planting import planted_in_some, with_remark
from dart_jax.report.run_report import console_text, run_document, write_report
from dart_jax.report.sweep_report import sweep_text, write_sweep
from dart_jax.teach.config import PlantConfig
from dart_jax.teach.planted import BenchmarkPlanting, Planting
from tests.evaluate.conftest import made_up_summary
from tests.report.test_model_card import card_inputs
from tests.report.test_report import CONFIG, extras

WORDS = "faults planted in 35 of 320 training targets"
PLANTING = Planting(
    320,
    {
        "D1": BenchmarkPlanting(DriftType.ELABORATES, Severity.MINOR, 30, 0),
        "N2": BenchmarkPlanting(DriftType.OMITS, Severity.SEVERE, 5, 12),
    },
)


@pytest.fixture
def planted():
    return made_up_summary(planting=PLANTING)


def test_every_table_and_figure_of_the_report_says_it(planted, tmp_path):
    data = extras(config={**CONFIG, "plant": asdict(PlantConfig(share=0.5))})
    path = write_report(tmp_path, planted, data)
    document = run_document(tmp_path, planted, data)
    captioned = [b for b in walk(document.sections) if isinstance(b, Table | Figure)]
    assert len(captioned) > 8
    assert {block.caption.endswith(f"; {WORDS}") for block in captioned} == {True}

    for table in tables_of(document.sections):
        stem = tmp_path / f"evaluation/tables/{table.name}"
        assert WORDS in stem.with_suffix(".tex").read_text("utf-8")
        with stem.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            assert {row["remark"] for row in csv.DictReader(file)} <= {WORDS}
    page = path.read_text("utf-8")
    assert "**Faults were planted**: of 320 training targets, 35" in page
    assert "| N2 | omits | severe | 5 | 12 |" in page
    assert "| plant | share 0.5," in page
    assert page.count(WORDS) >= len(captioned)
    assert (tmp_path / "report/index.html").read_text("utf-8").count(WORDS) >= len(captioned)


def test_the_console_begins_with_it(planted):
    text = console_text(planted, extras())
    assert text.startswith("Faults were planted: of 320 training targets, 35")
    captions = " ".join(text.split()).count(WORDS)
    assert captions == 5, "results, forced decisions, drift, evaluators, what else changed"


def test_without_planting_nothing_is_said(tmp_path):
    page = write_report(tmp_path, made_up_summary(), extras()).read_text("utf-8")
    assert "plant" not in page + model_card(card_inputs())
    assert "plant" not in console_text(made_up_summary(), extras())
    table = Table("t", "Words", (), [])
    assert with_remark([table], "") == (table,)


def test_a_table_without_caption_gets_one_and_folds_are_not_left_out():
    table = Table("t", "", (), [])
    (section,) = with_remark([Section("S", (Fold("F", (table,)),))], WORDS)
    assert section.blocks[0].blocks[0].caption == "Faults planted in 35 of 320 training targets"


@pytest.mark.parametrize("evaluated", [True, False])
def test_the_model_card_says_it_first_and_in_every_table(evaluated, planted):
    summary = planted if evaluated else None
    config = {**card_inputs().config, "plant": asdict(PlantConfig(share=0.5))}
    card = model_card(card_inputs(summary=summary, config=config, planting=PLANTING))
    front, body = card.split("---\n")[1:]
    assert "planted-faults" in yaml.safe_load(front)["tags"]
    assert body.index("**Faults were planted**") < body.index(
        "trained with DART" if evaluated else "tuned with"
    )
    tables = body.count("\n| --- |") + body.count("\n|:-") + body.count("\n| :-")
    assert body.lower().count(WORDS) == tables > 2
    assert "| plant | share 0.5" in body


def test_a_sweep_names_the_variants_that_planted(planted, tmp_path):
    results = [Result("a", 0, made_up_summary(), "x"), Result("b", 0, planted, "y")]
    table = sweep_table(results, ["a", "b"], 0.95, name="try", seeds=[0], runs=2)
    write_sweep(tmp_path, table)
    for text in ((tmp_path / "table.md").read_text("utf-8"), sweep_text(tmp_path)):
        assert "faults planted in the training targets of b" in " ".join(text.split())


def test_where_all_planted_none_is_named():
    assert planted_in_some([], 2) == ""
    assert planted_in_some(["a", "b"], 2).endswith("of all of them")
    assert planted_in_some(["b"], 2).endswith("of b")
