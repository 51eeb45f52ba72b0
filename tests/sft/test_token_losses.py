"""The losses' formulas against numbers done by hand, and what is refused."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.sft.config import LossConfig
from dart_jax.sft.examples import SOURCES
from dart_jax.sft.token_losses import (
    CLIP,
    Tokens,
    focal,
    loss_identity,
    ratio_loss,
    token_loss,
    unlikelihood,
    uses_weights,
)

P = jnp.array([0.01, 0.25, 0.5, 0.9, 0.999])


def tokens_of(cross_entropy, sources, reference=None, kl=None):
    """One row of tokens of these sources, at weight 1."""
    row = jnp.asarray(cross_entropy, jnp.float32)[None]
    numbers = jnp.array([[SOURCES.index(name) for name in sources]])
    given = (None if x is None else jnp.asarray(x, jnp.float32)[None] for x in (reference, kl))
    zeros = jnp.zeros_like(numbers)
    return Tokens(row, *given, jnp.ones_like(row), numbers, zeros, zeros + 1)


def test_focal_by_hand():
    np.testing.assert_allclose(focal(-jnp.log(P), 2.0), -((1 - P) ** 2) * jnp.log(P), rtol=1e-4)


def test_focal_of_gamma_zero_is_cross_entropy():
    each = jnp.array([0.0, 1e-6, 0.3, 20.0])
    np.testing.assert_array_equal(focal(each, 0.0), each)
    np.testing.assert_array_equal(jax.vmap(jax.grad(lambda x: focal(x, 0.0)))(each), 1.0)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_certainty_has_a_gradient(gamma):
    assert jnp.isfinite(jax.grad(lambda x: focal(x, gamma))(0.0))


def test_unlikelihood_by_hand():
    np.testing.assert_allclose(unlikelihood(-jnp.log(P)), -jnp.log(1 - P), rtol=1e-4)


@pytest.mark.parametrize("margin", [0.0, 2.0, 8.0, 12.0, 17.0, 60.0])
def test_unlikelihood_is_safe_near_certainty(margin):
    """Its gradient in the target's logit is p, and 1 where float32 does not tell p from 1."""

    def loss(logits):
        return unlikelihood(jax.nn.logsumexp(logits) - logits[0])

    logits = jnp.array([margin, 0.0, 0.0])
    value, grad = jax.value_and_grad(loss)(logits)
    assert jnp.isfinite(value)
    p = math.exp(margin) / (math.exp(margin) + 2)
    if margin < 12:
        assert float(value) == pytest.approx(-math.log(1 - p), rel=1e-3)
        assert float(grad[0]) == pytest.approx(p, rel=1e-2)
    assert jnp.isfinite(grad).all() and jnp.abs(grad).max() < 1.2


def test_ratio_loss_is_the_score_functions_gradient_at_the_start():
    """E over the vocabulary, one token a rationale: the gradient of sum_v p(v) H(v)."""
    harm = jnp.array([0.9, 0.0, 0.2, 0.4, 0.05])
    logits = jnp.array([0.3, -1.0, 0.7, 0.0, 0.2])
    q = jax.nn.softmax(logits)
    advantage = harm - 0.3  # any baseline
    sources = ["penalised" if a > 0 else "preferred" for a in advantage]

    def estimate(logits):
        tokens = tokens_of(-jax.nn.log_softmax(logits), sources, reference=-jnp.log(q))
        return jnp.sum(q * jnp.abs(advantage) * ratio_loss(tokens)[0])

    found = jax.grad(estimate)(logits)
    expected = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * harm))(logits)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "ratio", "value", "moves"),
    [
        ("penalised", 1.0, 1.0, True),
        ("penalised", 0.5, 1 - CLIP, False),
        ("penalised", 3.0, 3.0, True),
        ("preferred", 1.0, -1.0, True),
        ("preferred", 3.0, -1 - CLIP, False),
        ("preferred", 0.5, -0.5, True),
        ("repair", 3.0, 0.0, False),
        ("repair", math.inf, 0.0, False),
    ],
)
def test_ratio_loss_stops_where_it_would_go_too_far(source, ratio, value, moves):
    each = 0.0 if math.isinf(ratio) else 2.0 - math.log(ratio)
    reference = 200.0 if math.isinf(ratio) else 2.0

    def loss(each):
        return ratio_loss(tokens_of(each[None], [source], reference=[reference]))[0, 0]

    found, grad = jax.value_and_grad(loss)(jnp.float32(each))
    assert float(found) == pytest.approx(value, abs=1e-5)
    assert bool(grad != 0) is moves


def test_each_token_belongs_to_one_part():
    config = LossConfig(
        fn="focal", focal_gamma=1.0, unlikelihood_weight=2.0, kl_weight=3.0, toxicity_weight=5.0
    )
    ln2 = math.log(2)
    tokens = tokens_of([ln2] * 5, SOURCES, reference=[ln2] * 5, kl=[0.1] * 5)
    parts = token_loss(config)(tokens)
    expected = {
        "focal": [0, 0.5 * ln2, 0, 0, 0],
        "unlikelihood": [0, 0, 2 * ln2, 0, 0],
        "kl": [0.3, 0, 0, 0, 0],
        "toxicity": [0, 0, 0, 5, -5],
    }
    assert set(parts) == set(expected)
    for name, row in expected.items():
        np.testing.assert_allclose(parts[name][0], row, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (LossConfig(), True),
        (LossConfig(reference=True), True),
        (LossConfig(fn="focal"), False),
        (LossConfig(kl_weight=1.0), False),
    ],
)
def test_the_plain_loss_stays_on_its_path(config, plain):
    assert (token_loss(config) is None) is plain


