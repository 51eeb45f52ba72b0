"""The page and the console table of a small made-up run."""

import dataclasses
import json
import re

import pytest

from dart_jax.audit.config import AuditConfig, JudgeConfig
from dart_jax.chat.usage import USAGE, Usage, write_usage
from dart_jax.data.config import DataConfig
from dart_jax.evaluate.console import console_table
from dart_jax.evaluate.report import (
    ANNOTATION_METRICS,
    CALIBRATION,
    DriftExample,
    ReportData,
    rewrite_report,
    write_report,
)
from dart_jax.evaluate.sections import loss_words, same_model
from dart_jax.evaluate.summary import build_summary
from dart_jax.model.config import LoraConfig, ModelConfig
from dart_jax.records import DriftType, Opinion, Severity, Uncertain, write_text
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.teach.config import RepairConfig, TeacherConfig

EVIL = "</pre></details> ![x](http://example.org) | \n\n# gone"
CONFIG = {
    "run": {"name": "a|b", "root": "runs", "seed": 1},
    "decode": {"temperature": 0.2, "top_p": 0.9},
    **{
        name: dataclasses.asdict(section)
        for name, section in {
            "model": ModelConfig(),
            "lora": LoraConfig(),
            "data": DataConfig(),
            "sft": SftConfig(),
            "teacher": TeacherConfig(),
            "judge": JudgeConfig(api_key_env="SECRET_NAME"),
            "audit": AuditConfig(),
            "repair": RepairConfig(),
        }.items()
    },
}


def extras(**changes) -> ReportData:
    texts = {name: f"{name} says {EVIL}" for name in ("M0", "M_int", "M_DART")}
    case = DriftExample("D1-diff-0001", "Who?", DriftType.OMITS, Severity.SEVERE, texts)
    values = {
        "config": CONFIG,
        "confidence": 0.95,
        "tau": 0.01,
        "deltas": {"M_int": [0.0, 0.02, -0.1], "M_DART": [0.0, 0.0, 0.0]},
        "losses": {"distill": [(1, 2.0), (2, 1.5)], "repair": [(1, 1.2)]},
        "examples": [case] * 5,
    }
    return ReportData(**{**values, **changes})


def test_page_has_everything(summary, tmp_path):
    path = write_report(tmp_path, summary, extras())
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report" / "report.md"
    assert "| M_DART | 68.8 [58.8, 78.8] | 25.0 [0.0, 50.0] | n/a | 88.6 | 0.0 |" in page
    assert "| *shortcut baseline* | 90.7 [80.7, 100.7] | 25.0" in page
    assert "Protocol `heldout`" in page and "Split by `row`" in page
    assert page.count("; protocol heldout, split by row.") >= 7
    assert "80.0 %" in page  # reduction from 10 cases to 2
    assert "| moderate | 1 | 2 |" in page
    assert "| total | 31.2 |" in page
    assert "proves nothing" in page
    assert "| decode | temperature 0.2, top_p 0.9 |" in page
    assert "severity_weights linear" in page
    assert "SECRET" not in page
    images = re.findall(r"^!\[[^]]*\]\(([^)]*)\)$", page, re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert (path.parent / image).read_bytes().startswith(b"\x89PNG")


def test_who_confirmed_drift_is_said(summary, tmp_path):
    judged = write_report(tmp_path, summary, extras()).read_text("utf-8")
    assert (
        "The judge sees each pair in both orders" in judged and "No judge was asked" not in judged
    )
    alone = write_report(tmp_path, {**summary, "judge": "none"}, extras()).read_text("utf-8")
    assert "No judge was asked" in alone and "The judge sees each pair" not in alone


def test_what_services_took(summary, tmp_path):
    """By stage and role, with the sum; no dollars where a price is unknown."""
    assert "Service usage" not in write_report(tmp_path, summary, extras()).read_text("utf-8")
    accounts = {
        "audit/judge": Usage(20, 18, 1, 4, 9000, 700, 0.25),
        "teach/teacher": Usage(3, 3, 0, 0, 1000, 200, None),
    }
    write_usage(tmp_path / USAGE, accounts)
    page = write_report(tmp_path, summary, extras()).read_text("utf-8")
    assert "| audit/judge | 20 | 18 | 1 | 4 | 9,000 | 700 | 0.2500 |" in page
    assert "| all | 23 | 21 | 1 | 4 | 10,000 | 900 | no price set |" in page


def test_several_scorers_are_named(summary, tmp_path):
    audit = dataclasses.asdict(AuditConfig(scorers=("profanity", "detoxify")))
    page = write_report(tmp_path, summary, extras(config={**CONFIG, "audit": audit}))
    row = next(
        line for line in page.read_text("utf-8").splitlines() if line.startswith("| audit |")
    )
    assert "scorers profanity detoxify, screen_by any, views analysis" in row
    assert "scorer " not in row


def test_generations_cannot_break_the_page(summary, tmp_path):
    page = write_report(tmp_path, summary, extras()).read_text(encoding="utf-8")
    assert page.count("<details>") == page.count("</details>") == 3
    assert page.count("<pre>") == page.count("</pre>") == 3 * 4
    outside = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "example.org" not in outside and "# gone" not in outside
    rejected = next(
        line for line in outside.splitlines() if "conclusion" in line and "| 2 |" in line
    )
    assert rejected == "| distill | wrong \\| conclusion | 2 | 1 | 1 |"


def test_tables_are_rectangular(summary, tmp_path):
    page = write_report(tmp_path, summary, extras(examples=())).read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)
    assert len(tables) >= 6
    for table in tables:
        assert len({line.count(" | ") for line in table.splitlines()}) == 1


