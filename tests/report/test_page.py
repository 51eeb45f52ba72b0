"""The page as a file: what is in it, and that nothing a model wrote acts in it."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from dart_jax.audit.agreement import ANNOTATION_METRICS
from dart_jax.evaluate.summary import SUMMARY, write_summary
from dart_jax.records import Outcome, read_jsonl, write_jsonl, write_text
from dart_jax.report.page import SCRIPTS, script_json
from dart_jax.report.run_report import (
    CALIBRATION,
    rewrite_report,
    write_report,
)
from dart_jax.report.to_html import FILES
from dart_jax.summaries import to_pretty_json
from tests.evaluate.conftest import made_up_summary
from tests.report.page_run import write_run
from tests.report.test_external import hatecheck, open_ended
from tests.report.test_report import CONFIG, extras

HOSTILE = "</script><script>alert(1)</script><!--<script>\u2028\u202e<img src=x onerror=alert(1)>"


@pytest.fixture
def page(tmp_path):
    """A function: the page of a run, as text."""

    def write(pool=8, test=8, texts=None, of=None, **changes):
        write_run(tmp_path, pool, test, texts)
        write_report(tmp_path, of or made_up_summary(), extras(**changes))
        return (tmp_path / "report/index.html").read_text("utf-8")

    return write


class Elements(HTMLParser):
    """Names of the elements, their ids and what the scripts hold."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.attributes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key in ("href", "src")]


def data_of(text):
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(block.group(1))


def test_every_section_is_there(page):
    text = page()
    parsed = Elements(text)
    for id in ("results", "benchmarks", "drift", "noise", "people", "training", "cost"):
        assert id in parsed.ids
        assert f"#{id}" in parsed.links, "the contents lead to it"
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert "statistics" not in parsed.ids
    assert "<code>heldout</code>" in text and "<b>80.0 % less</b>" in text
    assert "teach/teacher" in text and "1,200" in text and "0.2500" in text
    assert "d" * 64 in text and "f" * 64 in text
    assert "SECRET" not in text


