"""Scores of several continuations in one row against a full pass for each of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.generate.scoring import continuation_log_probs
from dart_jax.model.attention import segment_mask
from dart_jax.model.lora import merge_lora

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(5, 100, n).tolist() for n in (7, 60, 1, 23, 70)]
# Of several lengths, two with a common beginning, one of them twice.
# Scores reach -270 nats, where float32 sums of logits are good to about 1e-4.
CONTINUATIONS = [[9, 8, 7], [9, 8, 6, 5, 4], [30], [9, 8, 7], RNG.integers(5, 100, 12).tolist()]


@pytest.fixture(scope="module")
def scores(model):
    return continuation_log_probs(model, PROMPTS, CONTINUATIONS, batch_size=4)


def test_scores_are_those_of_each_continuation_alone(scores, model, logits):
    assert scores.shape == (5, 5) and scores.dtype == np.float64
    for prompt, row in zip(PROMPTS, scores, strict=True):
        for continuation, score in zip(CONTINUATIONS, row, strict=True):
            found = logits(model, [*prompt, *continuation])[len(prompt) - 1 : -1]
            log_probs = jax.nn.log_softmax(found.astype(np.float64), axis=-1)
            picked = np.asarray(log_probs, np.float64)[range(len(continuation)), continuation]
            assert score == pytest.approx(picked.sum(), abs=2e-4)


def test_scores_tell_prompts_and_continuations_apart(scores):
    assert np.ptp(scores, axis=0).min() > 0.1
    np.testing.assert_allclose(scores[:, 0], scores[:, 3], atol=2e-4)
    assert np.all(np.diff(np.sort(scores[:, [0, 1, 2, 4]], axis=1)) > 1e-3)


def test_all_tokens_together_are_certain(model):
    """One-token continuations, one for each id, have probabilities that sum to 1."""
    every = [[token] for token in range(model.config.vocab_size)]
    scores = continuation_log_probs(model, PROMPTS[:1], every, batch_size=1)
    assert np.exp(scores).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_batchmates_do_not_matter(batch_size, scores, model):
    again = continuation_log_probs(model, PROMPTS[::-1], CONTINUATIONS, batch_size)
    np.testing.assert_allclose(again[::-1], scores, atol=2e-4)


def test_prompt_without_room_is_nan_and_leaves_the_others_alone(scores, model):
    """Room is what the longest continuation (12) leaves: 60 tokens of 72 fit, 70 do not."""
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, context_length=72))
    found = continuation_log_probs(small, PROMPTS, CONTINUATIONS, batch_size=4)
    assert np.isnan(found[4]).all()
    np.testing.assert_allclose(found[:4], scores[:4], atol=2e-4)
    nothing = continuation_log_probs(small, PROMPTS[4:], CONTINUATIONS, batch_size=4)
    assert nothing.shape == (1, 5) and np.isnan(nothing).all()


def test_mask_of_the_docstring():
    """The row of the module's example, query by query."""
    positions = jnp.asarray([[0, 1, 2, 3, 4, 5, 4, 5, 6, 0]])
    segments = jnp.asarray([[-1, -1, -1, -1, 1, 1, 2, 2, 2, 0]])
    expected = (
        "x.........",
        "xx........",
        "xxx.......",
        "xxxx......",
        "xxxxx.....",
        "xxxxxx....",
        "xxxx..x...",
        "xxxx..xx..",
        "xxxx..xxx.",
    )
    mask = np.asarray(segment_mask(positions, segments))[0, :9]
    np.testing.assert_array_equal(mask, [[cell == "x" for cell in row] for row in expected])


def test_an_adapter_scores_as_its_merged_weights(scores, model, lora_params):
    merged = dataclasses.replace(model, base_params=merge_lora(model.base_params, lora_params, 3.0))
    adapted = continuation_log_probs(model, PROMPTS, CONTINUATIONS, 4, (lora_params, 3.0))
    np.testing.assert_allclose(
        adapted, continuation_log_probs(merged, PROMPTS, CONTINUATIONS, 4), rtol=1e-4
    )
    assert (np.abs(adapted - scores) > 0.01).mean() > 0.9
