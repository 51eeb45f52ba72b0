"""Nucleus sampling against a plain computation, and noise that only its key determines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.generate.sampling import (
    CANDIDATES,
    nucleus,
    question_hash,
    row_keys,
    sample,
    token_noise,
    top_tokens,
)

IDS = [f"q{i}" for i in range(64)]
compiled_sample = jax.jit(sample, static_argnames=("temperature", "top_p", "top_k"))
compiled_noise = jax.jit(token_noise)


def index(value: int):
    return jnp.int32(value)


def steps(value: int, count: int = len(IDS)):
    return jnp.full((count,), value, jnp.int32)


def noise(seed: int, id: str, step: int, count: int) -> np.ndarray:
    return np.asarray(compiled_noise(row_keys(seed, [id])[0], index(step), jnp.arange(count)))


def direct(logits: np.ndarray, key, step: int, temperature: float, top_p: float) -> int:
    """One row in float64 over the whole vocabulary, with a full sort."""
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    keep = order[np.cumsum(p[order]) - p[order] < top_p]
    gumbel = np.asarray(compiled_noise(key, index(step), jnp.arange(len(logits))))
    return int(keep[np.argmax(scaled[keep] + gumbel[keep])])


def test_question_hash_is_31_bits_of_sha256():
    """SHA-256 of "abc" begins with ba7816bf (FIPS 180-2)."""
    assert question_hash("abc") == 0xBA7816BF >> 1


def test_noise_depends_on_seed_question_index_and_token():
    base = noise(1, "q1", 3, 50)
    np.testing.assert_array_equal(base, noise(1, "q1", 3, 50))
    for other in (noise(2, "q1", 3, 50), noise(1, "q2", 3, 50), noise(1, "q1", 4, 50)):
        assert not np.intersect1d(base, other).size
    assert len(np.unique(base)) == 50


def test_noise_depends_on_nothing_else():
    """Neither the other candidates, nor their order, nor the other rows."""
    tokens = jnp.asarray([40, 3, 17])
    picked = compiled_noise(row_keys(1, ["q1"])[0], index(3), tokens)
    np.testing.assert_array_equal(picked, noise(1, "q1", 3, 50)[tokens])
    together = jax.random.key_data(row_keys(1, ["a", "b", "c"]))
    alone = jax.random.key_data(row_keys(1, ["b"]))
    np.testing.assert_array_equal(together[1], alone[0])


def test_noise_is_standard_gumbel():
    """Mean 0.5772, variance pi^2 / 6."""
    drawn = noise(0, "q1", 0, 20_000)
    assert drawn.mean() == pytest.approx(0.5772, abs=0.03)
    assert drawn.var() == pytest.approx(np.pi**2 / 6, abs=0.08)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-6, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (0.9, 4), (1.0, 4)]
)
def test_nucleus_by_hand(top_p, kept):
    """A token is in when those before it hold less than top_p: 0, 0.5, 0.75, 0.875."""
    mask = nucleus(jnp.asarray([[0.5, 0.25, 0.125, 0.125]]), top_p)
    np.testing.assert_array_equal(mask[0], np.arange(4) < kept)


def test_temperature_0_is_the_most_likely_token():
    logits = jax.random.normal(jax.random.key(0), (len(IDS), 300))
    found = compiled_sample(logits, row_keys(0, IDS), steps(0), temperature=0.0, top_p=0.9)
    np.testing.assert_array_equal(found, logits.argmax(axis=-1))


def _logits(kind: str, vocab: int) -> np.ndarray:
    spread = {"peaked": 4.0, "flat": 0.3}[kind]
    return spread * np.random.default_rng(0).normal(size=(len(IDS), vocab)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "vocab"), [("peaked", 300), ("flat", 300), ("flat", CANDIDATES), ("flat", 9)]
)
def test_sample_is_the_direct_computation(kind, vocab):
    """With a nucleus within the candidates, beyond them, and a vocabulary smaller than them."""
    logits, keys = _logits(kind, vocab), row_keys(7, IDS)
    found = compiled_sample(jnp.asarray(logits), keys, steps(5), temperature=0.8, top_p=0.9)
    expected = [direct(row, key, 5, 0.8, 0.9) for row, key in zip(logits, keys, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert (np.asarray(found) != logits.argmax(axis=-1)).sum() > 5


def test_flat_logits_do_need_more_than_the_candidates():
    """Else the test above would not reach the fallback; and peaked ones must not need it."""
    for kind, fits in (("peaked", True), ("flat", False)):
        p = np.sort(np.asarray(jax.nn.softmax(_logits(kind, 300) / 0.8)), axis=-1)[:, ::-1]
        assert np.all((p[:, :CANDIDATES].sum(axis=-1) >= 0.9) == fits)


def test_rows_do_not_feel_whether_their_batchmates_need_the_fallback():
    """Even rows do not need it and odd rows do, as in batches of one kind."""
    peaked, flat = _logits("peaked", 300), _logits("flat", 300)
    mixed = np.where(np.arange(len(IDS))[:, None] % 2 == 0, peaked, flat)
    keys = row_keys(7, IDS)
    of_peaked, of_flat, of_mixed = (
        np.asarray(compiled_sample(jnp.asarray(rows), keys, steps(5), temperature=0.8, top_p=0.9))
        for rows in (peaked, flat, mixed)
    )
    np.testing.assert_array_equal(of_mixed[::2], of_peaked[::2])
    np.testing.assert_array_equal(of_mixed[1::2], of_flat[1::2])


@pytest.mark.parametrize(("top_p", "kept"), [(1.0, 6), (0.7, 3)])
def test_frequencies_are_those_of_the_nucleus(top_p, kept):
    p = np.asarray([0.1, 0.4, 0.05, 0.2, 0.15, 0.1])
    draws = 4000
    keys = row_keys(3, [f"q{i}" for i in range(draws)])
    logits = jnp.broadcast_to(0.5 * jnp.log(p), (draws, len(p)))  # temperature 0.5 undoes the half
    found = np.bincount(
        compiled_sample(logits, keys, steps(2, draws), temperature=0.5, top_p=top_p),
        minlength=len(p),
    )
    inside = np.sort(np.argsort(-p, kind="stable")[:kept])
    assert set(np.flatnonzero(found)) == set(inside)
    expected = draws * p[inside] / p[inside].sum()
    chi_square = ((found[inside] - expected) ** 2 / expected).sum()
    assert chi_square < 25  # 5 degrees of freedom: exceeded once in 7,000 seeds


def test_a_pair_shares_its_noise():
    """Equal logits: equal tokens. Nearly equal ones: nearly always, unlike independent draws."""
    logits = jnp.asarray(_logits("peaked", 300)) / 4
    near = logits + 0.02 * jax.random.normal(jax.random.key(1), logits.shape)

    def draw(logits, seed):
        return np.asarray(
            compiled_sample(logits, row_keys(seed, IDS), steps(0), temperature=1.0, top_p=0.95)
        )

    np.testing.assert_array_equal(draw(logits, 0), draw(logits, 0))
    assert (draw(logits, 0) == draw(near, 0)).mean() > 0.9
    assert (draw(logits, 0) == draw(logits, 1)).mean() < 0.3


@pytest.mark.parametrize("vocab", [64 * 70, 1000])
def test_top_tokens_are_those_of_a_full_sort(vocab):
    """With a vocabulary in groups and with one that they do not divide; and with ties."""
    logits = np.random.default_rng(2).integers(0, 40, (5, vocab)).astype(np.float32)
    top, tokens = jax.jit(top_tokens, static_argnums=1)(jnp.asarray(logits), 64)
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :64]
    np.testing.assert_array_equal(top, np.take_along_axis(logits, order, axis=-1))
    np.testing.assert_array_equal(np.take_along_axis(logits, np.asarray(tokens), axis=-1), top)
    assert all(len(set(row.tolist())) == 64 for row in tokens)


def test_top_k_leaves_a_distribution_of_its_own():
    """Of 0.4, 0.3, 0.2, 0.1 the best two are 4/7 and 3/7: a nucleus of 0.5 holds one of them."""
    logits = jnp.broadcast_to(jnp.log(jnp.asarray([0.1, 0.4, 0.2, 0.3])), (len(IDS), 4))

    def drawn(top_k, top_p):
        keys, settings = row_keys(7, IDS), {"temperature": 1.0, "top_k": top_k, "top_p": top_p}
        return set(np.asarray(compiled_sample(logits, keys, steps(0), **settings)).tolist())

    assert drawn(2, 1.0) == {1, 3}
    assert drawn(2, 0.5) == {1}
    assert drawn(0, 0.5) == {1, 3}
    assert drawn(0, 1.0) == drawn(9, 1.0) == {0, 1, 2, 3}
