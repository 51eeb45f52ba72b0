"""The report of a small made-up run: what it says, and when."""

import dataclasses
import re
from dataclasses import replace

import pytest

from dart_jax.audit.agreement import ANNOTATION_METRICS
from dart_jax.audit.config import AuditConfig, JudgeConfig
from dart_jax.audit.drift import ScreenQuality
from dart_jax.chat.usage import USAGE, Usage, write_usage
from dart_jax.data.config import DataConfig
from dart_jax.evaluate.summary import SUMMARY, CycleResult, drift_of, write_summary
from dart_jax.model.config import LoraConfig, ModelConfig
from dart_jax.records import DriftType, Opinion, Severity, Uncertain, write_text
from dart_jax.report.report_data import DriftExample, ReportData
from dart_jax.report.run_report import (
    CALIBRATION,
    console_text,
    rewrite_report,
    write_report,
)
from dart_jax.report.settings import loss_words
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.summaries import to_pretty_json
from dart_jax.teach.config import RepairConfig, TeacherConfig
from dart_jax.teach.labels import LabelSummary
from tests.evaluate.conftest import DRIFT_BY, drift, made_up_summary, metrics
from tests.evaluate.test_planted import made_up_planted

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
        "deltas": {"M_int": [0.0, 0.02, -0.1], "M_DART": [0.0, 0.0, 0.0]},
        "losses": {"distill": [(1, 2.0), (2, 1.5)], "repair": [(1, 1.2)]},
        "examples": [case] * 5,
    }
    return ReportData(**{**values, **changes})


@pytest.fixture
def page(tmp_path):
    """A function: report.md of a made-up run."""

    def write(summary=None, **changes):
        path = write_report(tmp_path, summary or made_up_summary(), extras(**changes))
        return path.read_text(encoding="utf-8")

    return write


def test_it_has_everything(page, tmp_path):
    text = page()
    assert "| M_DART | 68.8 [58.8, 78.8] | 25.0 [0.0, 50.0] | n/a | 88.6 | 0.0 | 2 of 40 |" in text
    assert "| M0 | 39.0 [29.0, 49.0] | 42.0 [32.0, 48.0] | 0.734 [0.611, 0.825] | 0.219 |" in text
    assert "| shortcut baseline | 90.7 [80.7, 100.7] | 25.0" in text
    assert "Protocol <code>heldout</code>" in text and "Split by <code>row</code>" in text
    assert text.count("; protocol heldout, split by row.") >= 7
    assert "**80.0 % less** in M_DART than in M_int (10 pairs before the repair, 2 after" in text
    assert "| moderate | 1 | 2 |" in text
    assert "| total | 31.2 | 100.0 |" in text
    assert "proves nothing" in text
    assert "| decode | temperature 0.2, top_p 0.9 |" in text
    assert "severity_weights linear" in text
    assert "SECRET" not in text
    images = re.findall(r"^!\[[^]]*\]\(([^)]*)\)$", text, re.MULTILINE)
    assert len(images) == 5
    for image in images:
        assert (tmp_path / "report" / image).read_bytes().startswith(b"\x89PNG")


def without_settings(text):
    """A report without the names of its settings, some of which are types of drift."""
    return re.sub(r"repair\.require_safer\.\w+", "", text)


def test_who_confirmed_drift_is_said(page):
    judged = page()
    assert "The judge sees each pair in both orders" in judged
    assert "No judge was asked" not in judged and "elaborates" in judged
    alone = page(made_up_summary(judge="none"), examples=())
    assert "No judge was asked" in alone and "The judge sees each pair" not in alone
    assert "elaborates" not in without_settings(alone), "a scorer knows no types"
    guard = page(made_up_summary(judge="guard"), examples=())
    assert "The judge is a guard model" in guard and "No judge was asked" not in guard
    assert "elaborates" not in without_settings(guard) and "failed" in guard
    told, not_told = page(), without_settings(page(made_up_summary(judge="none")))
    assert "D1-diff-0001: omits, severe" in told
    assert "D1-diff-0001: type not judged, severe" in not_told and "omits" not in not_told


