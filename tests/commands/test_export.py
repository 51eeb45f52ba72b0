"""Exporting a run: what goes out, and what is refused before anything does."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.__main__ import command
from dart_jax.commands.export import PlantedFaults, export, main
from dart_jax.config import STAGES, parse
from dart_jax.evaluate.summary import SUMMARY, write_summary
from dart_jax.model.config import LoraConfig
from dart_jax.model.identity import checkpoint_identity
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import merge_lora
from dart_jax.model.peft_file import load_peft, load_peft_config, save_peft
from dart_jax.model.weights import BadCheckpoint, load_params
from dart_jax.records import DriftType, Severity, Target, write_jsonl, write_text
from dart_jax.run_dir import RunBusy, RunDir, StaleStage, hash_path
from dart_jax.settings import BadSetting
from dart_jax.teach.planted import PlantedFault, mark_model, read_mark, sum_up
from tests.evaluate.conftest import made_up_summary
from tests.tiny_model import random_adapter

LORA = LoraConfig(rank=2, alpha=8.0, targets=("q", "down"))
OUTPUTS = {
    "teach": ("teach/targets.jsonl", "teach/rejected.jsonl"),
    "distill": ("adapters/M_int",),
    "audit": ("audit/summary.json",),
    "repair": ("adapters/M_DART", "repair/weights.json"),
    "evaluate": ("evaluation",),
}


@pytest.fixture(scope="session")
def base(tiny_model, tmp_path_factory):
    """A copy of the tiny model, with no other folder beside it."""
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def make_run(base, tmp_path):
    """A function: the folder of a run with random adapters, as its stages would have left it."""

    def write(folder, config):
        write_jsonl(folder / "teach/targets.jsonl", [Target("q", "distill", "Conclusion: NO")])
        write_jsonl(folder / "teach/rejected.jsonl", [])
        model, _ = open_checkpoint(base)
        for seed, name in enumerate(("M_int", "M_DART")):
            save_peft(
                folder / f"adapters/{name}", random_adapter(model, LORA, seed), LORA, str(base)
            )
        write_text(folder / "audit/summary.json", "{}")
        weights = {"minor": {"examples": 1, "weight": 1.0}, "replay": {"examples": 0, "weight": 0}}
        write_text(folder / "repair/weights.json", json.dumps(weights))
        write_summary(folder / SUMMARY, made_up_summary())
        sections = {name: dataclasses.asdict(getattr(config, name)) for name in ("lora", "sft")}
        recorded = {
            "teach": {"run.seed": 0},
            "distill": {"model": checkpoint_identity(base), "model.dtype": "auto", **sections},
            "audit": {"audit": dataclasses.asdict(config.audit)},
            "repair": {"repair": dataclasses.asdict(config.repair), **sections},
            "evaluate": {
                "adapters": [hash_path(folder / f"adapters/{n}") for n in ("M_int", "M_DART")]
            },
        }
        (folder / "stages").mkdir()
        for stage in STAGES:
            outputs = {name: hash_path(folder / name) for name in OUTPUTS[stage]}
            manifest = {"inputs": recorded[stage], "outputs": outputs, "seconds": 1.0}
            write_text(folder / f"stages/{stage}.json", json.dumps(manifest))

    def run(*args):
        config, _, resolved = parse(
            [
                f"--run.root={tmp_path}",
                f"--model.path={base}",
                f"--lora.rank={LORA.rank}",
                f"--lora.alpha={LORA.alpha}",
                '--lora.targets=["q", "down"]',
                *args,
            ]
        )
        folder = RunDir(config.run)
        write_text(folder / "config.yaml", resolved)
        write_text(folder / "versions.json", '{"jax": "0.10.2"}')
        write(folder.path, config)
        return folder.path

    return run


@pytest.fixture
def run(make_run):
    return make_run()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_peft(run, base, tmp_path):
    peft = pytest.importorskip("peft")
    import torch
    import transformers

    out = tmp_path / "new" / "adapter"
    export(run, "M_DART", "peft", out)
    assert names_in(out) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    config, _ = open_checkpoint(base)
    assert load_peft_config(out) == LORA
    jax.tree.map(
        np.testing.assert_array_equal, load_peft(out, config, LORA), random_adapter(config, LORA)
    )
    raw = json.loads((out / "adapter_config.json").read_text())
    assert raw["base_model_name_or_path"] == "tiny-llama"
    twin = transformers.AutoModelForCausalLM.from_pretrained(base)
    adapted = peft.PeftModel.from_pretrained(twin, out).eval()
    export(run, "M_DART", "merged", tmp_path / "merged")
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    tokens = torch.tensor([[6, 1, 2, 3, 0, 7]])
    with torch.no_grad():
        torch.testing.assert_close(merged(tokens).logits, adapted(tokens).logits)
        with adapted.disable_adapter():
            assert not torch.allclose(merged(tokens).logits, adapted(tokens).logits, atol=0.1)


def test_merged(run, base, tmp_path):
    export(run, "M_int", "merged", tmp_path / "out", max_shard_bytes=2000)
    config, source = open_checkpoint(tmp_path / "out")
    found = load_params(config, source, jnp.float32)
    params = load_params(config, open_checkpoint(base)[1], jnp.float32)
    exact = merge_lora(params, random_adapter(config, LORA, seed=0), LORA.scale)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, exact)
    assert "model.safetensors.index.json" in names_in(tmp_path / "out")
    assert "M_int" in (tmp_path / "out/README.md").read_text()


def test_card_of_a_quantised_run(make_run, tmp_path):
    run = make_run("--model.quantize=int8", "--teacher.base_url=http://10.0.0.1/v1")
    export(run, "M_DART", "merged", tmp_path / "out", dtype="bfloat16")
    card = (tmp_path / "out/README.md").read_text()
    assert "the base in int8, but merged into the weights as they were before" in card
    assert "stored as bfloat16. Rounding to that type moved these weights by" in card
    assert "base_model: tiny-llama" in card
    assert "68.8 [58.8, 78.8]" in card
    assert str(tmp_path) not in card
    assert "10.0.0.1" not in card
    assert not [f for f in (tmp_path / "out").iterdir() if str(tmp_path).encode() in f.read_bytes()]


@pytest.mark.parametrize("stage", STAGES)
def test_an_unfinished_stage_is_named(stage, run, tmp_path):
    (run / f"stages/{stage}.json").unlink()
    with pytest.raises(StaleStage, match=f"stage {stage} is not finished.*--stages {stage}"):
        export(run, "M_DART", "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_changed_since(run, tmp_path):
    (run / "evaluation/summary.json").write_text("{}")
    with pytest.raises(StaleStage, match="evaluate left evaluation, which has changed"):
        export(run, "M_DART", "peft", tmp_path / "out")


def _rewrite_manifest(run, stage, **changes):
    path = run / f"stages/{stage}.json"
    manifest = json.loads(path.read_text())
    for key, values in changes.items():
        manifest[key] |= values
    write_text(path, json.dumps(manifest))


def test_an_adapter_trained_again_is_not_the_evaluated_one(run, tmp_path):
    config = json.loads((run / "adapters/M_int/adapter_config.json").read_text())
    write_text(run / "adapters/M_int/adapter_config.json", json.dumps(config | {"inference": 1}))
    outputs = {"adapters/M_int": hash_path(run / "adapters/M_int")}
    _rewrite_manifest(run, "distill", outputs=outputs)
    with pytest.raises(StaleStage, match="evaluate was run on other adapters"):
        export(run, "M_DART", "peft", tmp_path / "out")


def test_settings_that_no_stage_ran_on(run, tmp_path):
    text = (run / "config.yaml").read_text()
    write_text(run / "config.yaml", text.replace("alpha: 8.0", "alpha: 16.0"))
    with pytest.raises(StaleStage, match=r"distill was run with lora.alpha 8.0, .* says 16.0"):
        export(run, "M_DART", "peft", tmp_path / "out")


def test_a_configuration_of_another_version(run, tmp_path):
    write_text(run / "config.yaml", (run / "config.yaml").read_text() + "lora2:\n  rank: 1\n")
    with pytest.raises(ValueError, match=r"config\.yaml: there is no setting lora2; did you mean"):
        export(run, "M_DART", "peft", tmp_path / "out")


def test_an_adapter_of_other_settings(run, tmp_path):
    """The adapter itself is compared, too: rank, alpha and targets."""
    text = (run / "config.yaml").read_text()
    write_text(run / "config.yaml", text.replace("alpha: 8.0", "alpha: 16.0"))
    for stage in ("distill", "repair"):
        recorded = json.loads((run / f"stages/{stage}.json").read_text())["inputs"]["lora"]
        _rewrite_manifest(run, stage, inputs={"lora": recorded | {"alpha": 16.0}})
    with pytest.raises(BadCheckpoint, match=r"alpha is 8.0, expected 16.0"):
        export(run, "M_DART", "peft", tmp_path / "out")


def test_an_adapter_that_was_never_trained(run, base, tmp_path):
    config, _ = open_checkpoint(base)
    half = random_adapter(config, LORA)
    half["down"]["B"] = half["down"]["B"].at[1].set(0)
    save_peft(run / "adapters/M_DART", half, LORA, "base")
    now = {name: hash_path(run / f"adapters/{name}") for name in ("M_int", "M_DART")}
    _rewrite_manifest(run, "repair", outputs={"adapters/M_DART": now["M_DART"]})
    _rewrite_manifest(run, "evaluate", inputs={"adapters": list(now.values())})
    for form in ("peft", "merged"):
        with pytest.raises(BadCheckpoint, match=r"all zero: .*layers\.1\.mlp\.down_proj\.lora_B"):
            export(run, "M_DART", form, tmp_path / "out")
        assert not [name for name in names_in(tmp_path) if "out" in name]
    export(run, "M_int", "peft", tmp_path / "out")


def test_nothing_is_left_of_weights_that_overflow(run, base, tmp_path):
    config, _ = open_checkpoint(base)
    large = jax.tree.map(lambda weight: 1e30 * weight, random_adapter(config, LORA))
    save_peft(run / "adapters/M_DART", large, LORA, "base")
    now = {name: hash_path(run / f"adapters/{name}") for name in ("M_int", "M_DART")}
    _rewrite_manifest(run, "repair", outputs={"adapters/M_DART": now["M_DART"]})
    _rewrite_manifest(run, "evaluate", inputs={"adapters": list(now.values())})
    with pytest.raises(BadCheckpoint, match=r"layers\.\d.*not finite"):
        export(run, "M_DART", "merged", tmp_path / "out")
    assert not [name for name in names_in(tmp_path) if "out" in name]


def test_unknown_adapter(run, tmp_path):
    with pytest.raises(ValueError, match=r"--adapter M_dart: .* has M_int, M_DART$"):
        export(run, "M_dart", "peft", tmp_path / "out")


def test_another_base_in_its_place(run, base, tmp_path):
    """A copy with a README of its own is the same base; one with another template is not."""
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "README.md").write_text("a copy")
    text = (run / "config.yaml").read_text()
    write_text(run / "config.yaml", text.replace(str(base), str(other)))
    export(run, "M_DART", "merged", tmp_path / "copy")
    (other / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(BadCheckpoint, match=r"no longer, the checkpoint .* \(other tokenizer\)"):
        export(run, "M_DART", "merged", tmp_path / "out")


def test_a_base_known_by_its_sizes_only(run, tmp_path):
    """As versions before this one recorded it."""
    _rewrite_manifest(run, "distill", inputs={"model": "0" * 64})
    with pytest.raises(StaleStage, match="did not look into its base"):
        export(run, "M_DART", "merged", tmp_path / "out")


def test_what_stands_at_out(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(run, "M_DART", "peft", out)  # an empty folder is as good as none
    with pytest.raises(FileExistsError, match="--overwrite"):
        export(run, "M_DART", "merged", out)
    assert "adapter_config.json" in names_in(out)
    export(run, "M_DART", "merged", out, overwrite=True)
    assert "adapter_config.json" not in names_in(out)
    with pytest.raises(ValueError, match="--adapter"):
        export(run, "nothing", "peft", out, overwrite=True)
    assert "model.safetensors" in names_in(out)  # a failure leaves the earlier export
    assert names_in(tmp_path) == ["out", "run"]


def test_overwrite_is_not_for_everything(run, base, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no earlier export"):
        export(run, "M_DART", "peft", precious, overwrite=True)
    for place in (run, run.parent, run / "adapters/M_DART", base, base.parent):
        with pytest.raises(FileExistsError, match="overlaps"):
            export(run, "M_DART", "peft", place, overwrite=True)
    assert (precious / "thesis.txt").exists()


def test_a_run_at_work_or_no_run(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.yaml; give runs/<name>"):
        export(tmp_path / "nowhere", "M_DART", "peft", tmp_path / "out")
    assert not (tmp_path / "nowhere").exists()
    (run / ".lock").touch()
    import fcntl

    with open(run / ".lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunBusy):
            export(run, "M_DART", "peft", tmp_path / "out")


def test_command_line(run, tmp_path, capsys):
    args = ["--run", str(run), "--format", "merged", "--out", str(tmp_path / "out")]
    assert main([*args, "--max-shard-gb", "0.000002", "--dtype", "bfloat16"]) == 0
    said = capsys.readouterr().out
    assert "out: M_DART (the last; --adapter takes M_int), " in said
    assert "files; rounding to bfloat16" in said
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    assert command(["export", *args]) == 1
    assert "error: --out" in capsys.readouterr().err
    for wrong in (["--max-shard-gb", "0"], ["--format", "peft", "--dtype", "bfloat16"]):
        with pytest.raises(BadSetting, match=wrong[-2]):
            main([*args, *wrong])


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_a_model_with_planted_faults_goes_out_only_where_that_is_known(form, run, tmp_path):
    fault = PlantedFault("q", "D1", DriftType.ELABORATES, Severity.MINOR, "How rude.")
    write_jsonl(run / "teach/planted.jsonl", [fault])
    write_jsonl(run / "teach/unplanted.jsonl", [])
    out = tmp_path / "out"
    with pytest.raises(PlantedFaults, match=r"in 1 of 1 training targets.*--planted-is-known"):
        export(run, "M_DART", form, out)
    assert not out.exists()

    command = [f"--run={run}", f"--format={form}", f"--out={out}", "--planted-is-known"]
    assert main(command) == 0
    assert "**Faults were planted**" in (out / "README.md").read_text()
    assert read_mark(out).planted == 1


def test_a_base_with_planted_faults_is_known_by_its_mark(make_run, base, tmp_path):
    marked = shutil.copytree(base, tmp_path / "marked")
    fault = PlantedFault("q", "D1", DriftType.OMITS, Severity.MINOR, "")
    mark_model(marked, sum_up([Target("q", "distill", "So.")] * 4, [fault], []))
    run = make_run(f"--model.path={marked}")
    with pytest.raises(PlantedFaults, match="marked: faults were planted"):
        export(run, "M_DART", "merged", tmp_path / "out")
    export(run, "M_DART", "merged", tmp_path / "out", planted_is_known=True)
    card = (tmp_path / "out/README.md").read_text()
    assert "Of the base itself: faults planted in 1 of 4 training targets." in card
    assert read_mark(tmp_path / "out") == read_mark(marked)
