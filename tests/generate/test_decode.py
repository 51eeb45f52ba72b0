"""Decoding: what one row says, whoever shares its batch, its padding and its devices."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.generate import plan
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import PromptTooLong, _Batch, check_room, decode
from dart_jax.generate.plan import Request
from dart_jax.generate.sampling import row_keys, sample
from dart_jax.generate.stats import DecodeStats
from dart_jax.model.lora import merge_lora
from dart_jax.model.tokenizer import ChatTokenizer
from dart_jax.records import StopReason
from tests.tiny_model import random_params

GREEDY = DecodeConfig(temperature=0.0, max_new_tokens=20, slots=8)
SAMPLED = DecodeConfig(temperature=0.8, top_p=0.95, max_new_tokens=20, slots=8)
SCALE = 3.0


def random_prompts(lengths) -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request(f"q{i}", tuple(map(int, rng.integers(5, 100, n)))) for i, n in enumerate(lengths)
    ]


# Prefilled two at a time, padded to 32 tokens: each shape takes a second to compile.
PROMPTS = random_prompts([3, 25, 17, 1, 32, 9, 30, 12])


def by_id(found):
    return {continuation.id: continuation for continuation in found}


def said(model, prompts, config, lora_params=None, scale=0.0, seed=5, **settings):
    """Tokens and stop by id, of one model."""
    found = decode(
        model, {"M0": (lora_params or {}, scale)}, prompts, config, seed=seed, **settings
    )
    return {c.id: (c.tokens, c.stop) for c in found}


@pytest.mark.parametrize(
    ("config", "adapted"),
    [(GREEDY, False), (SAMPLED, False), (SAMPLED, True)],
    ids=["greedy-base", "sampled-base", "sampled-adapter"],
)
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
            row.append(int(choose(last, key, jnp.asarray([step]), **settings)[0]))
            if row[-1] in model.tokenizer.stop_ids:
                break
        new = tuple(row[len(prompt.tokens) :])
        if new[-1] in model.tokenizer.stop_ids:
            assert found[prompt.id] == (new[:-1], StopReason.EOS)
        else:
            assert found[prompt.id] == (new, StopReason.LENGTH)


def test_biases_and_norms_are_decoded_with(model, lora_params, logits):
    """What Qwen2 and Qwen3 add, in one layer and with an adapter: cached is uncached."""
    config = dataclasses.replace(model.config, num_layers=1, qkv_bias=True, qk_norm=True)
    other = dataclasses.replace(model, config=config, base_params=random_params(config))
    adapter = jax.tree.map(lambda weight: weight[:1], lora_params), SCALE
    prompt = PROMPTS[1]
    new, stop = said(other, [prompt], GREEDY, *adapter)[prompt.id]
    best = logits(other, [*prompt.tokens, *new], *adapter).argmax(-1)[len(prompt.tokens) - 1 :]
    assert new and tuple(best[: len(new)]) == new
    assert stop == StopReason.LENGTH or best[len(new)] in other.tokenizer.stop_ids


def test_texts_differ_where_prompts_seeds_and_adapters_do(model, lora_params):
    """The identities of this file compare texts that depend on what is varied."""
    texts = [said(model, PROMPTS, SAMPLED, *adapter, seed=seed) for adapter, seed in (
        (({}, 0.0), 5), (({}, 0.0), 6), ((lora_params, SCALE), 5)
    )]  # fmt: skip
    assert len({row for text in texts for row in text.values()}) == 3 * len(PROMPTS)


def test_alone_in_any_order_and_in_any_number_of_slots_is_the_same(model):
    together = said(model, PROMPTS, SAMPLED)
    assert list(together) == [prompt.id for prompt in PROMPTS]
    assert said(model, PROMPTS[::-1], SAMPLED) == together
    assert said(model, PROMPTS, dataclasses.replace(SAMPLED, slots=3)) == together
    for prompt in PROMPTS[:3]:
        assert said(model, [prompt], SAMPLED) == {prompt.id: together[prompt.id]}
    long = Request("long", (50,) * 100)
    wider = said(model, [*PROMPTS[:7], long], SAMPLED)
    assert wider.pop("long") and wider == {id: together[id] for id in wider}


def test_one_of_64_is_the_one_alone(model):
    many = random_prompts([5 + n % 24 for n in range(64)])
    config = dataclasses.replace(SAMPLED, slots=64)
    together = said(model, many, config)
    for prompt in many[::16]:
        assert said(model, [prompt], config) == {prompt.id: together[prompt.id]}


def test_a_prefix_computed_once_changes_nothing(model, lora_params):
    """Prompts that begin alike, for three models; with and without the prefix apart."""
    opening = tuple(map(int, np.random.default_rng(1).integers(5, 100, 70)))
    prompts = [dataclasses.replace(p, tokens=opening + p.tokens) for p in PROMPTS]
    asked = [dataclasses.replace(p, adapter=name) for p in prompts for name in ADAPTERS]
    stats, apart = DecodeStats(), DecodeStats()
    shared = decode(model, adapters(lora_params), asked, SAMPLED, seed=5, stats=stats)
    whole = decode(model, adapters(lora_params), asked, SAMPLED, seed=5, prefix=(), stats=apart)
    assert shared == whole
    assert ("prefix", 3, 64) in stats.shapes, "70 tokens, in multiples of 16"
    assert stats.prompt_tokens == apart.prompt_tokens - 64 * (len(asked) - 3)
    assert not any(kind == "prefix" for kind, _, _ in apart.shapes)


ADAPTERS = ("M0", "M_int", "M_DART")


def adapters(lora_params):
    """Two adapters, of other ranks and targets."""
    few = {
        name: {"A": 0.5 * w["A"][..., :3], "B": w["B"][:, :3]}
        for name, w in lora_params.items()
        if name in ("q", "down")
    }
    return {"M_int": (lora_params, SCALE), "M_DART": (few, 2.0)}


def test_a_row_among_other_models_is_the_row_of_its_model_alone(model, lora_params):
    """M0 in a pair is M0 alone; and the three do say different things."""
    config = dataclasses.replace(SAMPLED, slots=5)
    asked = [dataclasses.replace(p, adapter=name) for name in ADAPTERS for p in PROMPTS]
    mixed = decode(model, adapters(lora_params), asked, config, seed=5)
    assert [(c.id, c.adapter) for c in mixed] == [(r.id, r.adapter) for r in asked]
    for name in ADAPTERS:
        alone = [dataclasses.replace(p, adapter=name) for p in PROMPTS]
        only = {key: value for key, value in adapters(lora_params).items() if key == name}
        assert decode(model, only, alone, SAMPLED, seed=5) == [
            found for found in mixed if found.adapter == name
        ]
    assert len({found.tokens for found in mixed}) == len(mixed)


@pytest.mark.parametrize(("shape", "scale"), [((8, 1, 1), 0.0), ((2, 2, 2), SCALE)])
def test_eight_devices_are_one(shape, scale, model, on_mesh, lora_params):
    adapter = (lora_params, scale) if scale else ({}, 0.0)
    spread = on_mesh(model, *shape)
    assert said(spread, PROMPTS, SAMPLED, *adapter) == said(model, PROMPTS, SAMPLED, *adapter)


def test_adapter_of_scale_0_is_exactly_the_base(model, lora_params):
    assert said(model, PROMPTS, SAMPLED, lora_params, 0.0) == said(model, PROMPTS, SAMPLED)


def test_adapter_is_its_merged_weights(model, lora_params):
    merged = merge_lora(model.base_params, lora_params, SCALE)
    merged = dataclasses.replace(model, base_params=merged)
    assert said(model, PROMPTS, SAMPLED, lora_params, SCALE) == said(merged, PROMPTS, SAMPLED)


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
    prompts = [Request(first, ids("z", first)) for first in "abcfg"]
    found = by_id(decode(writer, {}, prompts, SAMPLED, seed=0))
    assert {id: (c.text, c.stop) for id, c in found.items()} == {
        "a": ("They are\nConclusion: YES\n go on" + "..." * 12, StopReason.LENGTH),
        "b": ("xy" + "NO\n" * 18, StopReason.LENGTH),
        "c": ("de", StopReason.EOS),
        "f": ("", StopReason.EOS),
        "g": ("hijklmnopqrstuvw" + "w" * 4, StopReason.LENGTH),
    }
    assert found["c"].tokens == ids("d", "e") and found["f"].tokens == ()
    assert len(found["g"].tokens) == SAMPLED.max_new_tokens


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (
            ["a", "\nConclusion", ": ", "YES", "\n", "They", " are", "<eot>"],
            "\nConclusion: YES\nThey are",
        ),
        (["a", "\nConclusion", ": ", "YES", "<eot>"], "\nConclusion: YES"),
        (
            ["a", "\nConclusion", ": ", "YES", " and", " alike", "\n", "<eot>"],
            "\nConclusion: YES and alike\n",
        ),
    ],
)
def test_an_answer_goes_on_behind_its_conclusion_line_to_the_end_of_the_turn(
    chain, text, chains, ids
):
    """Only so can a second line take the first one back, and what follows be scored."""
    config = dataclasses.replace(GREEDY, slots=1, max_new_tokens=18)
    [found] = decode(chains(chain), {}, [Request("q", ids("a"))], config, seed=0)
    assert (found.text, found.stop) == (text, StopReason.EOS)
    assert found.tokens == ids(*chain[1:-1])


def test_what_the_template_writes_before_the_end_of_turn_is_no_text(chains, ids, tokenizer):
    """`content + "\n<eot>"`: the newline neither ends an answer nor is a part of it."""
    hf = copy.deepcopy(tokenizer._tokenizer)
    hf.chat_template = hf.chat_template.replace("<eot>", "{{ '\n' }}<eot>")
    closing = ChatTokenizer(hf, "test")
    config = dataclasses.replace(GREEDY, slots=1, max_new_tokens=18)
    for chain, text in (
        (["a", "They", "\n", " are", "<eot>"], "They\n are"),
        (["a", "They", " are", "\n", "<eot>"], "They are"),
        (["a", "They", "\nConclusion", ": ", "YES", "\n", "<eot>"], "They\nConclusion: YES"),
    ):
        model = dataclasses.replace(chains(chain), tokenizer=closing)
        [found] = decode(model, {}, [Request("q", ids("a"))], config, seed=0)
        assert (found.text, found.stop) == (text, StopReason.EOS)


def test_what_the_template_writes_before_an_answer_is_no_text(chains, ids, tokenizer):
    """`' ' + content`: the blank is a part of the answer's first token."""
    hf = copy.deepcopy(tokenizer._tokenizer)
    blank = "{{ ' ' if m.role == 'assistant' }}{{ m.content }}"
    hf.chat_template = hf.chat_template.replace("{{ m.content }}", blank)
    opening = ChatTokenizer(hf, "test")
    config = dataclasses.replace(GREEDY, slots=1, max_new_tokens=18)
    for chain, text in (
        (["a", " are", " alike", "<eot>"], "are alike"),
        (["a", "They", " are", "<eot>"], "They are"),
    ):
        model = dataclasses.replace(chains(chain), tokenizer=opening)
        [found] = decode(model, {}, [Request("q", ids("a"))], config, seed=0)
        assert (found.text, found.tokens) == (text, ids(*chain[1:-1]))


