"""Answers on disk: one line each, resumable, and with a reason where there is no decision."""

import dataclasses

import pytest

from dart_jax.generate.answers import (
    NOT_ASKED,
    answer_prefix,
    answer_prompts,
    answer_questions,
)
from dart_jax.generate.config import DecodeConfig
from dart_jax.prompts.conclusion import analysis_of
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import (
    BadRecord,
    Condition,
    Decision,
    Generation,
    Question,
    StopReason,
    Turn,
    read_jsonl,
    to_json,
)

CONFIG = DecodeConfig(temperature=0.8, top_p=0.95, max_new_tokens=10, slots=2)
QUESTIONS = [
    Question(f"q{i}", "D1", Condition.DIFF, f"May {'very ' * n}old people vote?", 0, f"s{i}")
    for i, n in enumerate((3, 0, 5, 1, 2))
]


def answers(model, path, questions=QUESTIONS, config=CONFIG, **settings):
    adapters = {"M_int": settings["adapter"]} if "adapter" in settings else {}
    return answer_questions(model, adapters, questions, {"M_int": path}, config, seed=1)["M_int"]


@pytest.fixture(scope="module")
def full(model, tmp_path_factory):
    """All answers, and the bytes of their file."""
    path = tmp_path_factory.mktemp("full") / "M_int.jsonl"
    return answers(model, path), path.read_bytes()


def test_one_line_a_question_in_their_order(full, model, tmp_path):
    found, written = full
    (tmp_path / "copy.jsonl").write_bytes(written)
    assert read_jsonl(tmp_path / "copy.jsonl", Generation) == found
    assert [generation.question_id for generation in found] == [q.id for q in QUESTIONS]
    assert len({generation.text for generation in found}) == len(QUESTIONS)
    for generation, prompt in zip(found, answer_prompts(QUESTIONS, model), strict=True):
        assert generation.model == "M_int"
        assert generation.prompt_tokens == len(prompt.tokens)
        assert 0 <= generation.new_tokens <= CONFIG.max_new_tokens
        assert (generation.decision is None) == (generation.unparseable is not None)


def test_prompts_are_those_of_the_template(model):
    [prompt, *_] = answer_prompts(QUESTIONS, model)
    assert prompt.id == "q0"
    assert prompt.tokens == tuple(model.tokenizer.encode_prompt(answer_messages(QUESTIONS[0])))
    assert QUESTIONS[0].text in model.tokenizer.decode(prompt.tokens)


def test_the_policy_is_in_every_prompt_and_in_their_prefix(model):
    prompts = answer_prompts(QUESTIONS, model, policy=True)
    prefix = tuple(answer_prefix(model, policy=True))
    assert len(prefix) > len(answer_prefix(model))
    for prompt, question in zip(prompts, QUESTIONS, strict=True):
        messages = answer_messages(question, policy=True)
        assert prompt.tokens == tuple(model.tokenizer.encode_prompt(messages))
        assert prompt.tokens[: len(prefix)] == prefix


def test_only_a_prompt_that_asks_for_a_conclusion_has_one(chains, tmp_path):
    """A chat without a label is put as it is: all of the answer is analysis."""
    chat = (Turn("user", "Hi"),)
    asked = [
        Question("chat", "own", None, "Hi", -1, "s", chat),
        Question("labelled", "own", Condition.DIFF, "Hi", -1, "s", chat),
        QUESTIONS[0],
    ]
    writer = chains(["</head>", "They", "\nConclusion", ": ", "YES", "<eot>"])
    config = dataclasses.replace(CONFIG, temperature=0.0)
    chat, *others = answers(writer, tmp_path / "M0.jsonl", asked, config)
    assert (chat.concludes, chat.decision, chat.unparseable) == (False, None, NOT_ASKED)
    assert analysis_of(chat) == chat.text == "They\nConclusion: YES"
    for other in others:
        assert (other.concludes, other.decision, other.unparseable) == (True, Decision.YES, None)
        assert analysis_of(other) == "They"


