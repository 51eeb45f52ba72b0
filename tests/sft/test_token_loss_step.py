"""A step with a loss of tokens: against a plain implementation, and one however it is cut."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import forward, logits_of, param_axes
from dart_jax.model.sharding import data_parallel, make_mesh, tree_shardings
from dart_jax.sft.batch import OriginBatch, with_origins
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.examples import SOURCES, pair_up
from dart_jax.sft.jitted_step import jit_step
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import (
    TrainState,
    gradients,
    place_batch,
    state_shardings,
)
from dart_jax.sft.token_losses import CLIP, TokenLoss, token_loss

EVERYTHING = LossConfig(
    fn="focal", focal_gamma=1.5, unlikelihood_weight=0.5, kl_weight=2.0, toxicity_weight=3.0
)


@pytest.fixture(scope="module")
def reference(lora_params):
    """Another adapter than the trained one, near it."""
    return jax.tree.map(lambda x: 0.9 * x + 0.01, lora_params)


@pytest.fixture(scope="module")
def make_mixed(make_examples):
    """A function: n examples of every source in turn; those of drift have severities."""

    def make(n, weights=(1.0, 3.0, 2.0)):
        return [
            dataclasses.replace(
                example,
                source=SOURCES[index % len(SOURCES)],
                severity=index % 5 if SOURCES[index % len(SOURCES)] == "repair" else None,
            )
            for index, example in enumerate(make_examples(n, weights=weights))
        ]

    return make


@pytest.fixture(scope="module")
def run(params, lora_params, reference, make_spec):
    """A function: (gradients, loss, parts) of these examples as one step."""
    compiled = jax.jit(gradients, static_argnames=("spec", "layout"))

    def go(
        examples,
        config,
        *,
        normalization="weighted_token_mean",
        reference=reference,
        devices=1,
        **sft,
    ):
        sft = SftConfig(**{"batch_size": len(examples), "packing": "none", **sft})
        plan = make_plan(examples, sft, epochs=1, seed=0, data_parallel=devices)
        assert len(plan) == 1
        loss = config if isinstance(config, TokenLoss) else token_loss(config)
        batch = plan[0].batch if loss is None else with_origins(plan[0], examples)
        spec = make_spec(normalization)._replace(token_loss=loss)
        given = reference if spec.needs_reference else None
        grads, value, _, parts = compiled(
            lora_params, params, batch, spec=spec, layout=plan[0].layout, key=None, reference=given
        )
        return grads, value, parts

    return go


def naive(lora_params, reference, params, spec, examples, factors, config):
    """The loss of the module's docstring, one example after another, with all logits in float32.

    Their rows are padded behind, which no earlier token sees.
    """
    length = max(len(example.tokens) for example in examples)
    rows = jnp.array([(*e.tokens, *[0] * (length - len(e.tokens))) for e in examples])
    positions = jnp.broadcast_to(jnp.arange(length), rows.shape)
    attention = dense_attention(segment_mask(positions, jnp.ones_like(positions)))

    def log_probabilities(adapter):
        hidden, _ = forward(
            spec.config, params, adapter, rows, positions, attention, lora_scale=spec.lora.scale
        )
        return jax.nn.log_softmax(logits_of(params, hidden))

    all_p, all_q = log_probabilities(lora_params), log_probabilities(reference)
    total = 0.0
    for row, example in enumerate(examples):
        tokens = jnp.array(example.tokens)
        places = slice(example.prompt_length - 1, len(tokens) - 1)
        log_p, log_q = all_p[row, places], all_q[row, places]
        targets = tokens[example.prompt_length :, None]
        own, its = (jnp.take_along_axis(x, targets, axis=1)[:, 0] for x in (log_p, log_q))
        p, ratio = jnp.exp(own), jnp.exp(own - its)
        each = {
            "distill": config.kl_weight * jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=1),
            "repair": -((1 - p) ** config.focal_gamma) * own,
            "drifted": -config.unlikelihood_weight * jnp.log(1 - p),
            "penalised": config.toxicity_weight * jnp.where(ratio > 1 - CLIP, ratio, 1 - CLIP),
            "preferred": -config.toxicity_weight * jnp.where(ratio < 1 + CLIP, ratio, 1 + CLIP),
        }[example.source]
        total += factors[row] * each.sum()
    return total


def factors_of(examples, normalization):
    """What each example's sum over its tokens is multiplied by."""
    counts = np.array([len(example.tokens) - example.prompt_length for example in examples])
    weights = np.array([example.weight for example in examples])
    if normalization == "example_mean":
        return weights / counts / len(examples)
    return weights / np.sum(weights * counts)


