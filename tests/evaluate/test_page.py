"""The page as a file: what is in it, and that nothing a model wrote acts in it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from dart_jax.evaluate.page import FILES, SCRIPTS, script_json, write_page
from dart_jax.evaluate.page_charts import accuracy, deltas
from dart_jax.evaluate.report import (
    ANNOTATION_METRICS,
    CALIBRATION,
    rewrite_report,
    write_report,
)
from dart_jax.evaluate.summary import build_summary
from dart_jax.records import write_text
from tests.evaluate.page_run import write_run
from tests.evaluate.test_report import CONFIG, extras
from tests.evaluate.test_wider_sections import hatecheck, open_ended

HOSTILE = "</script><script>alert(1)</script><!--<script>\u2028\u202e<img src=x onerror=alert(1)>"


def accuracy_of(by, group):
    """A row of `statistics`: two models and their comparison."""
    models = {
        "M0": {"accuracy": 0.0, "interval": None},
        "M_DART": {"accuracy": 0.5, "interval": [0.25, 0.75]},
    }
    tests = {"gained": 4, "lost": 0, "p": 0.0001, "p_holm": 0.125, "p_scenario": 0.25}
    compared = {"candidate": "M_DART", "baseline": "M0", "difference": 0.5, "interval": None}
    counts = {"by": by, "group": group, "n": 8, "scenarios": 5}
    return {**counts, "models": models, "comparisons": [{**compared, **tests}]}


STATISTICS = {
    "questions": 8,
    "scenarios": 5,
    "confidence": 0.95,
    "resamples": 50,
    "accuracy": [accuracy_of("all", "all"), accuracy_of("benchmark", "<b>D1")],
    "scores": {"paired": [], "unpaired": []},
}


@pytest.fixture
def page(summary, tmp_path):
    """A function: the page of a run, as text."""

    def write(pool=8, test=8, texts=None, of=summary, **changes):
        write_run(tmp_path, pool, test, texts)
        return write_page(tmp_path, of, extras(**changes), None, None).read_text("utf-8")

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
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert "statistics" not in parsed.ids
    assert "Protocol <b>heldout</b>" in text and "90.7 %" in text
    assert "<b>80.0 %</b> less" in text
    assert "teach/teacher" in text and "1,200" in text and "0.2500" in text
    assert "d" * 64 in text and "f" * 64 in text
    assert "SECRET" not in text
    assert text.count("<svg viewBox") >= 6


def test_it_needs_no_network_and_its_policy_allows_its_own_script_only(page):
    text = page()
    parsed = Elements(text)
    assert all(link.startswith("#") for link in parsed.links)
    assert not {"link", "img", "iframe", "object", "base"} & set(parsed.tags)
    assert not [key for key, _ in parsed.attributes if key.startswith("on") or key == "style"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    policy = policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy and "unsafe" not in policy
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
    assert "<img" not in text and "\u202e" not in text and "\u2028" not in text
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


def test_the_queue_goes_round_the_strata(page):
    data = data_of(page(pool=80))
    strata = [data["cases"][place]["audits"]["M_int"]["outcome"] for place in data["queue"]]
    assert all(len(set(strata[start : start + 5])) == 5 for start in range(0, 50, 5))


def test_a_run_that_kept_no_questions_says_so(summary, tmp_path):
    text = write_page(tmp_path, summary, extras(), None, None).read_text("utf-8")
    assert "did not keep its questions" in text and data_of(text) is None


def test_measured_later_it_enters_the_page(
    page, summary, calibration, annotation_metrics, tmp_path
):
    page()
    write_report(tmp_path, summary, extras())
    before = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Not measured" in before and "Nobody annotated" in before
    write_text(tmp_path / "evaluation/summary.json", json.dumps(summary))
    rewrite_report(tmp_path)
    assert (tmp_path / "report/index.html").read_text("utf-8") == before
    write_text(tmp_path / CALIBRATION, json.dumps(calibration))
    found = {"source": "page_open", **annotation_metrics}
    write_text(tmp_path / ANNOTATION_METRICS, json.dumps(found))
    rewrite_report(tmp_path)
    after = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Not measured" not in after and "Nobody annotated" not in after
    assert "a|b" in after and "no estimate of the audit" in after
    assert "M0 against itself, scaled" in after
    page_md = (tmp_path / "report/report.md").read_text("utf-8")
    assert "with the verdicts in view" in page_md


def test_statistics_enter_the_page_in_per_cent_with_what_they_test(page, summary):
    """The overall rows at once, the groups folded; a name of a benchmark is no markup."""
    text = page(of={**summary, "statistics": STATISTICS})
    assert 'id="statistics"' not in page(of={**summary, "statistics": None, "policy": None})
    section = text[text.index('id="statistics"') : text.index('id="drift"')]
    assert "8 test questions from 5 scenarios" in section
    assert section.count("<h3>") == 4 and "McNemar" in section
    assert "50.0 [25.0, 75.0]" in section and "&lt; 0.001" in section
    differences = section[section.index("<h3>Differences") : section.index("<h3>Harm scores, pai")]
    at_once, folded = differences.split("<details>")
    assert "&lt;b&gt;D1" not in at_once and "&lt;b&gt;D1" in folded
    assert "<b>D1" not in text


def test_other_prompts_enter_the_page(page, tmp_path):
    """What a suite's file calls a group is no markup, and no escapes of markdown are left."""
    assert "wider-" not in page()
    external, queries = hatecheck(), open_ended("local:m")
    groups = external["rates"]["M0"]["by_group"]
    groups["<b>wo_men"] = groups.pop("women")
    for name, found in (("open_ended", queries), ("external/hatecheck", external)):
        write_text(tmp_path / name / "summary.json", json.dumps({"adapters": {}, **found}))
    text = page()
    assert "<h2>Open-ended queries</h2>" in text and "exercise the pipeline" in text
    assert 'id="wider-2"' in text and "<h2>External suite: hatecheck</h2>" in text
    assert "&lt;b&gt;wo_men" in text and "<b>wo_men" not in text and "slur_nh" in text


