"""Pairs of a repair and the drifted text: by hand, what is planned, and what is refused."""

import math
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.config import parse
from dart_jax.sft.batch import with_origins
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.examples import SOURCES, Example, members_of_pairs, pair_up
from dart_jax.sft.packing import epoch_batches, make_plan
from dart_jax.sft.preference import pair_losses, pair_weights, with_pairs
from dart_jax.sft.token_losses import Tokens, loss_identity
from dart_jax.teach.config import RepairConfig

BETA = 0.5
DPO = LossConfig(preference="dpo", preference_beta=BETA)
ORPO = LossConfig(preference="orpo", preference_beta=BETA)

# One row: a pair, a replayed target, a pair; the last position is padding that names the first.
NAMES = ["repair", "repair", "drifted", "distill", "repair", "drifted", "drifted", "repair"]
PAIRS = jnp.array([[1, 1, 1, 0, 4, 4, 4, 1]])
WEIGHTS = jnp.array([[3.0, 3.0, 3.0, 1.0, 2.0, 2.0, 2.0, 0.0]])
CHOSEN, REJECTED = ([0, 1], [4]), ([2], [5, 6])
NOW = jnp.array([[0.7, 1.1, 0.4, 2.0, 0.9, 0.2, 1.3, 99.0]])
AT_START = jnp.array([[0.9, 1.6, 0.5, 2.1, 0.3, 0.6, 1.2, 7.0]])


def tokens_of(cross_entropy, reference=AT_START):
    numbers = jnp.array([[SOURCES.index(name) for name in NAMES]])
    segments = jnp.array([[1, 1, 2, 3, 4, 5, 5, 1]])
    zeros = jnp.zeros_like(numbers)
    return Tokens(cross_entropy, reference, None, WEIGHTS, numbers, zeros, segments)


def minus_log_sigmoid(x):
    return math.log(1 + math.exp(-x))


def log_odds(p):
    return math.log(p / (1 - p))


def test_dpo_by_hand():
    found = pair_losses(tokens_of(NOW), PAIRS, DPO, 5)[0]
    first = (0.9 + 1.6 - 0.7 - 1.1) - (0.5 - 0.4)
    second = (0.3 - 0.9) - (0.6 + 1.2 - 0.2 - 1.3)
    assert float(found[0]) == pytest.approx(minus_log_sigmoid(BETA * first), rel=1e-5)
    assert float(found[3]) == pytest.approx(minus_log_sigmoid(BETA * second), rel=1e-5)


def test_orpo_by_hand():
    found = pair_losses(tokens_of(NOW), PAIRS, ORPO, 5)[0]
    first = log_odds(math.exp(-0.9)) - log_odds(math.exp(-0.4))
    second = log_odds(math.exp(-0.9)) - log_odds(math.exp(-0.75))
    assert float(found[0]) == pytest.approx(BETA * minus_log_sigmoid(first), rel=1e-5)
    assert float(found[3]) == pytest.approx(BETA * minus_log_sigmoid(second), rel=1e-5)


def test_orpo_of_certain_texts_is_finite():
    values, grads = jax.value_and_grad(
        lambda each: pair_losses(tokens_of(each), PAIRS, ORPO, 5)[0, jnp.array([0, 3])].sum()
    )(jnp.zeros_like(NOW))
    assert jnp.isfinite(values) and jnp.isfinite(grads).all()


def test_dpo_at_the_start_is_log_two_and_parts_the_texts():
    """With p = q: each chosen token's -log p falls at the rate w beta/2; a rejected one's rises."""

    def total(each):
        losses = pair_losses(tokens_of(each), PAIRS, DPO, 5)[0]
        return 3 * losses[0] + 2 * losses[3], losses

    (_, losses), grads = jax.value_and_grad(total, has_aux=True)(AT_START)
    np.testing.assert_allclose(losses[jnp.array([0, 3])], math.log(2), rtol=1e-6)
    expected = BETA / 2 * np.array([3, 3, -3, 0, 2, -2, -2, 0.0])
    np.testing.assert_allclose(grads[0], expected, atol=1e-6)


@pytest.mark.parametrize("config", [DPO, ORPO])
def test_what_each_token_gets(config):
    """Both texts the pair's loss; the chosen one its own, too, under orpo; replay its own alone."""
    losses = pair_losses(tokens_of(NOW), PAIRS, config, 5)[0]
    parts = with_pairs({"cross_entropy": NOW}, tokens_of(NOW), PAIRS, config, 5)
    pair = parts[config.preference][0]
    np.testing.assert_array_equal(pair[jnp.array([0, 1, 2])], jnp.repeat(losses[0], 3))
    np.testing.assert_array_equal(pair[jnp.array([4, 5, 6])], jnp.repeat(losses[3], 3))
    own = parts["cross_entropy"][0, :7]
    kept = [3] if config is DPO else [0, 1, 3, 4]
    assert np.flatnonzero(own).tolist() == kept
    np.testing.assert_array_equal(own[jnp.array(kept)], NOW[0, jnp.array(kept)])
    assert pair[3] == 0


