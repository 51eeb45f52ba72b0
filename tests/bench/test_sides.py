"""Each side's session alone: padding, stops, training, and the models of a run.

The chain is a Llama whose layers are zero, with one-hot embeddings and a head that maps each
token to a next one: what it writes is known.
"""

import pytest
import yaml

from dart_jax.bench import hf, ours
from dart_jax.bench.jobs import ADAPTED, BASE, DecodeJob, Variant
from dart_jax.bench.prepare import random_adapter, random_job, run_sources
from dart_jax.model.config import LoraConfig
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import StopReason
from dart_jax.sft.examples import Example
from tests.tiny_model import CONFIG

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
    session = (ours if variant.framework == "ours" else hf).Decoding(job, variant)
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
    [*(("ours", *one) for one in STOPS), *(("hf", *one) for one in STOPS), ("release", *STOPS[0])],
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


@pytest.mark.parametrize("side", ["ours", "hf"])
def test_a_fixed_number_ends_at_nothing_else(side, chain, tmp_path):
    folder = chain(["Ages", " differ", "<eos>"])
    adapter = random_adapter(folder, tmp_path / "adapter", 0)
    found, _ = answers(folder, adapter, Variant(side, "bfloat16", 3), new_tokens=5)
    assert found.new_tokens == 2 * 3 * 5
    assert found.stops == {BASE: ["length"] * 3, ADAPTED: ["length"] * 3}


def test_the_peer_pads_prompts_on_the_left_and_labels_completions_only():
    pytest.importorskip("torch")
    assert hf.padded([(1, 2, 3), (4,)], 9, "left").tolist() == [[1, 2, 3], [9, 9, 4]]
    pair = [Example("a", (1, 2, 3, 4), 2, 1.0), Example("b", (1, 2), 1, 1.0)]
    found = {name: rows.tolist() for name, rows in hf.collate(pair).items()}
    assert found["input_ids"] == [[1, 2, 3, 4], [1, 2, 0, 0]]
    assert found["attention_mask"] == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert found["labels"] == [[-100, -100, 3, 4], [-100, 2, -100, -100]]


def test_the_peer_trains_with_gradient_checkpointing_and_a_fresh_adapter():
    pytest.importorskip("peft")
    lora = LoraConfig()
    job = random_job(CONFIG, rows=1, row_length=128, steps=2, epochs=2, lora=lora)
    session = hf.Training(job, Variant("hf", "bfloat16", 4, "layer"))
    first, second = session.round(0), session.round(1)
    assert first.result.padded_tokens == 256 and first.peak_device_bytes is None
    assert second.peak_rss_bytes >= first.peak_rss_bytes > 10_000_000
    assert second.result.loss < first.result.loss < 5, "ln 67 = 4.2"
    assert session.facts()["gradient_checkpointing"]
    assert session.facts()["adapter_dtype"] == "float32"


def test_a_run_gives_its_base_its_questions_and_m_dart(tiny_model, tmp_path):
    text = yaml.safe_dump({"model": {"path": str(tiny_model)}, "run": {"name": "before"}})
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="M_DART"):
        run_sources(tmp_path)
    folder = random_adapter(tiny_model, tmp_path / "adapters/M_DART", 0)
    questions, model, adapter = run_sources(tmp_path)
    assert (model, adapter) == (str(tiny_model), folder.resolve())
    assert len({q.id for q in questions}) == len(questions) == 320