def test_charts_place_what_they_say(summary, calibration):
    chart = accuracy(summary)
    hints = [mark.hint for mark in chart.marks if mark.hint]
    assert "M_DART, overall: 68.8 % [58.8, 78.8]" in hints and "M0, N2: 39.0 %" in hints
    places = {mark.hint: mark.attributes["cx"] for mark in chart.marks if mark.tag == "circle"}
    left, right = places["M0, overall: 39.0 % [29.0, 49.0]"], places["M0, N2: 39.0 %"]
    assert left == right
    found = deltas({"M_int": [0.0, 0.02, -0.1], "M_DART": [0.0] * 3}, 0.01, calibration)
    # Ten of 80 null deltas exceed tau: 0.125 of three pairs.
    assert "M_int: 1 of 3 pairs above tau; by noise at most 0.4" in found[0].title
    bars = [mark.hint for mark in found[0].marks if "pairs" in mark.hint]
    assert sum(int(re.search(r": (\d+) pairs", hint).group(1)) for hint in bars) == 3
    assert deltas({}, 0.01, None) == []


def test_the_baseline_is_shown_by_benchmark_where_it_is_known(page, summary):
    known = {**summary["models"]["M0"], "accuracy": 0.907}
    of = {**summary, "shortcut_baseline": known}
    hints = [mark.hint for mark in accuracy(of).marks if mark.hint]
    assert "shortcut, N2: 39.0 %" in hints
    text = page(of=of)
    assert "shortcut EQUAL / DIFF" in text and "90.7 [29.0, 49.0]" in text
    assert "heldout, split by row" in text


def test_nothing_to_show_is_no_error(parts, tmp_path):
    none = {**parts["pool"], "confirmed": 0, "by_severity": {}, "by_type": {}}
    drift = {"M_int": none, "M_DART": none}
    rates = {"distill": {}, "repair": {}}
    empty = {**parts, "repair": {}, "pool": none, "drift": drift, "rejects": rates}
    summary = build_summary(**empty)
    data = extras(examples=(), deltas={}, losses={})
    text = write_page(tmp_path, summary, data, None, None).read_text("utf-8")
    assert "M_DART is M_int" in text and "reduction is not defined" in text


def test_cycles_are_shown_where_more_than_one_was_planned(parts, page):
    of_test = {"test": parts["models"]["M_DART"], "drift": parts["drift"]["M_DART"]}
    row = {"audited": "M_int", "model": "M_DART", "pool": parts["pool"], "repairs": 2, **of_test}
    summary = build_summary(**{**parts, "cycles": [row]})
    assert "<caption>Cycles" not in page(of=summary)
    config = {**CONFIG, "repair": {**CONFIG["repair"], "cycles": 2}}
    assert "<caption>Cycles" in page(of=summary, config=config)


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
        for mark in ("M0", "M_int", "M_DART", "noise", "focus"):
            assert contrast(of[mark], of["paper"]) >= 3, mark
