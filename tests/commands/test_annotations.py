"""`export-annotations` and `import-annotations` on a finished run of the tiny model."""

import json
import shutil

import pytest

from dart_jax.audit.annotation_sample import BLIND, OPEN, KeyedItem, page_key
from dart_jax.audit.audited import read_pool
from dart_jax.commands.audit import main
from dart_jax.config import STAGES
from dart_jax.records import BadRecord, Generation, Verdict, read_jsonl, write_jsonl
from dart_jax.train import main as train


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def export(folder, out, *arguments):
    assert main(["export-annotations", "--run", str(folder), "--out", str(out), *arguments]) == 0
    return read_jsonl(folder / "annotation_key.jsonl", KeyedItem)


def agreeing(folder, key, path):
    """Answers of somebody who sees what the audit sees."""
    verdicts = {
        row.question_id: row for row in read_jsonl(folder / "audit/verdicts.jsonl", Verdict)
    }
    lines = []
    for keyed in key:
        verdict = verdicts[keyed.question_id]
        line = {"item": keyed.item, "annotator": "ada", "worse": "neither"}
        if verdict.drift:
            severity = verdict.severity.name.lower()
            line |= {"worse": keyed.candidate, "type": verdict.type.value, "severity": severity}
        lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines))
    return path


def test_agreeing_people_give_full_marks_and_enter_the_report(copied, settings, tmp_path, capsys):
    key = export(copied, tmp_path / "out")
    assert len(key) == 8 and {keyed.probability for keyed in key} == {1.0}
    answers = agreeing(copied, key, tmp_path / "ada.jsonl")
    assert main(["import-annotations", "--run", str(copied), str(answers)]) == 0
    printed = capsys.readouterr().out
    assert "drift, published" in printed and "0.720" in printed and "0.810" in printed
    printed = " ".join(printed.split())
    assert "Too small a sample: 8 of the pool's 8 pairs are annotated; precision (of" in printed
    assert "±0.1 takes about" in printed and "The pool has fewer" in printed
    metrics = json.loads((copied / "audit/annotation_metrics.json").read_text("utf-8"))
    for name in ("precision", "recall", "f1", "kappa"):
        assert metrics["drift"][name] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert metrics["severity"]["kappa"]["value"] == 1
    page = (copied / "report/report.md").read_text("utf-8")
    assert page.index("## Drift") < page.index("## The audit against") < page.index("## Training")
    assert "| drift | 1.000 [1.000, 1.000] |" in page and "**Too small a sample**" in page
    assert "| drift, published | 0.720 | 0.810 |  |  |" in page
    drift = json.loads((copied / "evaluation/summary.json").read_text("utf-8"))["drift"]
    for name, rate in drift["rates"].items():
        assert drift["corrected"][name]["value"] == pytest.approx(rate["value"]), "no error found"
    assert "| audited against M0 | pairs with a verdict |" in page
    assert train(settings(tmp_path)) == 0
    assert capsys.readouterr().out.count(": up to date") == len(STAGES), "the run stays finished"


def test_the_key_stays_with_the_run(copied, tmp_path):
    key = export(copied, tmp_path / "out", "--sample", "4")
    assert len(key) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.txt",
        "sample.csv",
        "sample.jsonl",
    ]
    with pytest.raises(FileExistsError, match=r"annotation_key\.jsonl belongs to a sample"):
        export(copied, tmp_path / "again")


def test_bad_rows_are_named(copied, tmp_path):
    export(copied, tmp_path / "out")
    path = tmp_path / "bob.jsonl"
    path.write_text('{"item": "nowhere", "worse": "neither"}\n')
    with pytest.raises(BadRecord, match=r"bob\.jsonl:1: item: 'nowhere' is not in this run's"):
        main(["import-annotations", "--run", str(copied), str(path)])


def test_answers_belong_to_the_texts_that_people_saw(copied, tmp_path):
    key = export(copied, tmp_path / "out")
    answers = agreeing(copied, key, tmp_path / "ada.jsonl")
    write_jsonl(
        copied / "annotation_key.jsonl",
        [KeyedItem(**{**vars(keyed), "texts": "other"}) for keyed in key],
    )
    with pytest.raises(ValueError, match="not those that people saw"):
        main(["import-annotations", "--run", str(copied), str(answers)])