def test_tau_and_how_it_was_set_is_said(page):
    fixed = page(made_up_summary(judge="none"), examples=())
    assert "; tau 0.01, protocol heldout, split by row." in fixed
    assert "Tau is 0.01, as set." in fixed and "No case can be" not in fixed
    noise = {"tau": 0.123456, "tau_set": "auto", "tau_pairs": 64}
    auto = page(made_up_summary(judge="none", **noise), examples=())
    assert "; tau 0.1235 (auto), protocol heldout, split by row." in auto
    assert "Tau is 0.1235, set by noise" in auto and "at most 5 % of 64 pairs" in auto
    assert "No case can be minor: these bins end at or below tau." in auto


def test_what_services_took(page, tmp_path):
    """By stage and role, with the sum; no dollars where a price is unknown."""
    assert "nothing was paid" in page()
    accounts = {
        "audit/judge": Usage(20, 18, 1, 4, 9000, 700, 0.25),
        "teach/teacher": Usage(3, 3, 0, 0, 1000, 200, None),
    }
    write_usage(tmp_path / USAGE, accounts)
    text = page()
    assert "| audit/judge | 20 | 18 | 1 | 4 | 9,000 | 700 | 0.2500 |" in text
    assert "| total | 23 | 21 | 1 | 4 | 10,000 | 900 | n/a |" in text
    assert "nothing was paid" not in text


def test_several_scorers_are_named(page):
    audit = dataclasses.asdict(AuditConfig(scorers=("profanity", "detoxify")))
    text = page(config={**CONFIG, "audit": audit}, above_tau={"M_int": {"a|b": 3, "b": 0}})
    row = next(line for line in text.splitlines() if line.startswith("| audit |"))
    assert "scorers profanity detoxify, screen_by any, views analysis" in row
    assert "scorer " not in row
    assert "| a\\|b | 3 |" in text and "| b | 0 |" in text


def test_generations_cannot_break_it(page):
    text = page()
    assert text.count("<pre>") == text.count("</pre>") == 3 * 4
    assert text.count("<details>") == text.count("</details>")
    outside = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert "example.org" not in outside and "# gone" not in outside
    assert "| distill | wrong \\| conclusion | 2 | 1 | 1 |" in outside


def test_tables_are_rectangular(page):
    tables = re.findall(r"(?:^\|.*\|\n)+", page(examples=()), re.MULTILINE)
    assert len(tables) >= 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def nothing_repaired(**changes):
    none = drift(0, 0, 0, 0)
    changes = {
        "repair": {},
        "m_dart_is_m_int": True,
        "drift_pool": none,
        "judge": "openai",
        "rejects": {"distill": {}, "repair": {}},
        "drift": drift_of({"M_int": none, "M_DART": none}),
        **changes,
    }
    return made_up_summary(**changes)


def test_no_drift_is_said_plainly(page):
    summary = nothing_repaired()
    text = page(summary, examples=(), deltas={}, losses={"distill": []})
    assert "**M_DART is M_int**: no drift case was confirmed" in text
    assert "not defined" in text and "proves nothing" not in text
    assert "M_DART is M_int" in console_text(summary, extras())


def test_rejected_repairs_are_counted_by_type_where_somebody_told_types(page):
    counts = {"repair": {"judged_worse": {"D1": 3}}}
    by_type = {"repair": {"judged_worse": {"elaborates": 2, "omits": 1}}}
    told = page(made_up_summary(rejects=counts, rejects_by_type=by_type))
    assert "| repair | judged_worse | 3 | 3 |" in told
    assert "| repair | judged_worse | 3 | 2 | 0 | 1 |" in told
    alone = page(made_up_summary(rejects=counts, rejects_by_type=by_type, judge="none"))
    assert alone.count("| repair | judged_worse | 3 |") == 1


def test_confirmed_but_unrepaired_is_another_reason():
    text = console_text(nothing_repaired(drift_pool=drift(1, 1, 0, 0)), extras())
    assert "2 drift cases were confirmed" in text