OWN = """
import jax.numpy as jnp

def mine(tokens):
    return tokens.cross_entropy

def careful(tokens):
    return tokens.cross_entropy + tokens.kl

def summed(tokens):
    return tokens.cross_entropy.sum()

def counted(tokens):
    return tokens.sources

def several(tokens):
    return tokens.cross_entropy, tokens.weights

def masked(tokens):
    return jnp.where(tokens.weights > 0, tokens.cross_entropy, jnp.nan)

def weighted(tokens):
    return tokens.weights * tokens.cross_entropy

def of_severe(tokens):
    heavy = (tokens.severities == 3) & (tokens.weights > 2)
    return tokens.cross_entropy + jnp.where(heavy, tokens.kl, 0.0)

def shared(tokens):
    return tokens.cross_entropy * tokens.weights / tokens.weights.sum()

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of one's own in the current directory; its name."""
    (tmp_path / "own_losses.py").write_text(OWN)
    (tmp_path / "broken_losses.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)
    return "own_losses"


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        ("crossentropy", r"repair\.loss\.fn: 'crossentropy' is none of cross_entropy, focal"),
        ("no_such_module.loss", r"repair\.loss\.fn: .*cannot import no_such_module"),
        ("broken_losses.loss", r"repair\.loss\.fn: .*no_such_package"),
        ("own_losses.absent", r"repair\.loss\.fn: .*own_losses has no function absent"),
        ("own_losses.number", r"repair\.loss\.fn: .*has no function number"),
        ("own_losses.summed", r"repair\.loss\.fn: .*one float for each token"),
        ("own_losses.counted", r"repair\.loss\.fn: .*one float for each token"),
        ("own_losses.several", r"repair\.loss\.fn: .*one float for each token"),
        ("own_losses.careful", r"repair\.loss\.fn: .*loss\.reference: true"),
    ],
)
def test_what_is_no_loss_is_refused(fn, message, own):
    with pytest.raises(ValueError, match=message):
        token_loss(LossConfig(fn=fn), "repair.loss")


def test_own_loss_with_a_reference(own):
    assert token_loss(LossConfig(fn="own_losses.careful", reference=True)).needs_reference
    assert not token_loss(LossConfig(fn="own_losses.mine")).needs_reference


@pytest.mark.parametrize(
    ("fn", "uses"),
    [
        ("own_losses.mine", False),
        ("own_losses.masked", False),
        ("own_losses.weighted", True),
        ("own_losses.of_severe", True),
        ("own_losses.shared", True),
        ("focal", False),
    ],
)
def test_a_loss_that_weighs_tokens_itself_is_known(fn, uses, own):
    assert uses_weights(token_loss(LossConfig(fn=fn, reference=True))) is uses


def test_own_code_is_part_of_the_identity(own, tmp_path):
    config = LossConfig(fn="own_losses.mine")
    before = loss_identity(config)
    assert loss_identity(config) == before
    (tmp_path / "own_losses.py").write_text(OWN + "# changed\n")
    assert loss_identity(config) != before
    assert loss_identity(LossConfig(fn="focal"))["code"] is None


@pytest.mark.parametrize(
    ("key", "foreign", "values", "message"),
    [
        ("sft.loss", ("kl_weight",), {"kl_weight": 1.0}, r"sft\.loss\.kl_weight: 1\.0; set repair"),
        ("repair.loss", ("toxicity_weight",), {"toxicity_weight": 1.0}, r"set sft\.loss\.toxicity"),
        ("sft.loss", (), {"focal_gamma": -1.0}, r"loss\.focal_gamma: -1\.0; give a number from 0"),
        ("sft.loss", (), {"kl_weight": math.nan}, r"loss\.kl_weight: nan"),
    ],
)
def test_settings_without_a_meaning_are_refused(key, foreign, values, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**values).check(key, *foreign)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def loss(tokens:\n    return 1\n", r"mine\.py, line 1\): SyntaxError"),
        ("\nimport no_such_package_at_all\n", r"mine\.py, line 2\): No module named"),
        ("from math import nothing\n", r"mine\.py, line 1\): ImportError"),
        ("x = 1\ny = x.gone\n", r"mine\.py, line 2\): AttributeError"),
        ("x = 1 / 0\n", r"mine\.py, line 1\): ZeroDivisionError"),
        ("def loss(tokens):\n    return tokens.wieghts\n", r"mine\.py, line 2\): AttributeError"),
        ("def loss(tokens):\n    return 1 / 0\n", r"mine\.py, line 2\): ZeroDivisionError"),
    ],
)
def test_a_loss_that_cannot_be_used_is_named_with_its_line(text, message, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(ValueError, match=rf"sft\.loss\.fn: mine\.loss.*{message}"):
        token_loss(LossConfig(fn="mine.loss"), "sft.loss")
    sys.modules.pop("mine", None)
