"""Passages become token weights, and these reach the loss through every packing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.records import Condition, Question, Target, WeightSpan
from dart_jax.sft.batch import fill_row
from dart_jax.sft.cross_entropy import normalised_weights
from dart_jax.sft.examples import Example, tokenize
from dart_jax.sft.token_weights import find_passage, span_token_weights, token_weights

TEXT = "Not so. It is."
OFFSETS = [(0, 3), (3, 6), (6, 7), (7, 10), (10, 13), (13, 14), (14, 14)]
NORMALIZATIONS = ("weighted_token_mean", "token_mean", "example_mean")


def test_the_case_of_the_docstring():
    found = span_token_weights(TEXT, "It is.", 3.0, OFFSETS)
    assert found == (1, 1, 1, 3, 3, 3, 1)


def test_no_span_or_an_unknown_passage_leaves_all_at_one():
    assert token_weights((), OFFSETS) == (1.0,) * 7
    for passage in ("", "   ", '"..."', "It was"):
        assert span_token_weights(TEXT, passage, 3.0, OFFSETS) == (1.0,) * 7


def test_a_cut_token_belongs_to_the_span_with_more_of_it():
    spans = (WeightSpan(0, 4, 2.0), WeightSpan(4, 9, 0.0))
    assert token_weights(spans, [(0, 4), (3, 5), (3, 6), (4, 9), (8, 12), (9, 12)]) == (
        *(2.0, 2.0, 0.0),
        *(0.0, 0.0, 1.0),
    )


@pytest.mark.parametrize(
    "passage", ["b  C", "B c", '"b c"', "\u201cb\nc\u2026\u201d", "**b c**", " b c. "]
)
def test_a_quote_is_found_as_judges_write_it(passage):
    assert find_passage("a b\nc d", passage) == (2, 5)


def test_a_passage_is_no_pattern():
    assert find_passage("is it (a|b) or what", "(A|B)") == (6, 11)
    assert find_passage("is it a or what", "(a|b)") is None


@pytest.mark.parametrize(
    ("start", "end", "weight", "message"),
    [
        (3, 3, 1.0, "no character"),
        (-1, 2, 1.0, "no character"),
        (0, 2, -1.0, "weight: -1"),
        (0, 2, float("nan"), "weight: nan"),
        (0, 2, float("inf"), "weight: inf"),
    ],
)
def test_a_bad_span_is_refused(start, end, weight, message):
    with pytest.raises(ValueError, match=message):
        WeightSpan(start, end, weight)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1.0,), "e: 1 token weights for 2"), ((1.0, -1.0), "e: a token weight is negative")],
)
def test_an_example_checks_its_token_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        Example("e", (1, 2, 3), 1, 1.0, token_weights=weights)


def test_targets_spans_become_weights_of_the_completions_tokens(tokenizer):
    """With bytes as tokens, a span of n bytes is n tokens, after any prompt."""
    text = "Déjà vu. Nothing.\nConclusion: NO"
    span = WeightSpan(text.index("vu"), text.index("vu") + 3, 2.5)
    target = Target("q", "distill", text, weight=2.0, spans=(span,))
    question = Question("q", "D1", Condition.EQUAL, "Alike?", 0, "s")
    plain, marked = tokenize(
        [dataclasses.replace(target, spans=()), target], {"q": question}, tokenizer, 4096
    )
    assert plain.token_weights is None and plain.tokens == marked.tokens
    before = len("Déjà ".encode())
    after = len(text.encode()) - before - 3 + 1
    assert marked.token_weights == (1.0,) * before + (2.5,) * 3 + (1.0,) * after
    row = fill_row([marked], 0, len(marked.tokens))
    assert row.loss_weights[row.loss_weights > 0].tolist() == [
        2.0 * weight for weight in marked.token_weights
    ]
    assert marked.weight_mass == pytest.approx(row.loss_weights.sum())


@pytest.mark.parametrize("prefix", [0, 5])
def test_weights_follow_their_tokens_into_packed_rows(prefix, make_examples):
    examples = with_weights(make_examples(20, weights=(1.0, 3.0)))
    row = fill_row(examples, prefix, 800)
    for segment, example in enumerate(examples, 1):
        mine = row.segment_ids == segment
        supervised = len(example.token_weights)
        found = row.loss_weights[mine][-supervised - 1 :]
        np.testing.assert_allclose(
            found, [*(example.weight * w for w in example.token_weights), 0.0], rtol=1e-6
        )


def with_weights(examples, values=(0.0, 0.5, 1.0, 3.0)):
    """Token weights in turn; the last of each example is never 0."""
    rng = np.random.default_rng(3)
    return [
        dataclasses.replace(
            e,
            token_weights=(
                *rng.choice(values, len(e.tokens) - e.prompt_length - 1).tolist(),
                2.0,
            ),
        )
        for e in examples
    ]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("packing", ["segments", "shared_prefix"])
def test_packed_is_unpacked(
    packing, normalization, make_examples, make_batch, run_gradients, assert_close
):
    examples = with_weights(make_examples(8, weights=(1.0, 3.0)))
    found = run_gradients(*make_batch(examples, packing=packing), normalization)
    assert_close(found, run_gradients(*make_batch(examples), normalization))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_ones_change_nothing(normalization, make_examples, make_batch, run_gradients, assert_close):
    plain = make_examples(4)
    ones = [
        dataclasses.replace(e, token_weights=(1.0,) * (len(e.tokens) - e.prompt_length))
        for e in plain
    ]
    assert_close(
        run_gradients(*make_batch(ones), normalization),
        run_gradients(*make_batch(plain), normalization),
        rel=1e-7,
    )


@pytest.mark.parametrize("normalization", ["token_mean", "example_mean"])
def test_equal_token_weights_are_an_example_weight(
    normalization, make_examples, make_batch, run_gradients, assert_close
):
    """All tokens of an example at 3: as the example at 3, under every normalization."""
    plain = make_examples(4)
    tripled = [
        dataclasses.replace(e, token_weights=(3.0,) * (len(e.tokens) - e.prompt_length))
        for e in plain
    ]
    heavy = [dataclasses.replace(e, weight=3.0) for e in plain]
    assert_close(
        run_gradients(*make_batch(tripled), normalization),
        run_gradients(*make_batch(heavy), normalization),
    )


def test_one_heavy_token_under_each_normaliser(
    make_examples, make_batch, run_gradients, assert_close
):
    """From the loss of each token alone, the three formulas of the module's docstring."""
    example = max(make_examples(8), key=lambda e: len(e.tokens) - e.prompt_length)
    count = len(example.tokens) - example.prompt_length
    weights = np.resize([2.0, 0.0, 1.0], count)

    def loss(token_weights, normalization):
        changed = dataclasses.replace(
            example, weight=2.0, token_weights=tuple(map(float, token_weights))
        )
        return float(run_gradients(*make_batch([changed], rows=1), normalization)[1])

    each = np.array([loss(row, "weighted_token_mean") for row in np.eye(count)])
    supervised = (weights > 0).sum()
    expected = {
        "weighted_token_mean": (weights * each).sum() / weights.sum(),
        "token_mean": 2.0 * (weights * each).sum() / supervised,
        "example_mean": 2.0 * (weights * each).sum() / supervised,
    }
    for normalization, value in expected.items():
        assert loss(weights, normalization) == pytest.approx(value, rel=1e-5), normalization