def test_no_stop_before_the_least_number_of_tokens(writer, ids):
    """The second best token of this model is arbitrary; no stop token may be it."""
    config = dataclasses.replace(GREEDY, slots=1, max_new_tokens=18)
    prompt = Request("q", ids("c"))  # d e <eot>
    for least, count in ((0, 2), (2, 2), (3, 18)):
        [found] = decode(writer, {}, [prompt], config, seed=0, min_new_tokens=least)
        assert found.tokens[:2] == ids("d", "e")
        assert len(found.tokens) == count
        assert not set(found.tokens) & set(writer.tokenizer.stop_ids)


def test_rows_are_reported_once_as_they_end(writer, ids):
    """Short rows before long ones, each as the list has it; and nothing to do is no error."""
    prompts = [Request(first, ids(first)) for first in "gcf"]
    seen = []
    found = decode(writer, {}, prompts, GREEDY, seed=0, on_finished=seen.append)
    assert all(seen) and [c for some in seen for c in some] != found
    assert sorted((c for some in seen for c in some), key=lambda c: "gcf".index(c.id)) == found
    assert decode(writer, {}, [], GREEDY, seed=0) == []


def test_slots_are_refilled_and_given_up(writer, ids, monkeypatch):
    """Ten short rows beside one that goes on: its slots are fewer in the end, if that pays."""
    prompts = [Request("g", ids("g")), *(Request(f"c{i}", ids("z", "c")) for i in range(10))]
    stats, kept = DecodeStats(), DecodeStats()
    config = dataclasses.replace(GREEDY, max_new_tokens=40)
    unshrunk = decode(writer, {}, prompts, config, seed=0, stats=kept)
    monkeypatch.setattr(plan, "PROGRAM_TOKENS", 1)
    found = decode(writer, {}, prompts, config, seed=0, stats=stats)
    assert found == unshrunk
    assert {c.id: c.stop for c in found}["g"] is StopReason.LENGTH
    assert {rows for kind, rows, _ in stats.shapes if kind == "slots"} == {8, 4}
    assert {rows for kind, rows, _ in kept.shapes if kind == "slots"} == {8}
    assert stats.new_tokens == sum(len(c.tokens) for c in found) == 40 + 10 * 2
    # Two of the eight are prefilled at a time.
    assert {shape for shape in stats.shapes if shape[0] == "prefill"} == {("prefill", 2, 16)}