@pytest.fixture(scope="module")
def plain(make_spec, params, reference, make_mixed):
    """A function of the adapter and `factors_of`: the plain loss of five examples, gradients."""
    spec, examples = make_spec(), make_mixed(5)

    def loss(lora, factors):
        return naive(lora, reference, params, spec, examples, factors, EVERYTHING)

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("normalization", ["weighted_token_mean", "example_mean"])
def test_all_parts_are_the_plain_implementation(
    normalization, run, plain, make_mixed, lora_params, assert_close
):
    examples = make_mixed(5)
    grads, value, parts = run(examples, EVERYTHING, normalization=normalization)
    expected = plain(lora_params, jnp.asarray(factors_of(examples, normalization), jnp.float32))
    assert_close((grads, value), expected[::-1], rel=1e-4)
    assert float(sum(parts.values())) == pytest.approx(float(value), rel=1e-5)
    assert set(parts) == {"focal", "unlikelihood", "kl", "toxicity"}
    assert all(part != 0 for part in parts.values())


@pytest.mark.parametrize("packing", ["segments", "shared_prefix"])
def test_packed_and_in_micro_batches_is_separate(packing, run, make_mixed, assert_close):
    examples = make_mixed(10)
    separate = run(examples, EVERYTHING)
    packed = run(
        examples, EVERYTHING, packing=packing, micro_batch_size=5, devices=4, row_length=80
    )
    assert_close(packed, separate, rel=1e-4)  # KL is a small difference of large numbers


def test_weight_k_is_k_copies(run, make_mixed, assert_close):
    plain = make_mixed(5, weights=(1.0,))
    ks = (1, 2, 1, 3, 2)
    weighted = [dataclasses.replace(e, weight=float(k)) for e, k in zip(plain, ks, strict=True)]
    copies = [e for e, k in zip(plain, ks, strict=True) for _ in range(k)]
    assert_close(run(weighted, EVERYTHING), run(copies, EVERYTHING), rel=2e-5)


def own_loss(tokens):
    """What a user would write."""
    return tokens.cross_entropy


@pytest.mark.parametrize(
    "named", [LossConfig(fn="focal", focal_gamma=0.0), TokenLoss(LossConfig(fn="own"), own_loss)]
)
def test_cross_entropy_by_another_name(named, run, make_mixed, assert_close):
    """Focal of gamma 0, and one's own, against the built-in path."""
    examples = make_mixed(5)
    found = run(examples, named)
    assert_close(found[:2], run(examples, LossConfig())[:2], rel=1e-6)


def test_kl_of_the_starting_adapter_is_zero(run, make_mixed, lora_params):
    replayed = [dataclasses.replace(e, source="distill") for e in make_mixed(4)]
    config = LossConfig(kl_weight=1.0)
    grads, value, parts = run(replayed, config, reference=lora_params)
    assert abs(float(value)) < 1e-6 and parts["cross_entropy"] == 0
    moved, value, _ = run(replayed, config)
    size = optax.tree.norm(moved)
    assert float(value) > 1e-3
    assert float(optax.tree.norm(grads)) < 1e-5 * float(size)