def test_a_token_weight_is_that_many_copies_of_the_token(
    make_examples, make_batch, run_gradients, assert_close
):
    """weighted_token_mean: weights 3, 1, 0, ... as the first token three times, the second once."""
    example = max(make_examples(8), key=lambda e: len(e.tokens) - e.prompt_length)
    count = len(example.tokens) - example.prompt_length
    assert count > 3

    def only(*places):
        weights = np.zeros(count)
        weights[list(places)] = 1.0
        return dataclasses.replace(example, token_weights=tuple(weights.tolist()))

    copies = [only(0, 1), only(0), only(0)]
    once = dataclasses.replace(example, token_weights=(3.0, 1.0, *(0.0,) * (count - 2)))
    assert_close(run_gradients(*make_batch([once])), run_gradients(*make_batch(copies)))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_divisors_count_what_has_a_weight(data):
    """Whole rows by hand: the divisor of each normalization under token weights, zeros included."""
    sizes = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    examples = []
    for index, size in enumerate(sizes):
        weights = data.draw(st.tuples(*[st.sampled_from([0.0, 0.5, 2.0])] * size))
        examples.append(
            Example(f"e{index}", tuple(range(1, size + 3)), 2, 3.0, token_weights=weights)
        )
    row = jax.tree.map(lambda x: jnp.asarray(x[None]), fill_row(examples, 0, 30))
    mass = sum(3.0 * sum(e.token_weights) for e in examples)
    supervised = sum(w > 0 for e in examples for w in e.token_weights)
    with_any = sum(any(w > 0 for w in e.token_weights) for e in examples)
    expected = (mass, supervised, with_any)
    for normalization, divisor in zip(NORMALIZATIONS, expected, strict=True):
        share = normalised_weights(row, normalization, len(examples))[1]
        assert float(share) == pytest.approx(divisor)
