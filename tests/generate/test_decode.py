"""Decoding: what one row says, whoever shares its batch, its padding and its devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import (
    BLOCK,
    PROMPT_BUCKET,
    Prompt,
    PromptTooLong,
    decode,
    pad_prompts,
    prompt_batches,
)
from dart_jax.generate.engine import DecodeSpec, decode_block, prefill
from dart_jax.generate.sampling import row_keys, sample
from dart_jax.model.llama import unstack
from dart_jax.model.lora import merge_lora
from dart_jax.records import StopReason

GREEDY = DecodeConfig(temperature=0.0, max_new_tokens=20, batch_size=8)
SAMPLED = DecodeConfig(temperature=0.8, top_p=0.95, max_new_tokens=20, batch_size=8)
SCALE = 3.0


def random_prompts(lengths) -> list[Prompt]:
    rng = np.random.default_rng(0)
    return [
        Prompt(f"q{i}", tuple(map(int, rng.integers(5, 100, n)))) for i, n in enumerate(lengths)
    ]


PROMPTS = random_prompts([3, 41, 17, 1, 64, 9, 30, 12])


def by_id(found):
    return {continuation.id: continuation for continuation in found}


def said(model, prompts, config, lora_params=None, scale=0.0, seed=5, **settings):
    """Tokens and stop by id."""
    found = decode(model, lora_params or {}, scale, prompts, config, seed=seed, **settings)
    return {c.id: (c.tokens, c.stop) for c in found}


@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
def test_decoding_is_running_the_whole_row_again_for_every_token(
    config, adapted, model, lora_params, logits
):
    adapter = (lora_params, SCALE) if adapted else ({}, 0.0)
    found = said(model, PROMPTS, config, *adapter)
    choose = jax.jit(sample, static_argnames=("temperature", "top_p"))
    settings = {"temperature": config.temperature, "top_p": config.top_p}
    for prompt in PROMPTS:
        row, key = list(prompt.tokens), row_keys(5, [prompt.id])
        for step in range(config.max_new_tokens):
            last = jnp.asarray(logits(model, row, *adapter)[-1:])
            row.append(int(choose(last, key, jnp.int32(step), **settings)[0]))
            if row[-1] in model.tokenizer.stop_ids:
                break
        new = tuple(row[len(prompt.tokens) :])
        if new[-1] in model.tokenizer.stop_ids:
            assert found[prompt.id] == (new[:-1], StopReason.EOS)
        else:
            assert found[prompt.id] == (new, StopReason.LENGTH)


def test_texts_differ_where_prompts_seeds_and_adapters_do(model, lora_params):
    """The identities of this file compare texts that depend on what is varied."""
    texts = [said(model, PROMPTS, SAMPLED, *adapter, seed=seed) for adapter, seed in (
        (({}, 0.0), 5), (({}, 0.0), 6), ((lora_params, SCALE), 5)
    )]  # fmt: skip
    assert len({row for text in texts for row in text.values()}) == 3 * len(PROMPTS)


def test_alone_in_any_order_and_under_any_padding_is_the_same(model):
    together = said(model, PROMPTS, SAMPLED)
    assert list(together) == ["q4", "q1", "q6", "q2", "q7", "q5", "q0", "q3"]  # by length
    assert said(model, PROMPTS[::-1], SAMPLED) == together
    single = dataclasses.replace(SAMPLED, batch_size=1)
    for prompt in PROMPTS[:3]:
        assert said(model, [prompt], single) == {prompt.id: together[prompt.id]}
    long = Prompt("long", (50,) * (PROMPT_BUCKET + 1))
    wider = said(model, [*PROMPTS[:7], long], SAMPLED)
    assert wider.pop("long") and wider == {id: together[id] for id in wider}


@pytest.mark.parametrize(("shape", "scale"), [((8, 1, 1), 0.0), ((2, 2, 2), SCALE)])
def test_eight_devices_are_one(shape, scale, model, on_mesh, lora_params):
    adapter = (lora_params, scale) if scale else ({}, 0.0)
    spread = on_mesh(model, *shape)
    assert said(spread, PROMPTS, SAMPLED, *adapter) == said(model, PROMPTS, SAMPLED, *adapter)


def start(model, spec, lora_params=None, scale=0.0):
    """The batch of PROMPTS after its prefill."""
    tokens, lengths = pad_prompts([prompt.tokens for prompt in PROMPTS], PROMPT_BUCKET)
    keys = row_keys(5, [prompt.id for prompt in PROMPTS])
    layers = unstack(lora_params) if lora_params else {}
    return prefill(model.decode_params, layers, jnp.float32(scale), tokens, lengths, keys, spec)


def test_adapter_of_scale_0_is_exactly_the_base(model, lora_params):
    """Every key and value of the prompts to the last bit, and every token."""
    spec = DecodeSpec(model.config, 0.8, 0.95, 20, model.tokenizer.stop_ids)
    base, adapted = start(model, spec), start(model, spec, lora_params, 0.0)
    jax.tree.map(np.testing.assert_array_equal, base.cache, adapted.cache)
    assert said(model, PROMPTS, SAMPLED, lora_params, 0.0) == said(model, PROMPTS, SAMPLED)


def test_adapter_is_its_merged_weights(model, lora_params):
    merged = merge_lora(model.base_params, lora_params, SCALE)
    merged = dataclasses.replace(model, base_params=merged)
    assert said(model, PROMPTS, SAMPLED, lora_params, SCALE) == said(merged, PROMPTS, SAMPLED)


def test_a_block_counts_only_rows_that_are_going(model):
    """A row that ended keeps its count and its tokens; the others go on."""
    spec = DecodeSpec(model.config, 0.0, 1.0, 20, ())
    going = np.arange(len(PROMPTS)) % 2 == 0
    first = start(model, spec)._replace(done=jnp.asarray(~going))
    later = decode_block(first, model.decode_params, {}, jnp.float32(0), spec, BLOCK)
    np.testing.assert_array_equal(later.count, np.where(going, 1 + BLOCK, 1))
    np.testing.assert_array_equal((np.asarray(later.tokens) != 0).sum(1), later.count)


CHAINS = (
    ["a", "They", " are", "\nConclusion", ": ", "YES", "\n", " go", " on", "..."],
    ["b", "x", "y", "NO\n"],
    ["c", "d", "e", "<eot>"],
    ["f", "<eos>"],
    ["g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w"],
)


@pytest.fixture(scope="module")
def writer(chains):
    return chains(*CHAINS)


def test_every_stop(writer, ids):
    """One batch with a row of each kind; the noise cannot change what is certain."""
    prompts = [Prompt(first, ids("z", first)) for first in "abcfg"]
    found = by_id(decode(writer, {}, 0.0, prompts, SAMPLED, seed=0))
    assert {id: (c.text, c.stop) for id, c in found.items()} == {
        "a": ("They are\nConclusion: YES", StopReason.CONCLUSION),
        "b": ("xy" + "NO\n" * 18, StopReason.LENGTH),
        "c": ("de", StopReason.EOS),
        "f": ("", StopReason.EOS),
        "g": ("hijklmnopqrstuvw" + "w" * 4, StopReason.LENGTH),
    }
    assert found["a"].tokens == ids("They", " are", "\nConclusion", ": ", "YES")
    assert found["c"].tokens == ids("d", "e") and found["f"].tokens == ()
    assert len(found["g"].tokens) == SAMPLED.max_new_tokens


@pytest.mark.parametrize(
    ("chain", "text", "last"),
    [
        (["a", "\nConclusion", ": ", "NO\n", " go"], "\nConclusion: NO", "NO\n"),
        (["a", "\nConclusion", ": ", "YES", " ", "\n", "They"], "\nConclusion: YES ", " "),
        (["a", "\nConclusion", ": ", "YES", "\n", "<eot>"], "\nConclusion: YES", "YES"),
        # The line ends in the very last token that was allowed.
        (["a", *"bcdefghijklmno", "\nConclusion", ": ", "YES", "\n"], None, "YES"),
    ],
    ids=["newline-in-token", "space-before-newline", "eos-behind", "at-the-limit"],
)
def test_text_ends_exactly_at_the_conclusion_line(chain, text, last, chains, ids):
    config = dataclasses.replace(GREEDY, batch_size=1, max_new_tokens=18)
    [found] = decode(chains(chain), {}, 0.0, [Prompt("q", ids("a"))], config, seed=0)
    assert found.stop is StopReason.CONCLUSION
    assert found.text == (text or "bcdefghijklmno\nConclusion: YES")
    assert found.tokens == ids(*chain[1 : chain.index(last) + 1])


def test_a_line_that_may_still_grow_is_no_stop(chains, ids):
    """`Conclusion: YES and ...`; and EOS right behind the line stays an EOS stop."""
    config = dataclasses.replace(GREEDY, batch_size=1, max_new_tokens=18)
    grows = chains(["a", "\nConclusion", ": ", "YES", " and", " alike", "\n", "<eot>"])
    [found] = decode(grows, {}, 0.0, [Prompt("q", ids("a"))], config, seed=0)
    assert (found.text, found.stop) == ("\nConclusion: YES and alike\n", StopReason.EOS)
    ends = chains(["a", "\nConclusion", ": ", "YES", "<eot>"])
    [found] = decode(ends, {}, 0.0, [Prompt("q", ids("a"))], config, seed=0)
    assert (found.text, found.stop) == ("\nConclusion: YES", StopReason.EOS)


def test_without_the_conclusion_stop_rows_go_on(writer, ids):
    config = dataclasses.replace(GREEDY, batch_size=1, max_new_tokens=18)
    prompt = Prompt("q", ids("a"))
    [found] = decode(writer, {}, 0.0, [prompt], config, seed=0, stop_at_conclusion=False)
    assert found.text == "They are\nConclusion: YES\n go on" + "..." * 10
    assert found.stop is StopReason.LENGTH


def test_no_stop_before_the_least_number_of_tokens(writer, ids):
    """The second best token of this model is arbitrary; no stop token may be it."""
    config = dataclasses.replace(GREEDY, batch_size=1, max_new_tokens=18)
    prompt = Prompt("q", ids("c"))  # d e <eot>
    for least, count in ((0, 2), (2, 2), (3, 18)):
        [found] = decode(writer, {}, 0.0, [prompt], config, seed=0, min_new_tokens=least)
        assert found.tokens[:2] == ids("d", "e")
        assert len(found.tokens) == count
        assert not set(found.tokens) & set(writer.tokenizer.stop_ids)


def test_resumed_is_uninterrupted(model):
    """`done` ids are not decoded again, and the others say what they would have said."""
    config = dataclasses.replace(SAMPLED, batch_size=3)
    batches = []
    full = decode(model, {}, 0.0, PROMPTS, config, seed=5, on_batch=batches.append)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert [c for batch in batches for c in batch] == full
    done = {"q4", "q1", "q6", "q7"}  # the whole first batch, and one of the second
    again = []
    rest = decode(model, {}, 0.0, PROMPTS, config, seed=5, done=done, on_batch=again.append)
    assert rest == [c for c in full if c.id not in done]
    assert [len(batch) for batch in again] == [2, 2]
    everything = {prompt.id for prompt in PROMPTS}
    assert decode(model, {}, 0.0, PROMPTS, config, seed=5, done=everything) == []
    assert decode(model, {}, 0.0, [], config, seed=5) == []


def test_prompt_too_long_is_named_before_anything_is_decoded(model):
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, context_length=60))
    fits, too_long = Prompt("fits", (9,) * 40), Prompt("N1-diff-0007", (9,) * 41)
    seen = []
    with pytest.raises(PromptTooLong, match=r"N1-diff-0007: a prompt of 41 tokens and 20 new"):
        decode(small, {}, 0.0, [fits, too_long], GREEDY, seed=0, on_batch=seen.append)
    assert not seen
    single = dataclasses.replace(GREEDY, batch_size=1)
    [found] = decode(small, {}, 0.0, [fits], single, seed=0)
    assert found.id == "fits"


def test_batches_are_of_similar_lengths_and_hold_every_prompt():
    batches = list(prompt_batches(PROMPTS, 3))
    assert [[len(p.tokens) for p in batch] for batch in batches] == [
        [64, 41, 30],
        [17, 12, 9],
        [3, 1],
    ]
    equal = [Prompt(id, (1, 2)) for id in "cab"]
    assert [p.id for p in next(prompt_batches(equal, 3))] == ["a", "b", "c"]


def test_padding_by_hand():
    padded, lengths = pad_prompts([(7, 8, 9), (5,)], bucket=4)
    np.testing.assert_array_equal(padded, [[7, 8, 9, 0], [5, 0, 0, 0]])
    np.testing.assert_array_equal(lengths, [3, 1])
    assert pad_prompts([(1,) * 5], bucket=4)[0].shape == (1, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_new_tokens", 0),
        ("batch_size", 0),
    ],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=rf"decode\.{key}: {value}"):
        DecodeConfig(**{key: value})