@pytest.mark.parametrize("whole", [0, 1, 3, 5])
def test_a_torn_file_is_completed_to_the_same_bytes(whole, full, model, tmp_path):
    """A crash leaves some lines, in the order of decoding, and half of another."""
    found, written = full
    lines = written.splitlines(keepends=True)
    path = tmp_path / "M_int.jsonl"
    path.write_bytes(b"".join(lines[::-1][:whole]) + lines[0][: len(lines[0]) // 2])
    assert answers(model, path) == found
    assert path.read_bytes() == written


def test_answers_that_are_there_are_not_decoded_again(full, model, tmp_path):
    """A marked line survives; the model is not asked for its question."""
    found, written = full
    marked = dataclasses.replace(found[1], text="marked")
    path = tmp_path / "M_int.jsonl"
    path.write_bytes(written.replace(full[1].splitlines()[1], to_json(marked).encode()))
    assert answers(model, path)[1] == marked


def test_a_broken_line_inside_is_named(full, model, tmp_path):
    path = tmp_path / "M_int.jsonl"
    path.write_bytes(b'{"question_id": "q0"}\n' + full[1])
    with pytest.raises(BadRecord, match=r"M_int\.jsonl:1"):
        answers(model, path)


def test_a_prompt_too_long_is_recorded(model, tmp_path):
    """And not asked again; the others are answered as ever."""
    longest = max(prompt.length for prompt in answer_prompts(QUESTIONS, model))
    config = dataclasses.replace(model.config, context_length=longest + 9)
    small = dataclasses.replace(model, config=config)
    path = tmp_path / "M_int.jsonl"
    found = {answer.question_id: answer for answer in answers(small, path)}
    bad = found.pop("q2")
    assert (bad.text, bad.decision, bad.stop, bad.prompt_tokens) == ("", None, None, longest)
    assert "q2: a prompt of" in bad.unparseable
    assert all(answer.stop is not None for answer in found.values())
    written = path.read_bytes()
    answers(small, path)
    assert path.read_bytes() == written


def test_models_answer_in_one_pass_as_they_do_alone(full, model, lora_params, tmp_path):
    adapters = {"M_DART": (lora_params, 3.0)}
    files = {name: tmp_path / f"{name}.jsonl" for name in ("M0", "M_DART")}
    both = answer_questions(model, adapters, QUESTIONS, files, CONFIG, seed=1)
    plain = [dataclasses.replace(answer, model="M0") for answer in full[0]]
    assert both["M0"] == plain
    assert all(answer.model == "M_DART" for answer in both["M_DART"])
    assert {a.text for a in both["M_DART"]}.isdisjoint({a.text for a in both["M0"]})
    # All of M0's are asked again, in shapes that are compiled for `full`.
    files["M0"].write_bytes(files["M0"].read_bytes()[:20])
    assert answer_questions(model, adapters, QUESTIONS, files, CONFIG, seed=1) == both


def test_the_prefix_of_all_prompts(model):
    prefix = tuple(answer_prefix(model))
    for prompt in answer_prompts(QUESTIONS, model):
        assert prompt.tokens[: len(prefix)] == prefix
    assert not model.tokenizer.decode(prefix).endswith(QUESTIONS[0].text[:1])


@pytest.mark.parametrize(
    ("chain", "decision", "reason", "stop"),
    [
        (["\nConclusion", ": ", "YES", "\n", "<eot>"], Decision.YES, None, StopReason.EOS),
        (["\nConclusion", ": ", "NO\n", " go", " on"], Decision.NO, None, StopReason.LENGTH),
        (
            ["a", "b", "c", "d", "e", "f", "g", "\nConclusion", ": ", "YES"],
            None,
            "cut off in its conclusion line",
            StopReason.LENGTH,
        ),
        (["\nConclusion", ": ", "YES", "<eot>"], Decision.YES, None, StopReason.EOS),
        (["They", " are", " alike", "<eot>"], None, "no conclusion line", StopReason.EOS),
        (["They", " go", " on"], None, "no conclusion line", StopReason.LENGTH),
        (
            ["They", "\nConclusion", ": ", " alike", "<eot>"],
            None,
            "conclusion without YES or NO",
            StopReason.EOS,
        ),
        (["<eot>"], None, "empty", StopReason.EOS),
    ],
)
def test_decisions_and_reasons(chain, decision, reason, stop, chains, tmp_path):
    """Every prompt of the template ends in `</head>`, where this model's chain begins."""
    config = dataclasses.replace(CONFIG, temperature=0.0)
    writer = chains(["</head>", *chain])
    [found] = answers(writer, tmp_path / "M0.jsonl", QUESTIONS[:1], config)
    assert (found.decision, found.unparseable, found.stop) == (decision, reason, stop)
