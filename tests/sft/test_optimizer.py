"""The schedule and two AdamW updates, done by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dart_jax.sft.config import SftConfig
from dart_jax.sft.step import make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.0), (1, 1 / 3), (2, 2 / 3), (3, 1.0), (28, (1 + 0.5**0.5) / 2), (53, 0.5), (103, 0.0)],
)
def test_warm_up_and_cosine(step, share):
    """103 steps at 3 %: three of warm-up, then half a cosine over a hundred."""
    schedule = make_schedule(2e-4, SftConfig(), 103)
    assert float(schedule(step)) == pytest.approx(2e-4 * share, abs=1e-10)


@pytest.mark.parametrize("total", [1, 2, 20])
def test_short_runs_start_at_the_peak(total):
    """Their warm-up is one step: a step at rate 0 would be wasted."""
    schedule = make_schedule(1e-3, SftConfig(), total)
    rates = [float(schedule(step)) for step in range(total)]
    assert rates[0] == pytest.approx(1e-3)
    assert all(0 < rate <= 1e-3 * (1 + 1e-6) for rate in rates)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_two_updates_by_hand():
    """g = (3, 4) is clipped to (0.6, 0.8), (0.3, 0) is not; weight decay is decoupled."""
    optimizer = make_optimizer(optax.constant_schedule(0.1), SftConfig(weight_decay=0.5))
    params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    m, v = np.zeros(2), np.zeros(2)
    for count, (raw, clipped) in enumerate([((3.0, 4.0), (0.6, 0.8)), ((0.3, 0.0),) * 2], 1):
        updates, state = optimizer.update(jnp.array(raw), state, params)
        g = np.array(clipped)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        adam = (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        np.testing.assert_allclose(updates, -0.1 * (adam + 0.5 * params), atol=1e-5)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "sft.epochs: 0"),
        ({"batch_size": 0}, "sft.batch_size: 0"),
        ({"loss_chunk": 0}, "sft.loss_chunk: 0"),
        ({"checkpoint_every": 0}, "sft.checkpoint_every: 0"),
        ({"batch_size": 8, "micro_batch_size": 3}, "sft.micro_batch_size: 3"),
        ({"micro_batch_size": 0}, "sft.micro_batch_size: 0"),
        ({"validate_every": 5}, "sft.validate_every: 5; it needs held-out .*validation_share"),
        ({"early_stopping": 2}, "sft.early_stopping: 2; it needs held-out .*validation_share"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SftConfig(**settings)


def test_micro_batches():
    assert SftConfig(batch_size=8).micro_batch_counts == [1]
    assert SftConfig(batch_size=8, micro_batch_size=2).micro_batch_counts == [4]
