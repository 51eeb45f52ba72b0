"""The page in headless Chromium: filters, search, keyboard, annotation, hostile texts, size."""

import io
import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from dart_jax.audit.annotations import read_annotations
from dart_jax.records import Outcome, read_jsonl, write_jsonl
from dart_jax.report.run_report import write_report
from tests.evaluate.conftest import made_up_summary
from tests.report.page_run import write_run
from tests.report.test_report import CONFIG, extras

HOSTILE = {
    0: "</script><script>window.hit = 1</script>",
    1: '<img src=x onerror="window.hit = 1"><svg onload="window.hit = 1">',
    2: "javascript:window.hit=1 [x](javascript:window.hit=1) <a href=javascript:window.hit=1>x</a>",
    3: "<!-- <script> ]]> \u2028\u2029 \u202eredro\u202c \u0000\u0007 ${window.hit=1} {{7*7}}",
    4: "lone \\ud800 z\u0335\u0321a\u0334lgo \U0001f469\u200d\U0001f4bb \u0627\u0644\u0639",
    5: "W" * 5000,
    6: "passage\u00a06 </div></article><h1 id=report>gone</h1> passage 6 (.*)+ [",
}
CASES = 10_000


def write(folder, pool, test, texts=None, config=CONFIG):
    write_run(folder, pool, test, texts)
    write_report(folder, made_up_summary(), extras(config=config))
    return folder / "report/index.html"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of 40 pool and 60 test cases."""
    return write(tmp_path_factory.mktemp("run"), 40, 60)


def count(page):
    return page.inner_text("#count")


def counted(page, words):
    """Waits: a search begins a moment after the last key."""
    page.locator("#count", has_text=re.compile(f"^{words}")).wait_for()


def pressing(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def test_views_filters_and_links(path, open_page):
    page = open_page(path)
    assert page.is_visible("#report") and not page.is_visible("#browse")
    page.click("nav >> text=Drift browser")
    assert page.is_visible("#browse") and not page.is_visible("#report")
    assert count(page) == "100 of 100 cases"
    page.select_option("[name=set]", "pool")
    assert count(page) == "40 of 100 cases"
    page.select_option("[name=outcome]", "drift")
    assert count(page) == "20 of 100 cases"
    page.select_option("[name=severity]", "4")
    page.select_option("[name=benchmark]", "N1")
    page.select_option("[name=label]", "DIFF")
    page.select_option("[name=type]", "elaborates")
    shown = page.eval_on_selector_all("#rows .row b", "rows => rows.map(row => row.innerText)")
    expected = [n for n in range(40) if n % 8 == 6 and n % 3 == 0]
    assert shown == [f"N1-pool-{number:05d}" for number in expected]
    page.click("#filters button[type=reset]")
    assert count(page) == "100 of 100 cases"
    page.click("nav >> text=Report")
    page.click("#drift table a >> nth=0")  # all confirmed drift of M_int on test questions
    assert page.input_value("[name=of]") == "M_int" and count(page) == "30 of 100 cases"
    page.reload()
    assert count(page) == "30 of 100 cases", "the address keeps the filters"
    assert page.problems == [] and {url.split(":")[0] for url in page.asked} == {"file"}


def test_filters_on_one_verdict_and_on_change(path, open_page):
    page = open_page(path, "#browse?set=test&of=M_DART&outcome=uncertain")
    found = [n for n in range(60) if (n + 1) % 8 == 3]
    assert count(page) == f"{len(found)} of 100 cases"
    page.goto(path.as_uri() + "#browse?change=gone")
    gone = [n for n in range(60) if n % 2 == 0 and (n + 1) % 8 in (1, 7)]
    assert count(page) == f"{len(gone)} of 100 cases"


def test_a_case_shows_three_models_and_the_judged_passage(path, open_page):
    page = open_page(path, "#browse?case=test/N1-test-00002")
    titles = page.eval_on_selector_all("#case h3", "all => all.map(one => one.firstChild.data)")
    assert titles == ["M0", "M_int", "M_DART"]
    marks = page.eval_on_selector_all("mark.judged", "all => all.map(one => one.textContent)")
    assert marks == ["passage 2"], "M_DART's pair has another verdict"
    assert page.inner_text(".model-M_int .verdict .tag") == "omits, moderate"
    assert "YES, right" in page.inner_text(".model-M0 h3")
    assert "(Δ +0.100)" in page.inner_text(".model-M_int .scores")
    lefts = page.eval_on_selector_all(".answer", "a => a.map(e => e.getBoundingClientRect().x)")
    assert lefts == sorted(set(lefts)), "side by side"


def test_search_finds_every_word_and_shows_where(path, open_page):
    page = open_page(path, "#browse")
    page.keyboard.press("/")
    page.keyboard.type("PASSAGE 17 m_dart")
    counted(page, "1 of")
    assert page.inner_text("#case h2") == "D2-test-00017"
    assert page.eval_on_selector("#case", "e => e.querySelectorAll('mark.hit').length") > 3
    pressing(page, "Escape")
    assert page.input_value("#search") == "PASSAGE 17 m_dart"
    pressing(page, "0")
    assert count(page) == "100 of 100 cases"
    # The case is still the chosen one, and its row is in sight.
    box, row = (page.locator(name).bounding_box() for name in ("#list", "[aria-selected=true]"))
    assert box["y"] <= row["y"] and row["y"] + row["height"] <= box["y"] + box["height"] + 1
    assert "D2-test-00017" in page.inner_text("[aria-selected=true]")
    page.keyboard.press("/")
    page.keyboard.type("nowhere(.*")
    counted(page, "0 of")
    assert "No case passes" in page.inner_text("#case")
    assert page.problems == []


def test_keyboard(path, open_page):
    page = open_page(path)
    pressing(page, "b")
    first = page.inner_text("#case h2")
    pressing(page, "j", "j")
    assert page.inner_text("#case h2") != first
    pressing(page, "k", "k", "k")
    assert page.inner_text("#case h2") == first
    pressing(page, "3")
    assert page.input_value("[name=severity]") == "3"
    pressing(page, "3", "u")
    assert page.input_value("[name=severity]") == ""
    assert page.input_value("[name=outcome]") == "uncertain"
    pressing(page, "0")
    page.focus("#list")
    pressing(page, "ArrowDown")
    # The case that was chosen under the filter, number 3, stays so without it; then comes 4.
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{active}", "aria-selected") == "true" and active == "row-4"
    pressing(page, "?")
    assert page.is_visible("#help")
    pressing(page, "j", "Escape")
    assert not page.is_visible("#help")
    assert page.get_attribute("#list", "aria-activedescendant") == "row-4"
    # A shortcut of the browser's own is not ours.
    pressing(page, "Control+k")
    assert page.get_attribute("#list", "aria-activedescendant") == "row-4"


def saved(page, button, folder):
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_blinded_annotation_survives_a_reload_and_is_downloaded(path, open_page, tmp_path):
    page = open_page(path, "#annotate")
    titles = page.eval_on_selector_all("#blind h3", "all => all.map(one => one.innerText)")
    assert titles == ["First", "Second"] and page.locator("#blind .tag").count() == 0
    assert "Conclusion" not in page.inner_text("#blind")
    page.fill("#annotator", 'ada "<b>"')
    page.focus("#blind")
    page.click("#blind label >> text=first")
    pressing(page, "z", "3", "Enter", "n", "Enter", "s")
    page.fill("[name=note]", "line </script> “quoted”")
    assert page.inner_text("#progress") == "2 of 40 pairs answered"
    page.reload()
    assert page.inner_text("#progress") == "2 of 40 pairs answered"
    assert page.inner_text("#blind .facts") == "Pair 3 of 40"
    assert page.is_checked("[name=worse][value=second]")
    file = saved(page, "#download-blind", tmp_path)
    assert re.fullmatch(r"annotations-blind-a_b-ada_b_\.jsonl", file.name)
    data = json.loads(page.eval_on_selector("#data", "e => e.textContent"))
    items = [data["cases"][place]["items"]["blind"] for place in data["queue"]]
    found = read_annotations([file], items)
    assert [(row.item, row.worse) for row in found] == [(items[0], "first"), (items[1], "neither")]
    assert found[0].annotator == 'ada "<b>"' and found[0].severity.name == "SEVERE"
    assert found[0].type.value == "normalizes" and found[1].type is None
    assert page.problems == []


def test_the_sides_of_blinded_pairs_follow_the_key(path, open_page):
    page = open_page(path, "#annotate")
    data = json.loads(page.eval_on_selector("#data", "e => e.textContent"))
    sides = set()
    for place in data["queue"][:8]:
        case = data["cases"][place]
        candidate = case["items"]["candidate"]
        sides.add(candidate)
        texts = page.eval_on_selector_all("#blind .analysis", "e => e.map(one => one.textContent)")
        assert texts[["first", "second"].index(candidate)] == case["answers"][1]["analysis"]
        page.keyboard.press("j")
    assert sides == {"first", "second"}


def test_answers_with_the_verdict_in_view_are_another_file(path, open_page, tmp_path):
    page = open_page(path, "#browse?set=pool&outcome=drift")
    assert page.is_disabled("#download-open")
    page.click(".annotation label >> text=M_int")
    page.click(".annotation label >> text=omits")
    page.click(".annotation label >> text=4 extreme")
    file = saved(page, "#download-open", tmp_path)
    row = json.loads(file.read_text("utf-8"))
    assert row["item"].startswith("open-") and row["worse"] == "second"
    assert (row["type"], row["severity"]) == ("omits", "extreme")
    page.click(".annotation label >> text=neither")
    row = json.loads(saved(page, "#download-open", tmp_path).read_text("utf-8"))
    assert (row["worse"], row["type"], row["severity"]) == ("neither", None, None)


def test_a_note_that_was_cut_inside_a_character_can_be_imported(path, open_page, tmp_path):
    page = open_page(path, "#annotate")
    pressing(page, "n")
    half = "note => { note.value = 'so \\ud83d'; note.dispatchEvent(new Event('input')); }"
    page.eval_on_selector("[name=note]", half)
    page.fill("#annotator", "ada \U0001f600")
    file = saved(page, "#download-blind", tmp_path)
    row = json.loads(file.read_text("utf-8"))
    [answer] = read_annotations([file], [row["item"]])
    assert (answer.note, answer.annotator) == ("so \ufffd", "ada \U0001f600")


def test_without_storage_the_page_works_and_says_so(path, open_page):
    script = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    page = open_page(path, "#annotate", script)
    assert "keeps nothing" in page.inner_text("#storage")
    pressing(page, "n")
    assert page.inner_text("#progress") == "1 of 40 pairs answered" and page.problems == []


def test_foreign_storage_is_not_trusted(path, open_page):
    page = open_page(path, "#annotate")
    key = page.evaluate("Object.keys(localStorage)[0]")
    bad = {"annotator": {"a": 1}, "answers": {"x": 1, "blind-0": None}}
    page.evaluate("([key, value]) => localStorage.setItem(key, value)", [key, json.dumps(bad)])
    page.reload()
    assert page.inner_text("#progress") == "0 of 40 pairs answered"
    assert page.input_value("#annotator") == ""
    page.evaluate("key => localStorage.setItem(key, '[not json')", key)
    page.reload()
    assert page.inner_text("#progress") == "0 of 40 pairs answered" and page.problems == []


def test_two_tabs_do_not_undo_each_other(path, open_page):
    page = open_page(path, "#annotate")
    other = page.context.new_page()
    other.goto(path.as_uri() + "#annotate")
    pressing(page, "n")
    other.wait_for_timeout(200)  # the event is on its way
    pressing(other, "j", "n")
    page.reload()
    assert page.inner_text("#progress") == "2 of 40 pairs answered"


def test_hostile_texts_do_nothing_and_are_shown_as_they_are(tmp_path, open_page):
    config = {**CONFIG, "run": {"name": HOSTILE[0], "root": "runs", "seed": 1}}
    page = open_page(write(tmp_path, 8, 8, HOSTILE, config), "#browse")
    data = json.loads(page.eval_on_selector("#data", "e => e.textContent"))
    for case in data["cases"]:
        texts = page.eval_on_selector_all("#case .analysis", "e => e.map(one => one.textContent)")
        expected = [answer["analysis"] for answer in case["answers"]]
        assert texts[: len(expected)] == expected
        assert page.eval_on_selector("#case", "e => e.scrollWidth <= e.clientWidth")
        page.keyboard.press("j")
    for _ in data["queue"]:
        pressing(page, "a", "j")
    assert page.evaluate("window.hit") is None
    made = "document.querySelectorAll('#case img, #case a, #case h1, article script').length"
    assert page.evaluate(made) == 0
    assert page.evaluate("document.querySelectorAll('#report').length") == 1
    assert HOSTILE[0] in page.inner_text(".brand")
    assert page.problems == []


def test_the_policy_refuses_markup_and_foreign_scripts(path, open_page):
    page = open_page(path)
    added = """() => {
        const script = document.createElement("script");
        try { script.textContent = "window.hit = 1"; } catch (error) { return error.name; }
        document.body.append(script);
    }"""
    assert page.evaluate(added) == "TypeError"
    markup = "try { document.body.innerHTML = '<b>'; 'set' } catch (error) { error.name }"
    assert page.evaluate(markup) == "TypeError"
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', e => e.name)") == (
        "TypeError"
    )
    assert any("Content Security Policy" in problem for problem in page.problems)


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(path, open_page, width):
    page = open_page(path, viewport={"width": width, "height": 800})
    for view in ("report", "browse", "annotate"):
        page.click(f"nav a[data-view={view}]")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_table_that_is_cut_shows_it_and_keeps_its_first_column(path, open_page):
    page = open_page(path, viewport={"width": 390, "height": 800})
    table = page.locator(".scroll[aria-labelledby=table-drift]")
    caption = page.locator("#table-drift").bounding_box()
    assert caption["x"] + caption["width"] <= 390, "the caption is not cut with the table"
    assert table.evaluate("e => e.scrollWidth > e.clientWidth")

    def right_edge():
        """The colour right of the head, where no text stands."""
        picture = Image.open(io.BytesIO(table.screenshot())).convert("RGB")
        return picture.getpixel((picture.width - 2, 1))

    def first_cell():
        return table.locator("tbody th").first.bounding_box()["x"]

    white, place = (255, 255, 255), first_cell()
    assert right_edge() != white
    table.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    assert right_edge() == white, "there is no more to the right"
    assert first_cell() == place


def test_a_type_that_nobody_judged_is_called_so(tmp_path, open_page):
    write_run(tmp_path, 8, 8)
    for verdicts in tmp_path.glob("*/verdicts*.jsonl"):
        outcomes = read_jsonl(verdicts, Outcome)
        write_jsonl(verdicts, [replace(outcome, judge="screen") for outcome in outcomes])
    write_report(tmp_path, made_up_summary(judge="none"), extras())
    page = open_page(tmp_path / "report/index.html", "#browse?outcome=drift&set=pool")
    tags = page.eval_on_selector_all("#rows .tag", "tags => tags.map(tag => tag.textContent)")
    assert len(tags) == 4 and all(tag.startswith("type not judged, ") for tag in tags)
    assert not page.is_visible("[name=type]") and page.is_visible("[name=severity]")
    assert page.problems == []


def test_ten_thousand_cases(tmp_path, open_page):
    page = open_page(write(tmp_path, 2000, CASES - 2000), "#browse")
    assert count(page) == "10,000 of 10,000 cases"
    assert page.eval_on_selector_all("#rows .row", "rows => rows.length") < 60
    page.eval_on_selector("#list", "e => e.scrollTop = e.scrollHeight")
    page.wait_for_selector("text=N4-pool-01999")
    page.fill("#search", "passage 7777")
    counted(page, "1 of")
    # 0.02 s on two busy cores; the bound is for a page that draws every case.
    assert float(page.get_attribute("#count", "data-milliseconds")) < 2000
    page.focus("#list")
    page.fill("#search", "passage")
    counted(page, "10,000 of")
    assert page.problems == []
