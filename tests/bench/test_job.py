"""The job file that every process of a benchmark reads."""

import dataclasses
import json

import pytest

from dart_jax.bench.job import Job, Variant, example_counts, read_as, write_job
from dart_jax.model.config import LoraConfig
from dart_jax.model.presets import PRESETS
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example

EXAMPLES = (Example("a", (1, 2, 3, 4), 3, 1.0), Example("b", (5, 6), 1, 1.0))


def make_job(**changes):
    plain = Job("folder", None, EXAMPLES, LoraConfig(), SftConfig(), (1e-4, 0.0), 0)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize("model", ["folder", PRESETS["llama-3.2-3b"]])
def test_a_job_comes_back_as_it_was(model, tmp_path):
    job = make_job(model=model, sft=SftConfig(micro_batch_size=2, packing="none"))
    write_job(job, tmp_path / "job.json")
    assert read_as(Job, (tmp_path / "job.json").read_text("utf-8")) == job


def test_a_weighted_example_is_refused():
    heavy = dataclasses.replace(EXAMPLES[1], weight=2.0)
    with pytest.raises(ValueError, match="b: its weight is not 1"):
        make_job(examples=(EXAMPLES[0], heavy))


def test_steps_and_counts():
    assert make_job(sft=SftConfig(batch_size=2)).steps_per_epoch == 1
    assert make_job(sft=SftConfig(batch_size=1)).steps_per_epoch == 2
    assert make_job(examples=EXAMPLES * 4, sft=SftConfig(batch_size=3)).steps_per_epoch == 3
    assert example_counts(EXAMPLES) == {
        "examples": 2,
        "real_tokens": 6,
        "supervised_tokens": 2,
    }


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        (Variant("ours", "float32"), "ours-float32"),
        (Variant("hf", "bfloat16", 8), "hf-bfloat16-b8"),
        (Variant("hf", "bfloat16", 4, "layer"), "hf-bfloat16-b4-remat_layer"),
    ],
)
def test_a_variant_has_a_name_and_a_json_form(variant, name):
    assert variant.name == name
    assert read_as(Variant, json.dumps(dataclasses.asdict(variant))) == variant


def test_a_mistyped_variant_is_refused():
    with pytest.raises(ValueError, match="framework"):
        read_as(Variant, '{"framework": "theirs", "dtype": "float32"}')
