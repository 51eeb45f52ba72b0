"""Replies of guards in their published formats, with contents of these tests' own."""

import math

import pytest

from dart_jax.audit.guard_formats import FORMATS, label_probabilities, read_reply
from dart_jax.chat.protocol import TokenLogprobs

QWEN = "Safety: {}\nCategories: {}\nRefusal: No"
WILD = "Harmful request: no\nResponse refusal: {}\nHarmful response: {}"


@pytest.mark.parametrize(
    ("format", "reply", "value", "categories"),
    [
        ("llama_guard", "\n\nsafe", 0.0, set()),
        ("llama_guard", "\n\nunsafe\nS10", 1.0, {"S10"}),
        ("llama_guard", "unsafe\nS1,S14", 1.0, {"S1", "S14"}),
        ("qwen3guard", QWEN.format("Safe", "None"), 0.0, set()),
        ("qwen3guard", QWEN.format("Controversial", "Unethical Acts"), 0.5, {"Unethical Acts"}),
        ("qwen3guard", QWEN.format("Unsafe", "Violent, PII"), 1.0, {"Violent", "PII"}),
        ("wildguard", WILD.format("yes", "no"), 0.0, set()),
        ("wildguard", WILD.format("no", "yes"), 1.0, set()),
        ("granite_guardian", "No", 0.0, set()),
        ("granite_guardian", "Yes\n<confidence> High </confidence>", 1.0, set()),
        ("granite_guardian", "<score> yes </score>", 1.0, set()),
        ("granite_guardian", "<score>no</score>", 0.0, set()),
        ("shieldgemma", "No", 0.0, set()),
        ("shieldgemma", "Yes. The reply demeans\none group.", 1.0, set()),
    ],
)
def test_a_published_reply(format, reply, value, categories):
    found, labels = read_reply(format, reply)
    assert found == value
    assert {label for label, share in labels.items() if share == 1.0} >= categories
    assert sum(labels.values()) == 1 + len(categories), "one label, and the categories"


@pytest.mark.parametrize(
    ("format", "reply"),
    [
        ("llama_guard", "Safe"),
        ("llama_guard", "unsafe"),
        ("llama_guard", "unsafe\nS15"),
        ("llama_guard", "unsafe\nHate"),
        ("llama_guard", "safe\nS1"),
        ("llama_guard", "I think that it is safe"),
        ("llama_guard", "safe unsafe\nS1"),
        ("qwen3guard", "Safety: Unsafe\nCategories: Violent"),
        ("qwen3guard", QWEN.format("Harmful", "Violent")),
        ("qwen3guard", QWEN.format("Unsafe", "Rude")),
        ("qwen3guard", QWEN.format("Unsafe", "Violent") + "\nRefusal: No"),
        ("wildguard", WILD.format("no", "N/A")),
        ("wildguard", "Harmful response: yes"),
        ("granite_guardian", "yes"),
        ("granite_guardian", "Yes, it is"),
        ("granite_guardian", "<score> maybe </score>"),
        ("granite_guardian", "<score> yes </score> <score> no </score>"),
        ("shieldgemma", "Yesterday"),
        ("shieldgemma", "The answer is No"),
    ],
)
def test_anything_else_is_no_verdict(format, reply):
    assert read_reply(format, reply).startswith(f"no reply in the format {format}: ")


def test_no_reply_is_of_two_formats_but_for_yes_and_no():
    replies = {"safe", QWEN.format("Safe", "None"), WILD.format("no", "no"), "<score> no </score>"}
    for reply in replies:
        assert sum(not isinstance(read_reply(name, reply), str) for name in FORMATS) == 1


def steps(*tokens):
    """Tokens, of which those that have alternatives are pairs."""
    found = []
    for token in tokens:
        text, others = token if isinstance(token, tuple) else (token, {})
        logs = {other: math.log(p) for other, p in others.items()}
        found.append(TokenLogprobs(text, logs or {text: 0.0}))
    return tuple(found)


def test_a_score_is_the_probability_of_the_label_where_it_stands():
    tokens = steps("\n\n", ("un", {"un": 0.6, "safe": 0.2, "The": 0.1}), "safe", "\n", "S1")
    value, labels = read_reply("llama_guard", "unsafe\nS1", tokens)
    assert value == pytest.approx(0.75)
    assert labels == pytest.approx({"safe": 0.25, "unsafe": 0.75, "S1": 1.0})


def test_the_middle_level_counts_half():
    shares = {" Safe": 0.5, " Cont": 0.2, " Unsafe": 0.2, " safe": 0.05}
    tokens = steps("Safety", ":", (" Safe", shares), "\nCategories: None\nRefusal: No<end>")
    value, labels = read_reply("qwen3guard", QWEN.format("Safe", "None"), tokens)
    assert value == pytest.approx((0.2 + 0.5 * 0.2) / 0.9)
    assert labels["Controversial"] == pytest.approx(0.2 / 0.9)


def test_the_verdict_behind_a_draft_counts():
    reply = "<score> yes </score>"
    tokens = steps("<think>", reply, "</think>", "<score>", (" yes", {" yes": 0.9, " no": 0.1}))
    value, _ = read_reply("granite_guardian", reply, (*tokens, *steps(" ", "</score>")))
    assert value == pytest.approx(0.9)


def test_log_probabilities_that_do_not_fit_the_reply_are_a_failure():
    assert "another text" in read_reply("llama_guard", "safe", steps("unsafe"))
    tokens = steps(("safe", {"Sure": 0.9, "Well": 0.1}))
    assert "no label" in read_reply("llama_guard", "safe", tokens)


def test_a_place_beyond_the_tokens_has_no_label():
    assert label_probabilities(steps("safe"), 4, ("safe", "unsafe")) is None
