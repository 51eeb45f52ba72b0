"""Cross-entropy and KL of single tokens, chunked, against plain full-logits float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.sft.cross_entropy import TokenTerms, token_terms
from tests.sft.test_cross_entropy import _largest

B, M, D, V = 3, 10, 16, 37


@pytest.fixture(scope="module")
def arrays():
    """hidden, reference, kernel, targets."""
    keys = jax.random.split(jax.random.key(0), 4)
    return (
        jax.random.normal(keys[0], (B, M, D)),
        jax.random.normal(keys[1], (B, M, D)),
        jax.random.normal(keys[2], (D, V)),
        jax.random.randint(keys[3], (B, M), 0, V),
    )


def plain(hidden, reference, kernel, targets):
    log_p, log_q = (jax.nn.log_softmax(h @ kernel, axis=-1) for h in (hidden, reference))
    each, reference_each = (
        -jnp.take_along_axis(x, targets[..., None], axis=-1)[..., 0] for x in (log_p, log_q)
    )
    return TokenTerms(each, reference_each, jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1))


def mixed(terms):
    """Some function of the terms whose derivatives in them are not known before the end."""
    ramp = jnp.arange(1.0, M + 1)[None]
    return jnp.sum(terms.cross_entropy**2 / ramp) * jnp.mean(terms.kl * ramp) / 10


@pytest.mark.parametrize("chunk", [3, 10, 32])
def test_chunks_are_the_plain_terms(chunk, arrays):
    """Values, and the gradient of a function of them; 3 does not divide M, 32 exceeds it."""
    for found, expected in zip(token_terms(*arrays, chunk), plain(*arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    found = jax.grad(lambda h: mixed(token_terms(h, *arrays[1:], chunk)))(arrays[0])
    expected = jax.grad(lambda h: mixed(plain(h, *arrays[1:])))(arrays[0])
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_without_a_reference(arrays):
    hidden, _, kernel, targets = arrays
    terms = token_terms(hidden, None, kernel, targets, 4)
    assert terms.reference_cross_entropy is None and terms.kl is None
    np.testing.assert_allclose(terms.cross_entropy, plain(*arrays).cross_entropy, rtol=1e-5)
    found = jax.grad(lambda h: (token_terms(h, None, kernel, targets, 4)[0] ** 2).sum())(hidden)
    expected = jax.grad(lambda h: (plain(h, *arrays[1:])[0] ** 2).sum())(hidden)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_kl_of_the_same_is_zero_and_has_no_gradient(arrays):
    hidden, _, *rest = arrays
    value, grad = jax.value_and_grad(lambda h: token_terms(h, hidden, *rest, 4).kl.sum())(hidden)
    assert abs(value) < 1e-4
    assert not grad.any()


def test_head_and_reference_are_frozen(arrays):
    def total(*args):
        return mixed(token_terms(*args, 4))

    for argument in (1, 2):
        assert not jax.grad(total, argnums=argument)(*arrays).any()
    assert jax.grad(total)(*arrays).any()


def test_bfloat16_is_summed_in_float32(arrays):
    low = [x.astype(jnp.bfloat16) for x in arrays[:3]]
    wide = [x.astype(jnp.float32) for x in low]
    found, grad = jax.value_and_grad(lambda h: mixed(token_terms(h, *low[1:], arrays[3], 4)))(
        low[0]
    )
    expected, expected_grad = jax.value_and_grad(lambda h: mixed(plain(h, *wide[1:], arrays[3])))(
        wide[0]
    )
    assert (found.dtype, grad.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.linalg.norm(grad - expected_grad) < 2e-2 * np.linalg.norm(expected_grad)


def test_logits_are_never_whole(arrays):
    """Neither the trained model's nor the reference's, forward or backward."""
    hidden, reference, kernel, targets = arrays
    wide = jnp.tile(kernel, (1, 32))

    def chunked(hidden):
        return jax.value_and_grad(lambda h: mixed(token_terms(h, reference, wide, targets, 2)))(
            hidden
        )

    full = B * M * wide.shape[1]
    assert _largest(chunked, hidden) < full
    assert _largest(lambda h: plain(h, reference, wide, targets), hidden) >= full
