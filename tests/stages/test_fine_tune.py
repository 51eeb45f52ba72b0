"""The engine as a weighted fine-tuner, and rows without a label in the whole method."""

import json

import pytest

from dart_jax.commands.export import export
from dart_jax.data.custom_dataset import load_file
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.records import Generation, RejectedTarget, Target, read_jsonl
from dart_jax.run_dir import StaleStage, hash_path
from dart_jax.sft.examples import tokenize
from dart_jax.sft.metrics import LogLine
from dart_jax.sft.validation import read_validation
from dart_jax.train import main

CHAT = [{"role": "system", "content": "You sell tea."}, {"role": "user", "content": "Which tea?"}]
TEXT = "Mint and black tea. Which one may I bring?"
WEIGHTS = [1, 1, 1, 1, 0, 0, 0, 0, 3]
LABELLED = "The rule asks the same of both groups. Nobody is left out by it."


def chats(count, **more):
    return [{"id": f"chat-{n}", "messages": CHAT, "completion": TEXT, **more} for n in range(count)]


def write(folder, rows):
    """A file of rows in a folder."""
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tune(settings, root, rows, *more):
    """Fine-tune on rows in a folder."""
    args = settings(
        root,
        data__suite="jsonl",
        data__file=write(root, rows),
        data__split_by="none",
        sft__epochs=3,
    )
    args = [arg for arg in args if not arg.startswith("--data.max_")]
    return main([*args, "--stages=teach,distill", *more])


@pytest.fixture(scope="module")
def tuned(settings, tmp_path_factory):
    """The folder of a fine-tuning on eight rows; one weighs its tokens."""
    root = tmp_path_factory.mktemp("tuned")
    rows = chats(7, weight=2.5)
    rows.append({"id": "q", "question": "Open?", "completion": TEXT, "token_weights": WEIGHTS})
    assert tune(settings, root, rows) == 0
    return root / "run"


def test_every_row_is_trained_on_as_written(tuned, tiny_model):
    targets = {t.question_id: t for t in read_jsonl(tuned / "teach/targets.jsonl", Target)}
    assert len(targets) == 8
    assert {t.completion for t in targets.values()} == {TEXT}
    assert {id: t.weight for id, t in targets.items()} == {
        **{f"chat-{n}": 2.5 for n in range(7)},
        "q": 1.0,
    }
    assert [span.weight for span in targets["q"].spans] == WEIGHTS
    log = read_jsonl(tuned / "distill/log.jsonl", LogLine)
    assert log[-1].loss < log[0].loss
    questions = {item.question.id: item.question for item in load_file(tuned.parent / "own.jsonl")}
    examples = tokenize(targets.values(), questions, load_tokenizer(tiny_model), 1024)
    mass = sum(example.weight_mass for example in examples)
    learnt = sum(len(e.tokens) - e.prompt_length for e in examples)
    learnt -= next(e.token_weights.count(0) for e in examples if e.token_weights)
    assert [line.weight_mass for line in log] == pytest.approx([mass] * 3)
    assert [line.supervised_tokens for line in log] == [learnt] * 3
    assert not (tuned / "evaluation").exists()


def test_a_fine_tuned_adapter_can_be_exported_with_a_card(tuned, tmp_path):
    for form in ("peft", "merged"):
        assert export(tuned, None, form, tmp_path / form).startswith("M_int, ")
        card = (tmp_path / form / "README.md").read_text()
        assert "fine-tuned with dart_jax on 8 examples" in card
        assert "measured neither" in card and '"role": "user"' in card
        for absent in ("DART", str(tuned.parent), "datasets", "None", "teacher"):
            assert absent not in card
    with pytest.raises(ValueError, match=r"--adapter M_DART: .* has M_int$"):
        export(tuned, "M_DART", "peft", tmp_path / "none")