def test_distill_only_is_said(page):
    summary = nothing_repaired(distill_only=True)
    assert "distill only (<code>repair.epochs</code> is 0)" in page(summary)
    assert "distill only (repair.epochs is 0)" in console_text(summary, extras())


@pytest.mark.parametrize("pairs", [40, 16000])
def test_the_console_is_aligned(pairs):
    audits = {name: replace(drift(4, 0, 0, 0), pairs=pairs) for name in ("M_int", "M_DART")}
    text = console_text(made_up_summary(drift=drift_of(audits)), extras())
    lines = [line for line in text.splitlines() if line.startswith(("model", "M_int ", "M_DART "))]
    assert len({len(line) for line in lines[:3]}) == 1
    assert "90.7" in text and "0.0 % less in M_DART than in M_int" in text


def test_measured_later_it_enters_the_same_report(summary, calibration, agreement, tmp_path):
    neither = Opinion("baseline", "neither", None, None, "", EVIL)
    uncertain = {"M_int, test": [Uncertain("D1-diff-0001", "M_int", [neither, neither], "j")]}
    before = write_report(tmp_path, summary, extras(uncertain=uncertain)).read_text("utf-8")
    write_summary(tmp_path / SUMMARY, summary)
    assert rewrite_report(tmp_path).read_text("utf-8") == before
    write_text(tmp_path / CALIBRATION, to_pretty_json(calibration))
    write_text(tmp_path / ANNOTATION_METRICS, to_pretty_json(agreement))
    after = rewrite_report(tmp_path).read_text("utf-8")
    noise, people = after.index("## Noise floor"), after.index("## The audit against people")
    assert after.index("## Drift before") < noise < people < after.index("## Training")
    assert "Not measured" in before and "Not measured" not in after
    assert "Nobody annotated:" in before and "Nobody annotated:" not in after
    assert (tmp_path / "report/null_deltas.png").read_bytes().startswith(b"\x89PNG")


def test_uncertain_pairs_are_counted_and_listed_and_their_texts_stay_out(page):
    worse = Opinion("baseline", "candidate", DriftType.OMITS, Severity.SEVERE, EVIL, EVIL)
    neither = Opinion("candidate", "neither", None, None, "", EVIL)
    cases = [Uncertain(f"D1-diff-{n:04d}", "M_int", [worse, neither], "j") for n in range(23)]
    found = {"M_int, drift pool": [], "M_int, test": cases, "M_DART, test": []}
    text = page(examples=(), uncertain=found)
    assert "| M_int, test | D1-diff-0000 | candidate: omits, severe | neither |" in text
    assert text.count("| M_int, test | D1-diff-") == 20 and "And 3 more" in text
    assert "example.org" not in text
    assert "| M_DART, test | 40 | 0 | 20 | 20 | 2 | 2 | 3 | 2 | 0 | 0 | 0 |" in text
    assert "Uncertain pairs" not in page()


def test_the_screens_recall_is_shown_where_the_judge_saw_every_pair(page):
    seen = replace(drift(4, 3, 2, 1), screen=ScreenQuality(3, 1, 0.75, None))
    audits = {"M_int": seen, "M_DART": drift(2, 0, 0, 0)}
    text = page(made_up_summary(drift=drift_of(audits)))
    assert "| M_int, test | 3 | 1 | 75.0 | n/a |" in text
    assert "| M_DART, test | 3 |" not in text


def test_predicted_labels_are_compared_with_gold(page):
    text = page(made_up_summary(labels=LabelSummary(10, 2, 0.625)))
    assert "62.5% of them are right, and 2 of 10" in text


def test_a_model_that_never_concludes_differs_by_form(page):
    silent = replace(metrics(0.0), unparseable_rate=1.0)
    models = {**made_up_summary().models, "M0": silent}
    assert "is about form" in page(made_up_summary(models=models))
    assert "is about form" not in page()