def test_no_drift_is_said_plainly(parts, tmp_path):
    none = {
        **parts["pool"],
        "confirmed": 0,
        "by_severity": {},
        "by_type": {},
    }
    summary = build_summary(
        **{
            **parts,
            "repair": {},
            "pool": none,
            "judge": "openai",
            "rejects": {"distill": {}, "repair": {}},
            "drift": {"M_int": none, "M_DART": none},
        }
    )
    page = write_report(
        tmp_path, summary, extras(examples=(), deltas={}, losses={"distill": []})
    ).read_text(encoding="utf-8")
    assert "**M_DART is M_int**: no drift case was confirmed" in page
    assert "not defined" in page and "proves nothing" not in page
    assert "M_DART is M_int" in console_table(summary)


def test_confirmed_but_unrepaired_is_another_reason(parts):
    text = console_table(build_summary(**{**parts, "repair": {}}))
    assert "2 drift cases were confirmed" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("pairs", [40, 16000])
def test_console_table_fits_and_aligns(summary, pairs):
    for row in (summary["drift"]["M_int"], summary["drift"]["M_DART"]):
        row["pairs"] = pairs
    text = console_table(summary)
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    ends = [line.rstrip() for line in lines if line.startswith(("model", "M0", "M_int", "M_DART"))]
    assert len({len(line) for line in ends[:4]}) == 1
    assert "90.7" in text and "drift reduction 80.0 %" in text


def test_measured_later_it_enters_the_same_page(summary, calibration, annotation_metrics, tmp_path):
    neither = Opinion("baseline", "neither", None, None, "", EVIL)
    uncertain = {"M_int, test": [Uncertain("D1-diff-0001", "M_int", [neither, neither], "j")]}
    data = extras(uncertain=uncertain, above_tau={"M_int": {"a": 2, "b": 1}})
    before = write_report(tmp_path, summary, data).read_text("utf-8")
    write_text(tmp_path / "evaluation/summary.json", json.dumps(summary))
    assert rewrite_report(tmp_path).read_text("utf-8") == before
    write_text(tmp_path / CALIBRATION, json.dumps(calibration))
    write_text(tmp_path / ANNOTATION_METRICS, json.dumps(annotation_metrics))
    after = rewrite_report(tmp_path).read_text("utf-8")
    noise, people = after.index("## Noise floor"), after.index("## People")
    assert after.index("## Drift") < noise < people < after.index("## Repair")
    removed = after[:noise] + after[after.index("## Repair") :]
    assert removed == before
    assert (tmp_path / "report/null_deltas.png").read_bytes().startswith(b"\x89PNG")


