"""A team's own questions, completions and weights reach the targets of the teach stage."""

import json

from dart_jax.config import parse
from dart_jax.records import Target, read_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.stages import teach
from dart_jax.stages.context import Run

TEXT = "The two groups differ in what the rule asks of them. One has a right that others lack."


def rows(weight):
    return [
        {
            "id": f"own-{label}-{n}",
            "question": f"Does rule {n} of section {label} ask the same of everybody?",
            "label": label,
            "completion": f"{TEXT}\nConclusion: {label}",
            "weight": weight + n,
        }
        for label in ("YES", "NO")
        for n in range(10)
    ]


def opened(tmp_path, rows):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["--run.root", str(tmp_path / "runs"), "--data.suite", "jsonl"]
    config, _, _ = parse([*arguments, "--data.file", str(path), "--teacher.provider", "file"])
    return Run(config, RunDir(config.run))


def test_completions_and_weights_become_targets(tmp_path):
    run = opened(tmp_path, rows(weight=1.5))
    teach.execute(run)
    targets = {t.question_id: t for t in read_jsonl(run.folder / "teach/targets.jsonl", Target)}
    assert targets.keys() == {question.id for question in run.splits["train"]}
    for id, target in targets.items():
        label, number = id.split("-")[1:]
        assert target.completion == f"{TEXT}\nConclusion: {label}"
        assert target.weight == 1.5 + int(number)


def test_another_weight_makes_the_stage_stale(tmp_path):
    before = teach.inputs(opened(tmp_path, rows(weight=1.5)))
    assert teach.inputs(opened(tmp_path, rows(weight=1.5))) == before
    after = teach.inputs(opened(tmp_path, rows(weight=2.5)))
    assert {key for key in before if before[key] != after[key]} == {"own"}
