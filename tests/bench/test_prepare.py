"""Jobs: which examples, how the small ones are cut from the large one, random ones."""

import dataclasses
from collections import Counter

import pytest
import yaml

from dart_jax.bench.jobs import TrainJob
from dart_jax.bench.prepare import check_job, mini_targets, random_job, run_targets, tune_job
from dart_jax.model.config import LoraConfig
from dart_jax.records import Target, write_jsonl
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import make_plan
from tests.tiny_model import CONFIG


def make_job(lengths, **sft):
    examples = tuple(
        Example(f"e{index}", tuple(range(n)), 1, 1.0) for index, n in enumerate(lengths)
    )
    rates = tuple(0.0 for _ in range(99))
    return TrainJob("folder", "adapter", examples, LoraConfig(), SftConfig(**sft), rates, 0)


def test_mini_targets_are_spread_over_the_families():
    targets, questions = mini_targets(16)
    assert [target.question_id for target in targets] == [q.id for q in questions]
    assert set(Counter((q.benchmark, q.condition) for q in questions).values()) == {1}
    for target, question in zip(targets, questions, strict=True):
        assert target.completion.endswith(f"\nConclusion: {question.gold}")
        assert target.weight == 1.0


def test_targets_of_a_run(tmp_path):
    _, questions = mini_targets(3)
    targets = [Target(q.id, "distill", f"Because.\nConclusion: {q.gold}", 1.0) for q in questions]
    write_jsonl(tmp_path / "teach/targets.jsonl", targets)
    text = yaml.safe_dump({"data": {"suite": "mini"}, "run": {"name": "before"}})
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    found, all_questions = run_targets(tmp_path, 2)
    assert found == targets[:2]
    assert {q.id for q in questions} <= {q.id for q in all_questions}


def test_the_check_has_no_dropout_and_two_updates_on_one_batch():
    job = check_job(make_job([5, 4, 3, 2], batch_size=2, epochs=7), 3)
    assert [example.id for example in job.examples] == ["e0", "e1", "e2"]
    assert job.lora == dataclasses.replace(LoraConfig(), dropout=0.0)
    assert job.steps_per_epoch == 1
    assert len(job.learning_rates) == 2
    assert job.learning_rates[0] == pytest.approx(job.sft.learning_rate)


def test_tuning_examples_are_spread_over_the_lengths():
    job = tune_job(make_job([3, 9, 5, 7, 2, 8, 4, 6], batch_size=2, epochs=7), 4)
    assert [len(example.tokens) for example in job.examples] == [9, 7, 5, 3]
    assert job.sft.epochs == 1
    assert len(job.learning_rates) == job.steps_per_epoch == 2
    assert len(tune_job(make_job([3, 9]), 4).examples) == 2


def test_random_examples_pack_without_a_gap():
    job = random_job(CONFIG, rows=2, row_length=512, steps=3, epochs=2, lora=LoraConfig())
    plan = make_plan(job.examples, job.sft, epochs=2, seed=0)
    assert len(plan) == 2 * job.steps_per_epoch == len(job.learning_rates) == 6
    assert plan[0].batch.tokens.shape == (1, 2, 512)
    assert plan.padding_share() == 0.0
