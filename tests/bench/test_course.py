"""The course of both contests from options to `--out`; the workers only say how fast they are.

`test_train` and `test_generate` have the real ones, which are slow.
"""

import json

import pytest

from dart_jax.bench import contest as contests
from dart_jax.bench import generate, train
from dart_jax.bench.foreign import environments
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Epoch, Round, TrainJob
from dart_jax.bench.options import GenerateOptions, TrainOptions
from dart_jax.bench.prepare import with_rates
from dart_jax.bench.worker import WorkerDied
from dart_jax.model.config import LoraConfig
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example

# Seconds of a round; what is not here takes 8.
SECONDS = {"shared_prefix": 1.0, "segments": 2.0, "none": 4.0, "packed": 3.0}
SECONDS |= {"ours": 1.0, "hf_mixed": 2.0, "vllm": 4.0}
NAMES = (BASE, ADAPTED)


class Said:
    """A worker that has done each round as soon as it is asked; some cannot load."""

    def __init__(self, job, variant, _):
        self.job, self.variant = job, variant

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def facts(self):
        if "compiled" in self.variant.kind or self.variant.framework == "hf_continuous":
            raise WorkerDied(f"{self.variant.name} ended in loading")
        return {"packing": self.variant.packing or "none"}

    def round(self, epoch):
        job, variant = self.job, self.variant
        if isinstance(job, TrainJob):
            seconds = SECONDS.get(variant.packing or variant.kind, 8.0)
            return Round(seconds, Epoch(2.0 - epoch / 2, 20), 10, None)
        tokens = {name: [[len(name)] * job.new_tokens for _ in job.prompts] for name in NAMES}
        stops = {name: ["length"] * job.amount for name in NAMES}
        return Round(SECONDS.get(variant.framework, 8.0), Answers(tokens, stops), 10, None)


@pytest.fixture(autouse=True)
def said(monkeypatch):
    monkeypatch.setattr(contests, "start", Said)


def test_training(tmp_path, monkeypatch):
    examples = tuple(Example(f"e{n}", tuple(range(n)), 1, 1.0) for n in range(8, 16))
    sft = SftConfig(epochs=2, batch_size=4)
    job = with_rates(TrainJob("m", None, examples, LoraConfig(), sft, (), 0))
    monkeypatch.setattr(train, "train_job", lambda *_: job)
    options = TrainOptions(
        examples=8,
        batch_size=4,
        tune_examples=4,
        rounds=2,
        peer_batches=(2, 4),
        ours_dtype=("bfloat16",),
        peer_dtype=("bfloat16",),
    )
    result = json.loads(json.dumps(train._suite(options, tmp_path)))
    assert set(result["failed"]) == {"compiled", "packed_compiled"}
    checked = {"plain", "supervised", "autocast", "adapter", "packed"}
    assert set(result["same_losses"]["peers"]) == checked
    assert set(result["same_losses"]["ours"]) == {"none", "segments", "shared_prefix"}

    # Batch sizes with one kind, the other kinds with one batch size.
    assert len(result["peers"]) == 2 + len(checked) - 1
    assert result["best_peer"].endswith("-packed")
    assert result["ratio_vs_best_peer"] == pytest.approx(3.0)
    ratios = {name: by["ratio_vs_best_peer"] for name, by in result["by_packing"].items()}
    assert ratios == pytest.approx({"none": 0.75, "segments": 1.5, "shared_prefix": 3.0})


def test_decoding(tmp_path, monkeypatch):
    prompts = {f"q{index}": (1, 2, 3) for index in range(8)}
    job = DecodeJob("m", "a", prompts, 16)
    monkeypatch.setattr(generate, "decode_job", lambda *_: job)
    monkeypatch.setattr(environments, "installed", lambda: ["vllm", "ctranslate2"])
    options = GenerateOptions(
        prompts=8,
        tune_prompts=4,
        rounds=1,
        natural_limit=32,
        peer_batches=(2,),
        ours_dtype=("bfloat16",),
        peer_dtype=("bfloat16",),
        modes=("fixed", "natural"),
    )
    result = json.loads(json.dumps(generate._measure(options, tmp_path)))
    assert set(result["same_tokens"]["peers"]) == {"hf", "hf_mixed", "vllm", "ctranslate2"}
    assert list(result["failed"]["check"]) == ["hf_continuous"]
    # CTranslate2 in its one type; vLLM with our slots.
    peers = {
        "hf-bfloat16-b2",
        "hf_mixed-bfloat16-b2",
        "vllm-bfloat16-b64",
        "ctranslate2-float32-b2",
    }
    assert set(result["peers"]) == peers
    assert result["best_peer"] == result["best_peer_natural"] == "hf_mixed-bfloat16-b2"
    assert result["ratio_vs_best_peer"] == result["ratio_vs_best_peer_natural"] == 2.0
    assert result["peers"]["vllm-bfloat16-b64"]["natural"]["stage"] == "tuning"
    assert "ratio_vs_release_settings" not in result
