"""Another checkpoint of the same shape in a model's place: by its content it is another model."""

import shutil

import pytest
import yaml

from dart_jax.changes import describe_changes
from dart_jax.commands import audit as audit_command
from dart_jax.commands import evaluate as evaluate_command
from dart_jax.commands import generate
from dart_jax.config import parse
from dart_jax.model.weights import BadCheckpoint
from dart_jax.run_dir import RunDir, StaleStage, as_recorded, hash_path
from dart_jax.stages import audit, repair, teach
from dart_jax.stages.context import Run
from dart_jax.train import main


def opened(args):
    config, _, _ = parse(args)
    return Run(config, RunDir(config.run))


def changed_template(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text("utf-8").replace("<eot>", "<eot> "), encoding="utf-8")


def changed_generation(folder):
    path = folder / "generation_config.json"
    path.write_text(path.read_text("utf-8").replace("{", '{"pad_token_id": 1, ', 1))


def readme(folder):
    (folder / "README.md").write_text("read me")


def test_a_second_start_on_another_base_is_not_up_to_date(copied, retrained, settings, tmp_path):
    """Nothing of the run is touched where it may not be run again, and what changed is named."""
    before = hash_path(copied / "adapters")
    args = settings(tmp_path, model__path=retrained)
    for stage in ("audit", "evaluate"):
        message = r"stage distill is not up to date \(model\.weights changed\)"
        with pytest.raises(StaleStage, match=message):
            main([*args, f"--stages={stage}"])
    assert hash_path(copied / "adapters") == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_template, ["model.tokenizer changed"]),
        (changed_generation, ["model.generation changed"]),
        (readme, []),
    ],
)
def test_template_and_stops_count_and_a_readme_does_not(
    change, named, copied, tiny_model, settings, tmp_path
):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    change(model)
    run = opened(settings(tmp_path, model__path=model))
    assert run.folder.reasons("audit", audit.inputs(run)) == named


@pytest.mark.parametrize("key", ["dtype", "quantize", "context_length"])
def test_how_the_base_is_loaded_counts(key, copied, settings, tmp_path):
    value = {"dtype": "bfloat16", "quantize": "int8", "context_length": 900}[key]
    run = opened(settings(tmp_path, **{f"model__{key}": value}))
    [reason] = run.folder.reasons("repair", repair.inputs(run))
    assert reason.startswith(f"model.{key} changed (") and reason.endswith(f" -> {value})")


LOCAL = {"provider": "local", "base_url": None, "api_key_env": None}


@pytest.fixture
def role(settings, tmp_path):
    """A function: the run with a local model of its own as teacher or judge."""

    def make(name, model, **overrides):
        values = {f"{name}__{key}": value for key, value in {**LOCAL, "model": model}.items()}
        args = settings(tmp_path, **values, **overrides)
        return opened([arg.replace("=None", "=null") for arg in args])

    return make


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("teacher", teach.inputs), ("teacher", repair.inputs), ("judge", audit.inputs)],
)
def test_another_local_teacher_or_judge_counts(name, inputs, role, tiny_model, retrained, tmp_path):
    """By its content, under the same path; not by its path."""
    path = shutil.copytree(tiny_model, tmp_path / "local")
    before = as_recorded(inputs(role(name, path)))
    assert as_recorded(inputs(role(name, tiny_model))) == before
    shutil.copyfile(retrained / "model.safetensors", path / "model.safetensors")
    after = as_recorded(inputs(role(name, path)))
    assert describe_changes(before, after) == [f"{name}.model.weights changed"]
    other = as_recorded(inputs(role(name, path, model__quantize="int8")))
    assert f"{name}.model.quantize changed (none -> int8)" in describe_changes(after, other)


def test_a_replaced_classifier_repeats_what_it_scored(copied, settings, tmp_path):
    """Under the same path and name."""
    folder = tmp_path / "classifier"
    folder.mkdir()
    before = {}
    for content in ("a", "b"):
        (folder / "model.safetensors").write_text(content)
        args = settings(tmp_path, audit__scorers=f'["hf:{folder}=hate"]')
        run = opened(args)
        found = [as_recorded(stage.inputs(run)) for stage in (audit, repair)]
        if before:
            changes = [describe_changes(*pair) for pair in zip(before, found, strict=True)]
        before = found
    assert changes == [
        [f"scorers.{folder}.weights changed"],
        [f"scorer.contents.{folder}.weights changed"],
    ]


@pytest.fixture
def rebased(copied, retrained):
    """The finished run after its config.yaml was pointed at another base."""
    path = copied / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    config["model"]["path"] = str(retrained)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return copied


def test_no_command_puts_the_runs_adapters_on_another_base(rebased, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "a", "question": "May old people vote?"}\n')
    out = tmp_path / "out.jsonl"
    ask = ["--run", str(rebased), "--prompts", str(prompts), "--out", str(out)]
    commands = [
        lambda: generate.main([*ask, "--models=M0,M_DART"]),
        lambda: audit_command.main(["calibrate", f"--run={rebased}"]),
        lambda: evaluate_command.main(["open-ended", f"--run={rebased}", "--queries=2"]),
    ]
    for command in commands:
        with pytest.raises(BadCheckpoint, match=r"no longer, the checkpoint .*\(other weights\)"):
            command()
    assert not out.exists() and not (rebased / "calibration").exists()
    assert not (rebased / "open_ended").exists()
    assert generate.main([*ask, "--models=M0"]) == 0, "M0 is the base, whichever it is"