def text(id, source, prompt, own, weight=1.0):
    """A text of `own` tokens after a prompt."""
    return Example(id, (*range(1, prompt + 1), *[7] * own), prompt, weight, source=source)


@pytest.fixture
def mixed():
    """Twenty pairs of unequal lengths, six replayed targets, and a repair without a pair."""
    repairs = [text(f"r{i}", "repair", 9, 2 + i % 5, 1.0 + i % 4) for i in range(20)]
    drifted = [
        replace(text(r.id, "drifted", 9, 1 + i % 3), weight=r.weight) for i, r in enumerate(repairs)
    ]
    alone = text("alone", "repair", 9, 4, 2.0)
    return pair_up([*repairs, alone, *(text(f"d{i}", "distill", 9, 3) for i in range(6)), *drifted])


def test_pairs_are_found_in_order_and_copies_one_to_one():
    copies = [text("a", "repair", 3, 2)] * 2 + [
        text("b", "repair", 3, 2),
        text("a", "distill", 3, 2),
    ]
    found = pair_up([*copies, *[text("a", "drifted", 3, 1)] * 2])
    assert [example.pair for example in found] == [1, 2, 0, 0, 1, 2]
    assert members_of_pairs(found) == [[0, 4], [1, 5], [2], [3], [0, 4], [1, 5]]
    with pytest.raises(ValueError, match="a: a drifted text without a repair"):
        pair_up([copies[0], *[text("a", "drifted", 3, 1)] * 2])


@pytest.mark.parametrize("packing", ["none", "segments", "shared_prefix"])
def test_the_texts_of_a_pair_share_a_row_and_count_as_one(packing, mixed):
    sft = SftConfig(batch_size=8, micro_batch_size=4, packing=packing, row_length=64)
    batches = epoch_batches(mixed, 8, 0, 0, packing)
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(mixed)))
    assert len(batches) == math.ceil((20 + 1 + 6) / 8)

    plan = make_plan(mixed, sft, epochs=1, seed=0, data_parallel=2)
    rows_of = Counter()
    for index in range(len(plan)):
        step = plan[index]
        pairs = with_origins(step, mixed).pairs
        for place in np.ndindex(step.examples.shape[:2]):
            members = [mixed[i] for i in step.examples[place] if i >= 0]
            for segment, example in enumerate(members):
                number = pairs[place][segment]
                first = [other.pair for other in members].index(example.pair) + 1
                assert number == (first if example.pair else 0)
            rows_of.update({example.pair for example in members if example.pair})
    assert rows_of == Counter(range(1, 21))


def test_a_pair_that_fits_no_row_is_named(mixed):
    long = pair_up([text("long", "repair", 30, 9), text("long", "drifted", 30, 9)])
    with pytest.raises(ValueError, match=r"long: 49 tokens of a pair, .* sft.row_length 48"):
        make_plan(long, SftConfig(row_length=48), epochs=1, seed=0)


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
@pytest.mark.parametrize("normalization", ["weighted_token_mean", "example_mean"])
def test_each_pair_and_other_example_holds_its_weight_once(packing, normalization, mixed):
    sft = SftConfig(batch_size=len(mixed), packing=packing, row_length=256)
    step = make_plan(mixed, sft, epochs=1, seed=0)[0]
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), with_origins(step, mixed))
    weights, share = pair_weights(batch, normalization, step.layout.segments)
    held = [example.weight for example in mixed if example.source != "drifted"]
    assert float(weights.sum()) == pytest.approx(sum(held), rel=1e-5)
    assert float(share) == pytest.approx(
        sum(held) if normalization == "weighted_token_mean" else len(held), rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("--sft.loss.preference dpo", r"sft\.loss\.preference: dpo; set repair\.loss\.preference"),
        ("--repair.loss.preference ipo", r"repair\.loss\.preference"),
        ("--repair.loss.preference_beta 0", r"preference_beta"),
        (
            "--repair.loss.preference dpo --repair.loss.unlikelihood_weight 1",
            r"loss\.preference: dpo.*unlikelihood_weight",
        ),
        (
            "--repair.loss.preference orpo --repair.span_weight 2",
            r"repair\.span_weight: 2.*preference orpo",
        ),
        (
            "--repair.loss.preference dpo --sft.loss_normalization token_mean",
            r"repair\.loss\.preference: dpo.*sft\.loss_normalization",
        ),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        parse(settings.split())


def test_the_identity_of_other_losses_is_as_before():
    before = {"fn", "focal_gamma", "reference", "unlikelihood_weight", "kl_weight"}
    before |= {"toxicity_weight", "code"}
    assert set(loss_identity(LossConfig(preference_beta=3.0))) == before
    assert set(loss_identity(DPO)) == before | {"preference", "preference_beta"}
    assert loss_identity(DPO) != loss_identity(replace(DPO, preference_beta=1.0))
    assert RepairConfig(loss=ORPO).loss.needs_drifted and not RepairConfig().loss.needs_drifted
