"""Each side's session alone: padding, stops, prompts and adapters of a run.

The chain is a Llama whose layers are zero, with one-hot embeddings and a head that maps each
token to a next one: what it writes is known.
"""

from collections import Counter

import numpy as np
import pytest
import yaml

from dart_jax.bench.generate_job import ADAPTED, BASE, BenchPrompt, GenerateJob, GenerateVariant
from dart_jax.bench.generate_prepare import mini_sources, random_adapter, run_sources
from dart_jax.bench.hf_generate import batches, pad_left
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import StopReason

ADDED = ["Ages", " differ", "\n\n", "Conclusion:", " YES"]
NEWLINE = "\u010a"  # as byte-level vocabularies write it
CONCLUDED = ["\n\n", "Conclusion:", " YES", NEWLINE, "Ages", "<eot>"]


@pytest.fixture(scope="module")
def chain(tiny_model, tmp_path_factory):
    """A function: the folder of a model that writes these tokens after a `.`, over and over."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    raw = transformers.AutoTokenizer.from_pretrained(tiny_model)
    raw.add_tokens(ADDED)
    size = len(raw)

    def make(text):
        folder = tmp_path_factory.mktemp("chain")
        raw.save_pretrained(folder)
        config = transformers.LlamaConfig(
            vocab_size=size,
            hidden_size=size + size % 2,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=False,
        )
        model = transformers.LlamaForCausalLM(config)
        ids = raw.convert_tokens_to_ids([".", *text])
        assert len(set(ids)) == len(ids), "a token has one successor"
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 2:
                    weight.zero_()
            model.model.embed_tokens.weight.fill_diagonal_(1.0)
            for token, following in zip(ids, ids[1:] + ids[:1], strict=True):
                model.lm_head.weight[following, token] = 1.0
        model.save_pretrained(folder)
        return folder

    return make


def answers(folder, adapter, module, variant, **changes):
    """A round over three prompts of several lengths, and the tokenizer."""
    tokenizer = load_tokenizer(folder)
    [dot] = tokenizer.encode_text(".")
    rows = [(9, 8, 7, dot), (5, dot), (9, dot, 8, 7, 6, dot)]
    prompts = tuple(BenchPrompt(f"q{index}", row) for index, row in enumerate(rows))
    job = GenerateJob(str(folder), str(adapter), prompts, **changes)
    session = module.open_session(job, variant)
    session.warm_up()
    assert session.describe()["platform"] == "cpu"
    assert session.matmul_rate() > 1e8
    return session.round(0), tokenizer


STOPS = [
    (CONCLUDED, StopReason.EOS, "\n\nConclusion: YES\nAges"),  # goes on behind its conclusion
    (["Ages", " differ", "<eos>"], StopReason.EOS, "Ages differ"),
    (["Ages", " differ", "<eot>"], StopReason.EOS, "Ages differ"),
    (["Ages", " differ"], StopReason.LENGTH, "Ages differ.Ages differ.Ages differ"),
]


@pytest.mark.parametrize(
    ("side", "chain_of", "stop", "text"),
    [*(("ours", *one) for one in STOPS), *(("hf", *one) for one in STOPS), ("release", *STOPS[0])],
)
def test_natural_stops(side, chain_of, stop, text, chain, tmp_path):
    """`release` is `hf` with both models in memory."""
    from dart_jax.bench import hf_generate, ours_generate

    folder = chain(chain_of)
    adapter = random_adapter(folder, tmp_path / "adapter", 0)
    module = ours_generate if side == "ours" else hf_generate
    variant = GenerateVariant(side, "float32", 2)
    settings = {"new_tokens": 8, "natural_stops": True}
    found, tokenizer = answers(folder, adapter, module, variant, **settings)
    assert found.stops == {BASE: {stop.value: 3}, ADAPTED: {stop.value: 3}}
    assert found.pairs == 3
    for name in (BASE, ADAPTED):
        assert {tokenizer.decode(a.tokens).rstrip() for a in found.answers[name]} == {text}


@pytest.mark.parametrize("side", ["ours", "hf"])
def test_a_fixed_number_ends_at_nothing_else(side, chain, tmp_path):
    from dart_jax.bench import hf_generate, ours_generate

    folder = chain(["Ages", " differ", "<eos>"])
    adapter = random_adapter(folder, tmp_path / "adapter", 0)
    module = ours_generate if side == "ours" else hf_generate
    variant = GenerateVariant(side, "bfloat16", 3)
    found, _ = answers(folder, adapter, module, variant, new_tokens=5)
    assert found.new_tokens == 2 * 3 * 5
    assert found.stops == {BASE: {"length": 3}, ADAPTED: {"length": 3}}
    assert found.report().endswith("new tokens/s")


def test_prompts_are_padded_on_the_left():
    ids, mask = pad_left([(1, 2, 3), (4,)], 9)
    np.testing.assert_array_equal(ids, [[1, 2, 3], [9, 9, 4]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [0, 0, 1]])


def test_batches_are_cut_from_sorted_lengths():
    prompts = [BenchPrompt(str(n), (0,) * n) for n in (3, 9, 5, 7, 2)]
    assert batches(prompts, 2) == [[1, 3], [2, 0], [4]]


def test_mini_questions_are_spread_over_the_families():
    questions, model, adapter = mini_sources(None)
    assert set(Counter((q.benchmark, q.condition) for q in questions[:16]).values()) == {1}
    assert (model, adapter) == ("smollm2-135m-instruct", None)


def test_a_run_gives_its_base_its_questions_and_m_dart(tiny_model, tmp_path):
    text = yaml.safe_dump({"model": {"path": str(tiny_model)}, "run": {"name": "before"}})
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="M_DART"):
        run_sources(tmp_path)
    folder = random_adapter(tiny_model, tmp_path / "adapters/M_DART", 0)
    questions, model, adapter = run_sources(tmp_path)
    assert (model, adapter) == (str(tiny_model), folder.resolve())
    assert len({q.id for q in questions}) == len(questions) == 320
