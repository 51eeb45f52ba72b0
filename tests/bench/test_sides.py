"""Each side's decoding session alone: stops, and the models of a run.

The chain is a Llama whose layers are zero, with one-hot embeddings and a head that maps each
token to a next one: what it writes is known.
"""

import pytest
import yaml

from dart_jax.bench import hf_generate, ours
from dart_jax.bench.jobs import ADAPTED, BASE, DecodeJob, Variant
from dart_jax.bench.prepare import random_adapter, run_sources
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


def answers(folder, adapter, variant, **changes):
    """Answers to three prompts of several lengths, and the tokenizer."""
    tokenizer = load_tokenizer(folder)
    [dot] = tokenizer.encode_text(".")
    prompts = {"q0": (9, 8, 7, dot), "q1": (5, dot), "q2": (9, dot, 8, 7, 6, dot)}
    job = DecodeJob(str(folder), str(adapter), prompts, **changes)
    session = (ours if variant.framework == "ours" else hf_generate).Decoding(job, variant)
    facts = session.facts()
    assert facts["platform"] == "cpu" and facts["matmul_flops_per_second"] > 1e8
    return session.round(0).result, tokenizer


STOPS = [
    (CONCLUDED, StopReason.EOS, "\n\nConclusion: YES\nAges"),  # goes on behind its conclusion
    (["Ages", " differ", "<eos>"], StopReason.EOS, "Ages differ"),
    (["Ages", " differ", "<eot>"], StopReason.EOS, "Ages differ"),
    (["Ages", " differ"], StopReason.LENGTH, "Ages differ.Ages differ.Ages differ"),
]


@pytest.mark.parametrize(
    ("side", "chain_of", "stop", "text"),
    [
        *(("ours", *one) for one in STOPS),
        *(("hf", *one) for one in STOPS),
        *(("hf_continuous", *one) for one in STOPS[2:]),
        *(("hf_mixed", *one) for one in STOPS[2:]),
        ("release", *STOPS[0]),
    ],
)
def test_natural_stops(side, chain_of, stop, text, chain, tmp_path):
    """`release` is `hf` with both models in memory."""
    folder = chain(chain_of)
    adapter = random_adapter(folder, tmp_path / "adapter", 0)
    settings = {"new_tokens": 8, "natural_stops": True}
    found, tokenizer = answers(folder, adapter, Variant(side, "float32", 2), **settings)
    assert found.stops == {BASE: [stop.value] * 3, ADAPTED: [stop.value] * 3}
    for rows in found.tokens.values():
        assert {tokenizer.decode(row).rstrip() for row in rows} == {text}


@pytest.mark.parametrize("side", ["ours", "hf", "hf_continuous", "hf_mixed"])
def test_a_fixed_number_ends_at_nothing_else(side, chain, tmp_path):
    folder = chain(["Ages", " differ", "<eos>"])
    adapter = random_adapter(folder, tmp_path / "adapter", 0)
    found, _ = answers(folder, adapter, Variant(side, "bfloat16", 3), new_tokens=5)
    assert found.new_tokens == 2 * 3 * 5
    assert found.stops == {BASE: ["length"] * 3, ADAPTED: ["length"] * 3}


def test_a_run_gives_its_base_its_questions_and_m_dart(tiny_model, tmp_path):
    text = yaml.safe_dump({"model": {"path": str(tiny_model)}, "run": {"name": "before"}})
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="M_DART"):
        run_sources(tmp_path)
    folder = random_adapter(tiny_model, tmp_path / "adapters/M_DART", 0)
    questions, model, adapter = run_sources(tmp_path)
    assert (model, adapter) == (str(tiny_model), folder.resolve())
    assert len({q.id for q in questions}) == len(questions) == 320