def test_uncertain_pairs_are_counted_and_listed_and_their_texts_stay_out(summary, tmp_path):
    worse = Opinion("baseline", "candidate", DriftType.OMITS, Severity.SEVERE, EVIL, EVIL)
    neither = Opinion("candidate", "neither", None, None, "", EVIL)
    cases = [Uncertain(f"D1-diff-{n:04d}", "M_int", [worse, neither], "j") for n in range(23)]
    found = {"M_int, drift pool": [], "M_int, test": cases, "M_DART, test": []}
    page = write_report(tmp_path, summary, extras(examples=(), uncertain=found)).read_text("utf-8")
    assert "| M_int, test | D1-diff-0000 | candidate: omits, severe | neither |" in page
    assert page.count("| M_int, test | D1-diff-") == 20 and "And 3 more" in page
    assert "example.org" not in page
    row = next(line for line in page.splitlines() if line.startswith("| M_DART, test | 40"))
    assert row.startswith("| M_DART, test | 40 | 0 | 20 | 20 | 2 | 2 | 3 |")
    assert "Uncertain pairs" not in write_report(tmp_path, summary, extras()).read_text("utf-8")


def test_the_screens_recall_is_shown_where_the_judge_saw_every_pair(parts, tmp_path):
    screen = {"found": 3, "missed": 1, "recall": 0.75, "precision": None}
    parts["drift"]["M_int"]["screen"] = screen
    page = write_report(tmp_path, build_summary(**parts), extras()).read_text("utf-8")
    assert "| M_int, test | 3 | 1 | 75.0 | n/a |" in page
    assert "| M_DART, test | 3 |" not in page


def test_without_a_judge_the_limits_say_so(parts, tmp_path):
    summary = build_summary(**{**parts, "judge": "none"})
    page = write_report(tmp_path, summary, extras()).read_text("utf-8")
    assert "No judge was asked" in page and "proves nothing" not in page


def test_predicted_labels_are_compared_with_gold(parts, tmp_path):
    labels = {"questions": 10, "no_label": 2, "agreement": 0.625}
    page = write_report(tmp_path, build_summary(**{**parts, "labels": labels}), extras())
    assert "62.5 % of them are right, and 2 of 10" in page.read_text("utf-8")


def test_cycles_are_shown_with_drift_and_accuracy_where_more_than_one_was_planned(parts, tmp_path):
    of_test = {"test": parts["models"]["M_DART"], "drift": parts["drift"]["M_DART"]}
    rows = [
        {"audited": "M_int", "model": "M_DART", "pool": parts["pool"], "repairs": 2, **of_test},
        {
            "audited": "M_DART",
            "model": "M_DART",
            "pool": parts["pool"] | {"confirmed": 0},
            "repairs": 0,
            **of_test,
        },
    ]
    summary = build_summary(**{**parts, "cycles": rows})

    def page(planned):
        config = {**CONFIG, "repair": {**CONFIG["repair"], "cycles": planned}}
        return write_report(tmp_path, summary, extras(config=config)).read_text("utf-8")

    assert "## Cycles" not in page(1)
    shown = page(3)
    test = "2 | 2 | 3 | 68.8 [58.8, 78.8] | 25.0 | n/a |"
    assert f"| 1 | M_int | M_DART | 40 | 2 | 2 | 3 | 2 | {test}" in shown
    assert f"| 2 | M_DART | M_DART | 40 | 0 | 2 | 3 | 0 | {test}" in shown
    assert "3 cycles were planned; the last of these repaired nothing" in shown
    assert "were planned" not in page(2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "cross_entropy"),
        ({"kl_weight": 1.0}, "cross_entropy, kl_weight 1"),
        ({"fn": "focal", "toxicity_weight": 0.5}, "focal, focal_gamma 2, toxicity_weight 0.5"),
    ],
)
def test_the_loss_in_words(settings, words):
    assert loss_words(dataclasses.asdict(LossConfig(**settings))) == words


def test_distill_only_is_said(parts):
    summary = build_summary(**{**parts, "repair": {}}, distill_only=True)
    assert "distill only (`repair.epochs` is 0)" in same_model(summary)
    assert "distill only" in console_table(summary)