def test_own_loss_sees_what_is_documented(run, make_mixed, lora_params):
    """Sources, severities, weights and segments arrive at the tokens that they belong to."""
    examples = make_mixed(5)

    def checksum(tokens):
        return (
            tokens.cross_entropy * 0
            + 1000 * tokens.sources
            + 100 * tokens.severities
            + tokens.weights
            + (tokens.kl + tokens.reference_cross_entropy) * 0
            + (tokens.segment_ids > 0) * 0.5
        )

    loss = TokenLoss(LossConfig(fn="own", reference=True), checksum)
    for packing in ("none", "shared_prefix"):
        _, value, _ = run(examples, loss, packing=packing)
        total = divisor = 0.0
        for example in examples:
            count = len(example.tokens) - example.prompt_length
            number = 1000 * SOURCES.index(example.source) + 100 * (example.severity or 0)
            total += count * example.weight * (number + example.weight + 0.5)
            divisor += count * example.weight
        assert float(value) == pytest.approx(total / divisor, rel=1e-5)


def test_what_the_loss_says_of_padding_does_not_count(run, make_mixed):
    def bad_outside(tokens):
        return jnp.where(tokens.weights > 0, tokens.cross_entropy, jnp.nan)

    examples = make_mixed(3)
    loss = TokenLoss(LossConfig(fn="own"), bad_outside)
    grads, value, _ = run(examples, loss)
    assert float(value) == pytest.approx(float(run(examples, LossConfig())[1]), rel=1e-5)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def in_pairs(examples):
    """Each example of a repair or a drifted text, and its completion the other way round."""
    chosen, rejected, others = [], [], []
    for example in examples:
        if example.source not in ("repair", "drifted"):
            others.append(example)
            continue
        prompt = example.tokens[: example.prompt_length]
        turned = (*prompt, 1, *example.tokens[: example.prompt_length - 1 : -1])
        chosen.append(dataclasses.replace(example, source="repair"))
        rejected.append(dataclasses.replace(example, source="drifted", tokens=turned))
    return pair_up([*chosen, *others, *rejected])


@pytest.mark.parametrize(
    "loss",
    [EVERYTHING, pytest.param(LossConfig(preference="dpo"), marks=pytest.mark.slow)],
    ids=["every part", "pairs"],
)
def test_eight_devices_are_one(loss, make_mixed, make_spec, params, lora_params, reference):
    """Loss, parts and adapters of two steps of two micro-batches."""
    examples, optimizer = make_mixed(15), optax.adamw(1e-2)
    if loss.compares:
        examples = in_pairs(examples)
    fresh = TrainState(jnp.zeros((), jnp.int32), lora_params, optimizer.init(lora_params))
    spec = make_spec()._replace(token_loss=token_loss(loss))
    results = []
    for sizes in ((1, 1, 1), (2, 2, 2)):
        mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: math.prod(sizes)])
        sft = SftConfig(batch_size=16, micro_batch_size=8, packing="segments")
        plan = make_plan(examples, sft, epochs=2, seed=2, data_parallel=data_parallel(mesh))
        base = jax.device_put(params, tree_shardings(mesh, param_axes(spec.config), params))
        step = jit_step(spec._replace(mesh=mesh), optimizer, fresh, base)
        shardings = state_shardings(fresh, mesh)
        state = jax.device_put(jax.tree.map(jnp.copy, fresh), shardings)
        start = jax.device_put(reference, shardings.lora_params)
        seen = []
        for index in range(len(plan)):
            batch = place_batch(with_origins(plan[index], examples), mesh)
            assert isinstance(batch, OriginBatch)
            state, metrics = step(state, base, batch, jax.random.key(5), start, plan[index].layout)
            seen.append([metrics.loss, *metrics.parts.values()])
        results.append((np.array(seen), jax.tree.map(np.asarray, state.lora_params)))
    (expected, expected_lora), (found, found_lora) = results
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found_lora, expected_lora
    )