def test_it_needs_no_network_and_its_policy_allows_its_own_script_only(page):
    text = page()
    parsed = Elements(text)
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in parsed.links)
    assert not {"link", "iframe", "object", "base", "svg"} & set(parsed.tags)
    assert not [key for key, _ in parsed.attributes if key.startswith("on") or key == "style"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    policy = policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "img-src data:;" in policy, "pictures that stand in the page itself, and no others"
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert len(scripts) == len(styles) == 1
    for source in (*scripts, *styles):
        hashed = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{hashed}'" in policy


def test_our_scripts_make_no_markup_from_strings():
    assert sorted(SCRIPTS) == sorted(path.name for path in FILES.glob("*.js"))
    for path in FILES.glob("*.js"):
        source = path.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
        assert "</" not in source and "<!--" not in source
        assert len(source.splitlines()) <= 300


def test_hostile_texts_and_names_stay_data(page):
    evil = {**CONFIG, "run": {"name": HOSTILE, "root": "runs", "seed": 1}}
    text = page(texts={0: HOSTILE, 1: HOSTILE}, config=evil)
    assert Elements(text).tags.count("script") == 2
    assert "<img src=x" not in text and "\u202e" not in text and "\u2028" not in text
    case = data_of(text)["cases"][0]
    assert case["answers"][0]["analysis"] == HOSTILE.replace("\u2028", "\\u2028").replace(
        "\u202e", "\\u202e"
    )


@pytest.mark.parametrize("text", ["</script>", "<!--", "&lt;", "\u2028", "\ud800", "]]>"])
def test_json_for_a_script_block_is_plain_ascii_and_means_the_same(text):
    written = script_json([text])
    assert json.loads(written) == [text]
    assert written.isascii() and not set("<>&") & set(written)


def test_a_number_that_is_none_cannot_reach_the_page():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_all_that_a_model_wrote_is_shown(page):
    """Behind the conclusion line and in a reasoning block, too; there is nothing beside the two."""
    said = "<think>A draft.</think>\nThey differ.\nConclusion: YES\nThose people are vermin."
    for answer in data_of(page(texts={0: said}))["cases"][0]["answers"]:
        assert answer["analysis"] == (
            "<think>A draft.</think>\nThey differ.\nThose people are vermin."
        )
        assert answer["rest"] == "Conclusion: YES\nConclusion: YES"  # its own, and the fixture's


def test_cases_hold_texts_scores_verdicts_and_items(page):
    data = data_of(page())
    assert [case["set"] for case in data["cases"]] == ["test"] * 8 + ["pool"] * 8
    case = data["cases"][0]
    assert [row["model"] for row in case["answers"]] == ["M0", "M_int", "M_DART"]
    assert case["answers"][1]["rest"] == "Conclusion: YES"
    assert case["answers"][1]["scores"] == [["s", 0.1]]
    assert case["audits"]["M_int"]["outcome"] == "drift"
    assert case["audits"]["M_int"]["severity"] == 1
    assert [data["cases"][place]["audits"]["M_int"]["outcome"] for place in range(1, 8, 2)] == [
        "no_drift",
        "uncertain",
        "failure",
        "not_screened",
    ]
    assert "repair" in data["cases"][8] and "items" not in case
    assert sorted(data["queue"]) == list(range(8, 16))


def test_a_type_that_nobody_judged_does_not_reach_the_page(page, tmp_path):
    """The record of a verdict by the scorer alone names a type by convention."""
    page()
    path = tmp_path / "evaluation/verdicts_M_int.jsonl"
    outcomes = read_jsonl(path, Outcome)
    write_jsonl(path, [dataclasses.replace(outcome, judge="screen") for outcome in outcomes])
    write_report(tmp_path, made_up_summary(judge="none"), extras())
    [case, *_] = data_of((tmp_path / "report/index.html").read_text("utf-8"))["cases"]
    assert (case["audits"]["M_int"]["type"], case["audits"]["M_int"]["severity"]) == (None, 1)
    assert case["audits"]["M_int"]["outcome"] == "drift"


def test_the_queue_goes_round_the_strata(page):
    data = data_of(page(pool=80))
    strata = [data["cases"][place]["audits"]["M_int"]["outcome"] for place in data["queue"]]
    assert all(len(set(strata[start : start + 5])) == 5 for start in range(0, 50, 5))


def test_a_run_that_kept_no_questions_says_so(tmp_path):
    write_report(tmp_path, made_up_summary(), extras())
    text = (tmp_path / "report/index.html").read_text("utf-8")
    assert "did not keep its questions" in text and data_of(text) is None


def test_measured_later_it_enters_the_page(page, summary, calibration, agreement, tmp_path):
    before = page(of=summary)
    assert "Not measured" in before and "Nobody annotated" in before
    write_summary(tmp_path / SUMMARY, summary)
    rewrite_report(tmp_path)
    assert (tmp_path / "report/index.html").read_text("utf-8") == before
    write_text(tmp_path / CALIBRATION, to_pretty_json(calibration))
    write_text(tmp_path / ANNOTATION_METRICS, to_pretty_json(agreement))
    rewrite_report(tmp_path)
    after = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Not measured" not in after and "Nobody annotated:" not in after
    assert "a|b" in after and "M0 against itself" in after


def test_other_prompts_enter_the_page(page, tmp_path):
    """What a suite's file calls a group is no markup, and no escapes of markdown are left."""
    assert "External suite" not in page()
    found = {"open_ended": open_ended("local:m"), "external/hatecheck": hatecheck(group="<b>wo_m")}
    for name, summary in found.items():
        write_text(tmp_path / name / "summary.json", to_pretty_json(summary))
        raw = json.loads((tmp_path / name / "summary.json").read_text("utf-8"))
        write_text(tmp_path / name / "summary.json", json.dumps({**raw, "adapters": {}}))
    text = page()
    assert "<h2>Open-ended queries</h2>" in text and "exercise the pipeline" in text
    assert "<h2>External suite: hatecheck</h2>" in text
    assert "&lt;b&gt;wo_m" in text and "<b>wo_m" not in text and "slur_nh" in text


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Of two colours, as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_both_schemes_can_be_read():
    css = (FILES / "page.css").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*#[^}]*)\}", css)
    assert len(blocks) == 2
    for block in blocks:
        of = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for text in ("ink", "soft", "link", "good", "bad", "warn"):
            assert contrast(of[text], of["paper"]) >= 5.5, text
        for ground in ("judged", "hit", "s1", "s2", "s3", "s4", "faint"):
            assert contrast(of["ink"], of[ground]) >= 5.5, ground
        for mark in ("M0", "M_int", "M_DART", "focus"):
            assert contrast(of[mark], of["paper"]) >= 3, mark