def test_near_the_end_the_model_that_writes_more_is_first(writer, ids):
    """Two slots for four pairs, once the first pair has shown who writes more."""
    asked = [
        Request(f"q{index}", ids("z", first), adapter=name)
        for index in range(4)
        for name, first in (("long", "g"), ("short", "c"))
    ]
    seen = []
    config = dataclasses.replace(GREEDY, slots=2, max_new_tokens=40)
    found = decode(writer, {}, asked, config, seed=0, on_finished=seen.append)
    order = [(c.id, c.adapter) for some in seen for c in some]
    assert sorted(order) == sorted((c.id, c.adapter) for c in found)
    assert order[0] == ("q0", "short") and order[-2:] == [("q2", "short"), ("q3", "short")]


def test_what_rows_have_written_is_told_after_each_block(writer, ids):
    """It grows to the answer, which is the same; an error of the listener ends decoding."""
    prompts = [Request(first, ids("z", first)) for first in "abcfg"]
    told = {}

    def listen(rows):
        for row in rows:
            assert row.stop is None
            told.setdefault(row.id, []).append(row)

    found = decode(writer, {}, prompts, SAMPLED, seed=0, on_growing=listen, few_shapes=True)
    assert found == decode(writer, {}, prompts, SAMPLED, seed=0)
    assert {id: [len(row.tokens) for row in rows] for id, rows in told.items()} == {
        id: [9, 17] for id in "abg"
    }
    for whole in found:
        for part in told.get(whole.id, []):
            assert whole.tokens[: len(part.tokens)] == part.tokens
            assert whole.text.startswith(part.text) and part.text

    def leave(rows):
        raise LookupError(len(rows))

    with pytest.raises(LookupError, match="3"):
        decode(writer, {}, prompts, SAMPLED, seed=0, on_growing=leave)