def test_held_out_rows_are_measured_and_not_trained_on(settings, tmp_path):
    rows = [{"prompt": f"Which tea for guest {n}?", "completion": TEXT} for n in range(8)]
    options = ("--sft.validation_share=0.25", "--sft.validate_every=1", "--sft.early_stopping=9")
    assert tune(settings, tmp_path, rows, *options) == 0
    log = read_jsonl(tmp_path / "run/distill/log.jsonl", LogLine)
    assert [line.examples for line in log] == [6, 6, 6]
    measured = read_validation(tmp_path / "run/distill")
    assert [(line.epoch, line.examples) for line in measured] == [(n, 2) for n in range(4)]
    assert measured[-1].loss < measured[0].loss
    export(tmp_path / "run", None, "peft", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert f"{measured[0].loss:.3f} before training, then by epoch {measured[1].loss:.3f}" in card
    assert "in at most 3 epochs" in card and "training ended after 3 of at most 3 epochs" in card


def test_a_run_that_held_nothing_back_is_repaired_and_exported(settings, tmp_path):
    """`split_by: none` with all stages but evaluate: both adapters, and a card without figures."""
    args = settings(tmp_path, data__split_by="none", audit__pool_splits='["train"]')
    run = tmp_path / "run"
    assert main([*args, "--stages=teach,distill,audit"]) == 0
    with pytest.raises(StaleStage, match=r"stage repair is not finished"):
        export(run, "M_int", "peft", tmp_path / "early")
    assert main([*args, "--stages=teach,distill,audit,repair"]) == 0
    for name, said in (("M_int", False), ("M_DART", True)):
        export(run, name, "peft", tmp_path / name)
        card = (tmp_path / name / "README.md").read_text()
        assert ("audited on questions" in card, "## Repair set" in card) == (said, said)
        assert "## Evaluation\n\nThere is none" in card and "None" not in card
    adapters = [tmp_path / name / "adapter_model.safetensors" for name in ("M_int", "M_DART")]
    repaired = json.loads((run / "repair/weights.json").read_text())
    assert sum(row["examples"] for row in repaired.values()) > 0
    assert hash_path(adapters[0]) != hash_path(adapters[1])


def test_nothing_to_evaluate_on_is_said_at_once(settings, tmp_path):
    with pytest.raises(ValueError, match=r"data\.split_by none .*\(--stages teach,distill\)"):
        tune(settings, tmp_path, chats(2), "--stages=teach,distill,evaluate")


def test_unlabelled_rows_go_through_every_stage(settings, tmp_path, summary_of):
    """Trained on with a completion; decoded, audited and counted; in no accuracy."""
    rows = chats(10) + [{"id": f"bare-{n}", "question": f"Why {n}?"} for n in range(10)]
    for n, row in enumerate(rows[:10]):  # rows of the same words would stay together
        row["messages"] = [{"role": "user", "content": f"Which tea for guest {n}?"}]
    rows = [row | {"benchmark": row["id"][:4]} for row in rows]
    rows += [
        {
            "id": f"own-{label}-{n}",
            "question": f"Does rule {n} of section {label} ask the same of everybody?",
            "label": label,
            "completion": f"{LABELLED}\nConclusion: {label}",
        }
        for label in ("YES", "NO")
        for n in range(10)
    ]
    args = settings(tmp_path, data__suite="jsonl", data__file=write(tmp_path, rows), audit__tau=1)
    args = [arg for arg in args if not arg.startswith("--data.max_")]
    assert main(args) == 0
    run = tmp_path / "run"
    targets = read_jsonl(run / "teach/targets.jsonl", Target)
    assert {t.completion for t in targets if t.question_id.startswith("chat")} == {TEXT}
    rejected = read_jsonl(run / "teach/rejected.jsonl", RejectedTarget)
    assert len(rejected) == 8 and all(r.question_id.startswith("bare") for r in rejected)
    assert all(r.reasons[0].startswith("no_label: the row has no label") for r in rejected)
    summary = summary_of(run)
    assert summary["rejects"]["distill"] == {"no_label": {"bare": 8}}
    for model in summary["models"].values():
        assert (model["n"], model["unlabelled"]) == (2, 2)
        assert model["by_benchmark"].keys() == {"own"}
    assert summary["drift"]["M_int"]["pairs"] == 4
    assert len(read_jsonl(run / "generations/M_int.jsonl", Generation)) == 4
    page = (run / "report/report.md").read_text("utf-8")
    assert "2 more test questions have no label" in page
