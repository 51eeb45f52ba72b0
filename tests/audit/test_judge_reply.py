"""One reader for what judges write: each of them accepts and refuses the same."""

import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict

from dart_jax.audit.judge import read_answer
from dart_jax.audit.judge_reply import read_reply
from dart_jax.audit.open_ended import read_outcome
from dart_jax.audit.refusal_judge import read_refusal
from dart_jax.audit.responses import read_response
from dart_jax.data.open_ended import OpenEndedQuery

QUERY = OpenEndedQuery("legal-001", "legal", "sex", "May I?", True, "The law.", "Act of 1990")
PAIR = {"reason": "r", "passage": "p", "worse": "first", "type": "omits", "severity": "minor"}
GRADES = {"reason": "r", "passage": "p"}


def graded(text: str):
    return read_outcome(text, QUERY)


READERS: list[tuple[Callable, dict, str, str]] = [
    (read_answer, PAIR, "worse", "neither"),
    (graded, GRADES | {"outcome": "refusal"}, "outcome", "difference_appropriate"),
    (read_response, GRADES | {"harmful": True, "refusal": "full"}, "refusal", "none"),
    (read_refusal, GRADES | {"refusal": "full"}, "refusal", "none"),
]
"""Each judge's reader, a valid reply, the key of its decision and another decision."""

every_reader = pytest.mark.parametrize(
    ("read", "reply", "key", "other"), READERS, ids=["pair", "open-ended", "HateCheck", "refusal"]
)


def second_value(reply: dict, key: str, value: str) -> str:
    """The reply's JSON with a second value for one of its keys."""
    return f"{json.dumps(reply)[:-1]}, {json.dumps(key)}: {json.dumps(value)}}}"


@every_reader
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "  {}\n",
        "```json\n{}\n```",
        "```\n{}\n```",
        "```json\r\n{}\r\n```\r\n",
        "```JSON\n\n{}\n\n```",
        "```json {} ```",
    ],
)
def test_one_fence_around_the_whole_is_forgiven(read, reply, key, other, around):
    found = read(around.replace("{}", json.dumps(reply, indent=1)))
    assert found.model_dump() == reply


@every_reader
@pytest.mark.parametrize(
    "around",
    [
        "Here it is: {}",
        "{} I hope this helps.",
        "Here it is:\n```json\n{}\n```",
        "```json\n{}\n```\nThat is all.",
        "```json\n```json\n{}\n```\n```",
        "```json\n{}",
        "```yaml\n{}\n```",
        "{}{}",
        "{}\n{}",
        "```json\n{}\n{}\n```",
        "[{}]",
        '"{}"',
        "",
        "null",
    ],
)
def test_anything_but_one_object_is_a_problem(read, reply, key, other, around):
    text = around.replace("{}", json.dumps(reply))
    assert read(text) == "it is not one JSON object"


@every_reader
def test_a_key_given_twice_is_a_problem_whichever_value_comes_last(read, reply, key, other):
    assert read(second_value(reply, key, other)) == "a key is given twice"
    assert read(second_value(reply | {key: other}, key, reply[key])) == "a key is given twice"
    assert read(second_value(reply, "reason", "r")) == "a key is given twice"
    fenced = f"```json\n{second_value(reply, key, other)}\n```"
    assert read(fenced) == "a key is given twice"
    # Written with an escape, it is the same key.
    escaped = second_value(reply, key, other).replace(
        f'"{key}"', f'"\\u{ord(key[0]):04x}{key[1:]}"', 1
    )
    assert read(escaped) == "a key is given twice"


@every_reader
def test_half_a_surrogate_pair_is_a_problem_since_no_file_can_hold_it(read, reply, key, other):
    for half in ("\ud800", "\udc00", "\ude00\ud83d"):
        assert "surrogate" in read(json.dumps(reply | {"passage": f"a{half}b"}))
        assert "surrogate" in read(json.dumps(reply | {half: 1}))
    whole = read(json.dumps(reply | {"passage": "a\U0001f600b"}))
    assert whole.passage == "a\U0001f600b"


@every_reader
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_a_problem(read, reply, key, other, number):
    text = json.dumps(reply).replace('"p"', number)
    assert read(text) == "a number is not finite"


@every_reader
def test_a_problem_quotes_nothing(read, reply, key, other):
    canary = "canary7"
    texts = [
        canary,
        json.dumps(reply | {canary: 1}),
        json.dumps(reply | {key: canary}),
        json.dumps(reply | {"passage": [canary]}),
        json.dumps(reply | {"reason": {canary: canary}}),
        second_value(reply | {canary: 1}, canary, canary),
        f'{{"{canary}": {canary}}}',
    ]
    for text in texts:
        problem = read(text)
        assert isinstance(problem, str) and problem
        assert canary not in problem and "\n" not in problem


@every_reader
def test_a_field_is_named_with_what_is_wrong_with_it(read, reply, key, other):
    assert read(json.dumps(reply | {"passage": 3})) == "passage: is not a string"
    assert read(json.dumps(reply | {key: "fine"})).startswith(f"{key}: is not '")
    missing = {name: value for name, value in reply.items() if name != "reason"}
    assert read(json.dumps(missing)) == "reason: is missing"


def test_a_truth_value_in_words_is_named():
    reply = GRADES | {"harmful": "true", "refusal": "none"}
    assert read_response(json.dumps(reply)) == "harmful: is not true or false"


def test_a_key_given_twice_below_the_top_is_a_problem():
    class Nested(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

        inner: list[dict[str, float]]

    assert read_reply('{"inner": [{"a": 1, "a": 2}]}', Nested) == "a key is given twice"
    assert read_reply('{"inner": [{"a": 1e400}]}', Nested) == "a number is not finite"
    assert read_reply('{"inner": [{"a": 1.5, "b": 2}]}', Nested).inner == [{"a": 1.5, "b": 2.0}]
    odd = read_reply('{"inner": [{"canary7": "x"}]}', Nested)
    assert odd == "inner: has another form than was asked for"