def test_texts_are_made_while_the_next_block_is_decoded(writer, ids, monkeypatch):
    """One slot: c ends in the first block, and g has begun when that is told."""
    events = []
    begin = _Batch._begin_block

    def begun(batch, slots, prefix):
        events.append("block")
        return begin(batch, slots, prefix)

    monkeypatch.setattr(_Batch, "_begin_block", begun)
    prompts = [Request("c", ids("z", "c")), Request("g", ids("g"))]
    config = dataclasses.replace(GREEDY, slots=1, max_new_tokens=12)
    decode(writer, {}, prompts, config, seed=0, on_finished=lambda some: events.append(some[0].id))
    assert events == ["block", "block", "c", "block", "g"]


def test_the_large_batches_of_a_gpu_change_no_answer(model, monkeypatch):
    config = dataclasses.replace(SAMPLED, slots="auto")
    small = said(model, PROMPTS, SAMPLED)
    stats = DecodeStats()
    monkeypatch.setattr(plan, "platform_of", lambda mesh: "gpu")
    assert said(model, PROMPTS, config, stats=stats) == small
    # Rows have no pages there, and all eight fit the slots.
    assert {kind for kind, _, _ in stats.shapes} == {"prefill", "slots"}
    assert ("slots", 8, 64) in stats.shapes


def test_two_requests_of_one_id_and_model_are_refused(model):
    with pytest.raises(ValueError, match="two requests for q0 under M0"):
        decode(model, {}, [PROMPTS[0], PROMPTS[0]], GREEDY, seed=0)


def test_a_prompt_too_long_is_its_own_failure(model):
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, context_length=60))
    fits, too_long = Request("fits", (9,) * 40), Request("N1-diff-0007", (9,) * 41)
    good, bad = decode(small, {}, [fits, too_long], GREEDY, seed=0)
    assert good.tokens and good.stop and not good.problem
    assert (bad.tokens, bad.text, bad.stop) == ((), "", None)
    assert "N1-diff-0007: a prompt of 41 tokens and 20 new ones do not fit" in bad.problem
    assert decode(small, {}, [fits], GREEDY, seed=0) == [good]
    assert check_room([fits, too_long], small, 20) == [too_long]
    with pytest.raises(PromptTooLong, match=r"N1-diff-0007.*every prompt"):
        check_room([too_long], small, 20)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_new_tokens", 0),
        ("slots", 0),
    ],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=rf"decode\.{key}: {value}"):
        DecodeConfig(**{key: value})