def test_without_forced_decisions_nothing_is_said_of_them(page):
    """The shortcut baseline alone, which always has a probability, makes no table."""
    none = {"forced_accuracy": None, "auroc": None, "reliability": None}
    models = {name: replace(m, **none) for name, m in made_up_summary().models.items()}
    bare = made_up_summary(models=models)
    assert "forced" not in page(bare).lower() and "forced" not in console_text(bare, extras())
    assert "## Forced decisions" in page() and "AUROC" in console_text(made_up_summary(), extras())
    models["M_int"] = replace(made_up_summary().models["M_int"], no_margin=3)
    assert "3 of a model's answers left no room for the line" in page(
        made_up_summary(models=models)
    )


def test_cycles_are_shown_where_more_than_one_was_planned(page):
    of_test = {"test": metrics(0.688), "drift": drift(2, 0, 0, 0)}
    planted = made_up_planted().models["M_DART"]
    rows = [
        CycleResult("M_int", drift(1, 1, 0, 0), 2, "M_DART", **of_test, planted=planted),
        CycleResult("M_DART", drift(0, 0, 0, 0), 0, "M_DART", **of_test),
    ]
    summary = made_up_summary(cycles=rows)

    def shown(planned):
        return page(summary, config={**CONFIG, "repair": {**CONFIG["repair"], "cycles": planned}})

    assert "## Cycles" not in shown(1)
    text = shown(3)
    test = "68.8 [58.8, 78.8] | 25.0 | n/a | 71.8 [61.8, 77.8] | 0.734 [0.611, 0.825] |"
    faults = planted.drifted
    assert f"| 1 | M_int | M_DART | 40 | 2 | 2 | 3 | 2 | 2 | 2 | 3 | {faults} | {test}" in text
    assert f"| 2 | M_DART | M_DART | 40 | 0 | 2 | 3 | 0 | 2 | 2 | 3 |  | {test}" in text
    assert "3 cycles were planned; the last of these repaired nothing" in text
    assert "were planned" not in shown(2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "cross_entropy"),
        ({"kl_weight": 1.0}, "cross_entropy, kl_weight 1"),
        ({"preference": "dpo"}, "cross_entropy, preference dpo, preference_beta 0.1"),
        ({"fn": "focal", "toxicity_weight": 0.5}, "focal, focal_gamma 2, toxicity_weight 0.5"),
    ],
)
def test_the_loss_in_words(settings, words):
    assert loss_words(dataclasses.asdict(LossConfig(**settings))) == words


def test_prompts_without_room_are_counted_in_words(page):
    assert "left no room" not in page()
    models = {name: replace(m, no_room=3) for name, m in made_up_summary().models.items()}
    audits = {"M_int": replace(drift(4, 3, 2, 1), no_room=3)}
    audits["M_DART"] = replace(drift(2, 0, 0, 0), no_room=3)
    text = page(made_up_summary(models=models, drift=drift_of(audits)))
    assert "3 of the prompts left no room" in text and "they are no pairs" in text
    assert "| M_DART, test | 40 | 3 | 20 |" in text


def test_evaluators_stand_beside_the_audit_with_their_agreement(page):
    text = page()
    assert "| M_int | 40 | 1 | 2 | 0 | 7.5 [0.0, 20.0] |" in text
    row = next(line for line in text.splitlines() if line.startswith("| openai a\\|b | M_int |"))
    rate = "28.6 [15.0, 45.0]"
    assert row.endswith(f"| 35 | 2 | 3 | {rate} | 35 | {rate} | 0.780 [0.500, 0.940] |")
    assert "is also judge.model of this run: it is not independent" in text
    assert "that was not screened is the audit's" in text

    alone = page(made_up_summary(drift_by=DRIFT_BY[:1]))
    assert "kappa with the audit" not in alone and "not independent" not in alone
    assert "evaluate.judge and evaluate.scorers put evaluators beside it" in alone
    earlier = page(made_up_summary(incoherent=None, drift_by=[]))
    assert "Incoherent answers, and other evaluators" not in earlier
