"""A team's own questions, completions and weights reach the targets of the teach stage."""

import json

from dart_jax.config import parse
from dart_jax.pipeline.dry_run import estimates
from dart_jax.records import RejectedTarget, Target, read_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.stages import teach
from dart_jax.stages.context import Run
from dart_jax.stages.targets import UNLABELLED, label_questions

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


def opened(tmp_path, rows, *more):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["--run.root", str(tmp_path / "runs"), "--data.suite", "jsonl"]
    config, _, _ = parse(
        [*arguments, "--data.file", str(path), "--teacher.provider", "file", *more]
    )
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


def unlabelled():
    chat = [{"role": "user", "content": "Hello?"}]
    given = [{"id": f"chat-{n}", "messages": chat, "completion": " Hi. "} for n in range(10)]
    given[3] |= {"weight": 4.0, "token_weights": [{"text": "Hi", "weight": 2}]}
    return [*given, *({"id": f"bare-{n}", "question": f"Why {n}?"} for n in range(10))]


def test_unlabelled_rows_are_trained_on_as_written_or_recorded(tmp_path):
    run = opened(tmp_path, [*unlabelled(), *rows(weight=1.0)], "--data.split_by=none")
    teach.execute(run)
    targets = {t.question_id: t for t in read_jsonl(run.folder / "teach/targets.jsonl", Target)}
    rejected = read_jsonl(run.folder / "teach/rejected.jsonl", RejectedTarget)
    assert {t.completion for id, t in targets.items() if id.startswith("chat")} == {" Hi. "}
    assert [id for id, target in targets.items() if target.spans] == ["chat-3"]
    assert (targets["chat-3"].weight, targets["chat-3"].spans[0].weight) == (4.0, 2.0)
    assert {r.question_id: r.reasons for r in rejected} == {
        f"bare-{n}": [f"no_label: {UNLABELLED}"] for n in range(10)
    }
    assert targets.keys() | {r.question_id for r in rejected} == run.questions.keys()
    order = [question.id for question in run.splits["train"]]
    assert list(targets) == [id for id in order if id in targets]


def test_a_drifted_row_without_a_label_is_not_argued_for(tmp_path):
    run = opened(tmp_path, unlabelled(), "--data.split_by=none")
    labelled, reasons = label_questions(run, run.splits["train"], "repair")
    assert not labelled and set(reasons.values()) == {UNLABELLED}


def test_a_service_is_asked_for_labelled_rows_only(tmp_path):
    """Whatever the label is to be, a completion of an unlabelled row is its target."""
    service = ["--data.split_by=none", "--teacher.provider=openai", "--teacher.model=m"]

    def asked(*more):
        run = opened(tmp_path, [*unlabelled(), *rows(weight=1.0)], *service, *more)
        [(_, estimate)] = estimates(run, ["teach"])
        return estimate.most

    assert asked("--teacher.correction_rounds=0") == 20
    assert asked("--teacher.correction_rounds=0", "--teacher.label=predicted") == 30 + 30
