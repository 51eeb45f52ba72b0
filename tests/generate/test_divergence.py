"""KL divergence along the beginning of an answer, against full passes in float64."""

import dataclasses

import jax
import numpy as np
import pytest

from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.divergence import Divergence, answer_divergences, first_divergences
from dart_jax.records import read_jsonl
from tests.generate.test_margins import BASE, QUESTIONS, answered

TEXTS = ("", "They differ.", "They are alike, in law and before it.")


@pytest.fixture(scope="module")
def prompts(model):
    return [p.tokens for p in answer_prompts([QUESTIONS[f"q{n}"] for n in range(3)], model)]


@pytest.fixture(scope="module")
def found(model, lora_params, prompts):
    return first_divergences(model, (lora_params, 3.0), BASE, prompts, TEXTS, 16, 4)


def test_it_is_the_divergence_of_two_plain_passes(found, model, lora_params, prompts, logits):
    for prompt, text, (kl, places) in zip(prompts, TEXTS, found, strict=True):
        row = [*prompt, *model.tokenizer.encode_text(text)]
        assert places == min(16, len(text) + 1), "one token a character, and the end"
        where = slice(len(prompt) - 1, len(prompt) - 1 + places)
        log_p, log_q = [
            np.asarray(jax.nn.log_softmax(logits(model, row, *adapter)[where]), np.float64)
            for adapter in ((lora_params, 3.0), ())
        ]
        expected = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean()
        assert kl == pytest.approx(expected, rel=1e-3) and kl > 0.01


def test_a_model_does_not_diverge_from_itself(model, lora_params, prompts):
    own = (lora_params, 3.0)
    assert [kl for kl, _ in first_divergences(model, own, own, prompts, TEXTS, 16, 4)] == [0, 0, 0]


def test_an_answer_that_fills_the_context_ends_with_it(model, lora_params, prompts, found):
    config = dataclasses.replace(model.config, context_length=len(prompts[2]) + 3)
    small = dataclasses.replace(model, config=config)
    [(_, places)] = first_divergences(
        small, (lora_params, 3.0), BASE, prompts[2:], TEXTS[2:], 16, 4
    )
    assert places == 4


def test_every_answer_with_room_has_one(model, lora_params, found, tmp_path):
    rows = [answered(QUESTIONS[f"q{n}"], model, text) for n, text in enumerate(TEXTS)]
    rows.append(answered(QUESTIONS["q3"], model, "", stop=None))
    path = tmp_path / "divergences.jsonl"
    divergences = answer_divergences(model, (lora_params, 3.0), BASE, QUESTIONS, rows, 16, path)
    assert [row.question_id for row in divergences] == ["q0", "q1", "q2"]
    assert [row.kl for row in divergences] == pytest.approx([kl for kl, _ in found], rel=1e-3)
    assert read_jsonl(path, Divergence) == divergences
