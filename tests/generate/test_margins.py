"""Forced decisions: a margin for each answer, of its analysis alone, resumable."""

import dataclasses

import jax
import pytest

from dart_jax.generate import margins
from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.margins import answer_margins
from dart_jax.prompts.conclusion import Margin
from dart_jax.records import Condition, Decision, Generation, Question, StopReason, Turn, read_jsonl

CONCLUDED = "They differ.\nConclusion: YES"
BASE = ({}, 0.0)


def asked(id: str, text: str, condition: Condition | None = Condition.DIFF) -> Question:
    """A chat that is put as it is; it asks for a conclusion where it has a label."""
    return Question(id, "own", condition, text, -1, id, (Turn("user", text),))


def answered(question: Question, model, text: str, **changes) -> Generation:
    [prompt] = answer_prompts([question], model)
    lengths = (len(prompt.tokens), len(text))
    answer = Generation(question.id, "M_int", text, None, "none", StopReason.EOS, *lengths)
    return dataclasses.replace(answer, **changes)


QUESTIONS = {f"q{n}": asked(f"q{n}", "May old people vote? " * (n % 4)) for n in range(11)}
TEXTS = ("", "They differ.", CONCLUDED, "Alike,\nin law.\nConclusion: NO", "x" * 60)


@pytest.fixture(scope="module")
def answers(model):
    rows = list(QUESTIONS.values())
    return [answered(q, model, TEXTS[n % len(TEXTS)]) for n, q in enumerate(rows)]


@pytest.fixture(scope="module")
def full(model, lora_params, answers, tmp_path_factory):
    """All margins under an adapter, and the bytes of their file."""
    path = tmp_path_factory.mktemp("full") / "margins.jsonl"
    return answer_margins(model, (lora_params, 3.0), QUESTIONS, answers, path), path.read_bytes()


def test_it_is_the_difference_of_the_two_lines_in_a_plain_pass(
    full, model, lora_params, answers, logits
):
    """Behind the prompt and the analysis, each line in a pass of its own, under the adapter."""

    def line(prompt, analysis, word):
        text = f"{analysis}\nConclusion: {word}" if analysis else f"Conclusion: {word}"
        row = [*prompt, *model.tokenizer.encode_text(text)]
        p = jax.nn.log_softmax(logits(model, row, lora_params, 3.0), axis=-1)
        return sum(float(p[i - 1, row[i]]) for i in range(len(prompt), len(row)))

    rows = list(QUESTIONS.values())
    prompts = {prompt.id: prompt.tokens for prompt in answer_prompts(rows, model)}
    analyses = {"q0": "", "q1": "They differ.", "q2": "They differ.", "q3": "Alike,\nin law."}
    found = {margin.question_id: margin for margin in full[0]}
    assert [margin.question_id for margin in full[0]] == list(QUESTIONS)
    for id, analysis in analyses.items():
        yes, no = (line(prompts[id], analysis, word) for word in ("YES", "NO"))
        assert found[id].log_odds == pytest.approx(yes - no, abs=2e-3)
        assert found[id].model == "M_int"


def test_a_conclusion_of_the_models_own_is_not_read(model, tmp_path):
    question = {"q": asked("q", "Hi")}
    rows = [
        answered(question["q"], model, "They differ."),
        answered(question["q"], model, CONCLUDED, decision=Decision.YES, unparseable=None),
        answered(question["q"], model, CONCLUDED.replace("YES", "NO"), decision=Decision.NO),
    ]
    found = []
    for number, answer in enumerate(rows):
        path = tmp_path / f"{number}.jsonl"
        [margin] = answer_margins(model, BASE, question, [answer], path)
        found.append(margin.log_odds)
    assert found[0] == found[1] == found[2] != 0


def test_what_has_no_margin(model, tmp_path):
    """No room for an answer, nothing to conclude: no record. No room for the line: a record."""
    length = len(answer_prompts([QUESTIONS["q3"]], model)[0].tokens)
    config = dataclasses.replace(model.config, context_length=length + 40)
    small = dataclasses.replace(model, config=config)
    rows = [
        answered(QUESTIONS["q0"], model, "", stop=None),
        answered(QUESTIONS["q1"], model, CONCLUDED, concludes=False),
        answered(QUESTIONS["q2"], model, "They differ."),
        answered(QUESTIONS["q3"], model, "x" * 39),
    ]
    fits, too_long = answer_margins(small, BASE, QUESTIONS, rows, tmp_path / "m.jsonl")
    assert (fits.question_id, too_long) == ("q2", Margin("q3", "M_int", None))
    assert fits.log_odds is not None
    assert read_jsonl(tmp_path / "m.jsonl", Margin) == [fits, too_long]


@pytest.mark.parametrize(("whole", "sizes"), [(0, [8, 3]), (2, [8, 3]), (9, [8]), (11, [])])
def test_a_torn_file_is_completed_to_the_same_bytes(
    whole, sizes, full, model, lora_params, answers, tmp_path, monkeypatch
):
    """Only batches that lack a margin are computed, and those whole."""
    found, written = full
    by_id = {margin.question_id: margin for margin in found}
    batches = []

    def recorded(model, adapter, questions, batch, rows, policy):
        batches.append([answer.question_id for answer in batch])
        return [by_id[answer.question_id] for answer in batch]

    monkeypatch.setattr(margins, "_margins", recorded)
    lines = written.splitlines(keepends=True)
    path = tmp_path / "margins.jsonl"
    path.write_bytes(b"".join(lines[:whole]) + lines[0][: len(lines[0]) // 2])
    assert answer_margins(model, (lora_params, 3.0), QUESTIONS, answers, path) == found
    assert path.read_bytes() == written
    assert [len(batch) for batch in batches] == sizes


def test_neither_batchmates_nor_devices_matter(
    full, model, lora_params, answers, on_mesh, tmp_path
):
    """The same answers in another order and number, and on eight devices."""
    expected = [margin.log_odds for margin in full[0]]
    some = answer_margins(model, (lora_params, 3.0), QUESTIONS, answers[:4], tmp_path / "some")
    assert [margin.log_odds for margin in some] == pytest.approx(expected[:4], abs=1e-3)
    spread = on_mesh(model, 2, 2, 2)
    path = tmp_path / "spread"
    found = answer_margins(spread, (lora_params, 3.0), QUESTIONS, answers[::-1], path)
    assert [margin.log_odds for margin in found[::-1]] == pytest.approx(expected, abs=2e-3)


def test_the_policy_is_in_the_prompt_where_it_was_asked_with(model, tmp_path):
    question = {"q": Question("q", "D1", Condition.DIFF, "May they?", 0, "s")}
    [answer] = [answered(question["q"], model, "They differ.")]
    [without] = answer_margins(model, BASE, question, [answer], tmp_path / "a")
    [asked_with] = answer_margins(model, BASE, question, [answer], tmp_path / "b", policy=True)
    assert abs(without.log_odds - asked_with.log_odds) > 1e-3
