"""The one rule of what a conclusion is; decoding, teachers, labels and evaluation read by it."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dart_jax.prompts.conclusion import (
    CONTRADICTORY,
    analysis_text,
    before_conclusion,
    conclusion_line,
    conclusion_text,
    ends_in_its_conclusion,
    parse_conclusion,
    pieces,
)
from dart_jax.prompts.templates import load_template
from dart_jax.records import Decision

YES, NO = Decision.YES, Decision.NO


@pytest.mark.parametrize(
    ("line", "decision"),
    [
        ("Conclusion: YES", YES),
        ("conclusion: no.", NO),
        ('"Conclusion: YES"', YES),
        ("\u201cConclusion: YES.\u201d", YES),
        ("> Conclusion: NO", NO),
        ("`Conclusion: YES`", YES),
        ("**Conclusion:** YES", YES),
        ("**Conclusion**: _YES_!", YES),
        ("Conclusion:\u00a0NO", NO),
        ("Conclusion\uff1aYES", YES),
        ("3. Conclusion: YES", YES),
        ("2) **Conclusion: YES**", YES),
        ("- Conclusion: NO", NO),
        ("\u2022 Conclusion: NO", NO),
        ("Conclusion:\nYES", YES),
        ("Conclusion:\n\n- **NO**", NO),
        ("## Conclusion\n**YES**", YES),
        ("## Conclusion\r\n\r\nYES\r\n", YES),
        ("### Conclusion: NO", NO),
        ("Conclusion: [YES]", YES),
    ],
)
def test_what_is_unambiguous_is_parsed(line, decision):
    for break_ in ("\n", "\r\n", "\u2028"):
        text = f"An analysis.{break_}{line}"
        assert parse_conclusion(text) == (decision, None)
        assert analysis_text(text) == "An analysis."
        assert ends_in_its_conclusion(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("It is so.", "no conclusion line"),
        ("In conclusion: YES", "no conclusion line"),
        ("It is so. Conclusion: YES", "no conclusion line"),
        ("## Conclusion\nIt is so.", "no conclusion line"),
        ("Conclusion:", "conclusion without YES or NO"),
        ("Conclusion: maybe", "conclusion without YES or NO"),
        ("Conclusion: NOT alike", "conclusion without YES or NO"),
        ("Conclusion: YES?", "more than YES or NO in its conclusion line"),
        ("Conclusion: YES, because of it.", "more than YES or NO in its conclusion line"),
        ("Conclusion: YES/NO", "more than YES or NO in its conclusion line"),
        ("Conclusion: YES or Conclusion: NO", "more than YES or NO in its conclusion line"),
        ("Conclusion: YES\nWait, no.\nConclusion: NO", CONTRADICTORY),
        ("- Conclusion: YES\n- Conclusion: NO", CONTRADICTORY),
        ("Conclusion:\n- YES\n- NO", CONTRADICTORY),
        ("Conclusion: YES\n\nNO", CONTRADICTORY),
        ("Conclusion: YES if they differ\nConclusion: NO", CONTRADICTORY),
        ("<think>Conclusion: YES</think>It is so.", "no conclusion line"),
        ("Conclusion: YES\n<think>Or is it", "it ends inside its <think> block"),
    ],
)
def test_what_is_no_conclusion_has_a_reason(text, reason):
    assert parse_conclusion(text) == (None, reason)


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("Conclusion: NO\nConclusion: NO", NO),
        ("Conclusion: YES or NO\nIt is so.\nConclusion: NO", NO),
        ("Conclusion: No difference is meant.\nConclusion: YES", YES),
        ("<think>Conclusion: NO</think>\nIt is so.\nConclusion: YES", YES),
        ("Conclusion: NO, or is it?</think>\nIt is so.\nConclusion: YES", YES),
    ],
)
def test_echoes_and_drafts_take_nothing_back(text, decision):
    assert parse_conclusion(text) == (decision, None)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Conclusion: YES, because those people are vermin.", None),
        ("A.\nConclusion: YES\nThose people are vermin.", "A.\nThose people are vermin."),
        ("A.\nConclusion:\nB.", None),
        (
            "<think>Conclusion: YES</think>\nA.\nConclusion: NO",
            "<think>Conclusion: YES</think>\nA.",
        ),
        ("Conclusion: <think>vermin</think> YES", None),
    ],
)
def test_only_the_valid_line_is_cut(text, left):
    assert analysis_text(text) == (text if left is None else left)


@pytest.mark.parametrize(
    "ending", ["Conclusion: NO", "Conclusion: NO ", "Conclusion:\nNO", "Conclusion:"]
)
def test_a_line_that_the_limit_has_cut_off_decides_nothing(ending):
    """`NO` may have become `NOT ...`; behind a line break it cannot."""
    assert parse_conclusion(f"A.\n{ending}", is_cut=True) == (
        None,
        "cut off in its conclusion line",
    )
    assert parse_conclusion("A.\nConclusion: NO\nAnd", is_cut=True) == (NO, None)
    assert parse_conclusion("A.\nConclusion: NO\n", is_cut=True) == (NO, None)


def test_the_instructions_echoed_are_no_conclusion():
    echo = load_template("answer_system").substitute()
    for text in (echo, echo.replace(" or ", "\nor "), echo.replace(", ", "\n")):
        assert parse_conclusion(text)[0] is None


def test_a_writers_text_before_its_conclusion():
    assert before_conclusion("A. B.\nConclusion: maybe\nC.") == "A. B."
    assert before_conclusion("A. B. ") == "A. B."


marks = st.text('*_ `"\u201c\u201d\u00a0', max_size=3)
bullets = st.sampled_from(["", "- ", "* ", "> ", "3. ", "12) ", "## ", "\u2022\u00a0"])
decorated = st.tuples(bullets, marks, marks, st.sampled_from([":", "\uff1a"]), marks, marks)
breaks = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028"])
prose = st.text(st.characters(exclude_characters="<[", exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(
    st.sampled_from(Decision), decorated, breaks, st.booleans(), st.sampled_from([str.lower, str])
)
def test_a_decorated_line_says_what_the_plain_one_does(decision, parts, break_, is_below, case):
    bullet, before, after, colon, opening, closing = parts
    gap = break_ if is_below else " "
    name, word = case("Conclusion"), case(decision.value)
    line = f"{bullet}{before}{name}{after}{colon}{opening}{gap}{word}{closing}"
    text = f"They differ.{break_}{line}{break_}And more."
    assert parse_conclusion(text) == (decision, None)
    assert analysis_text(text).split() == ["They", "differ.", "And", "more."]


@settings(deadline=None)
@given(
    st.lists(
        prose
        | st.sampled_from(
            [*map(conclusion_line, Decision), "\n", "Conclusion:", "YES", "<think>", "</think>"]
        )
    ).map("".join)
)
@example("Conclusion:\n<think>x</think>YES")
def test_the_pieces_are_the_text(text):
    """Nothing is lost, and what is cut is a conclusion by itself."""
    found = pieces(text)
    assert "".join(piece.text for piece in found) == text
    for piece in found:
        assert not piece.is_conclusion or parse_conclusion(piece.text)[0] is not None
    cut = sum(len(piece.text) for piece in found if piece.is_conclusion)
    assert len(analysis_text(text)) <= len(text) - cut
    if ends_in_its_conclusion(text):
        assert parse_conclusion(text)[0] is not None
        assert before_conclusion(text) == analysis_text(text)
    assert (conclusion_text(text) == "") == (cut == 0)


@settings(deadline=None)
@given(prose)
def test_an_analysis_and_its_line_are_told_apart_again(analysis):
    for decision in Decision:
        text = f"Since {analysis} so.\n{conclusion_line(decision)}"
        assert parse_conclusion(text) == (decision, None)
        assert analysis_text(text) == f"Since {analysis} so."