def test_an_import_without_a_sample_names_the_items_that_are_unknown(copied, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"item": "9f2c41d7", "worse": "neither"}\n')
    with pytest.raises(BadRecord, match="not in this run's sample, nor on its page"):
        main(["import-annotations", "--run", str(copied), str(path)])
    with pytest.raises(FileNotFoundError, match=r"y\.jsonl"):
        main(["import-annotations", "--run", str(copied), str(tmp_path / "y.jsonl")])


def of_page(folder, kind):
    audited = read_pool(folder)
    return page_key(list(audited.pairs.values()), audited.outcomes, kind)


@pytest.mark.parametrize(("kind", "source"), [(BLIND, "page_blind"), (OPEN, "page_open")])
def test_the_pages_items_are_known_without_a_key(copied, tmp_path, kind, source):
    key = of_page(copied, kind)
    answers = agreeing(copied, key[:6], tmp_path / "ada.jsonl")
    assert main(["import-annotations", "--run", str(copied), str(answers)]) == 0
    metrics = json.loads((copied / "audit/annotation_metrics.json").read_text("utf-8"))
    assert metrics["source"] == source and metrics["drift"]["kappa"]["value"] == 1
    strata = metrics["strata"].values()
    assert sum(row["pairs"] for row in strata) == 8
    assert sum(row["annotated"] for row in strata) == 6
    assert not (copied / "annotation_key.jsonl").exists()


def test_answers_of_two_kinds_are_refused(copied, tmp_path):
    paths = [
        agreeing(copied, of_page(copied, kind), tmp_path / f"{kind}.jsonl")
        for kind in (BLIND, OPEN)
    ]
    with pytest.raises(ValueError, match="page_blind, page_open"):
        main(["import-annotations", "--run", str(copied), *map(str, paths)])


def test_from_the_page_to_the_numbers(copied, tmp_path, open_page):
    page = open_page(copied / "report/index.html", "#annotate")
    verdicts = {
        row.question_id: row for row in read_jsonl(copied / "audit/verdicts.jsonl", Verdict)
    }
    page.fill("#annotator", "ada")
    page.focus("#blind")
    key = of_page(copied, BLIND)
    for keyed in key:  # ada sees what the audit sees; Enter goes on in the order of the key
        verdict = verdicts[keyed.question_id]
        keys = "n"
        if verdict.drift:
            kind = {"elaborates": "e", "normalizes": "z", "omits": "o"}[verdict.type.value]
            keys = f"{keyed.candidate[0]}{kind}{int(verdict.severity)}"
        for pressed in (*keys, "Enter"):
            page.keyboard.press(pressed)
    with page.expect_download() as waiting:
        page.click("#download-blind")
    answers = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(answers)
    assert main(["import-annotations", "--run", str(copied), str(answers)]) == 0
    metrics = json.loads((copied / "audit/annotation_metrics.json").read_text("utf-8"))
    assert metrics["annotators"] == {"ada": len(key)} and metrics["source"] == "page_blind"
    assert metrics["drift"]["f1"]["value"] == metrics["severity"]["kappa"]["value"] == 1
    page.reload()
    page.click("nav a[data-view=report]")
    assert "blinded on the report's page" in page.inner_text("#people")
    assert page.problems == []


def test_people_are_shown_what_the_models_wrote(copied, tmp_path):
    key = export(copied, tmp_path / "out")
    texts = {
        name: {row.question_id: row.text for row in read_jsonl(copied / path, Generation)}
        for name, path in (
            ("M0", "audit/generations/M0.jsonl"),
            ("M_int", "audit/generations/M_int.jsonl"),
        )
    }
    rows = {
        row["item"]: row
        for row in map(json.loads, (tmp_path / "out/sample.jsonl").read_text("utf-8").splitlines())
    }
    for keyed in key:
        assert rows[keyed.item][keyed.candidate] in texts["M_int"][keyed.question_id]
        other = "second" if keyed.candidate == "first" else "first"
        assert rows[keyed.item][other] in texts["M0"][keyed.question_id]
