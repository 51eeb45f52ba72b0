"""The compile command: its arguments, and a small step compiled for absent TPUs and GPUs."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from dart_jax.commands.compile import read_job
from dart_jax.pipeline.topologies import parse_topology
from dart_jax.settings import BadSetting

ROOT = Path(__file__).parents[2]
TINY = {
    "model_type": "llama",
    "vocab_size": 512,
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "intermediate_size": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """A configuration of a tiny model over four chips; its folder has a config.json only."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    path = folder / "tiny.yaml"
    lines = [
        f"model: {{path: {folder}}}",
        "mesh: {data: 1, fsdp: -1}",
        "lora: {rank: 4}",
        "sft: {batch_size: 16, max_length: 256, row_length: 512, remat: layer, loss_chunk: 64}",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run():
    """A function: the command in an interpreter of its own."""

    def run(*args, python_path=""):
        paths = [str(ROOT), python_path, os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", "dart_jax", "compile", *map(str, args)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=900, check=False
        )

    return run


@pytest.mark.parametrize(
    ("text", "model", "chips"),
    [
        ("v5e:2x4", "v5e", (2, 4)),
        ("v5p:2x2x2", "v5p", (2, 2, 2)),
        ("h100", "h100", (1,)),
        ("a100:8", "a100", (8,)),
    ],
)
def test_topology_is_a_model_and_chips(text, model, chips):
    topology = parse_topology(text)
    assert (topology.model, topology.chips, topology.is_gpu) == (model, chips, "100" in model)


def test_a_gpus_memory_is_what_jax_takes_of_the_card(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert parse_topology("h100:8").memory_bytes == 84942979072 * 3 // 4
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    assert parse_topology("a100").memory_bytes == 85100068864 // 2


@pytest.mark.parametrize(
    "text",
    ["v5e", "v5e:", "v5e:2x", "v5e:0x4", "v5e:2*4", "h100:", "h100:0", "h100:2x4", "h200", ""],
)
def test_topology_of_another_form(text):
    with pytest.raises(ValueError, match="--topology: "):
        parse_topology(text)


def test_settings_of_training_may_follow(config_file):
    args = ["--config", str(config_file), "--topology", "v5e:2x2", "--mesh.tensor", "2"]
    job, config = read_job([*args, "--rows", "4"])
    assert (config.mesh.tensor, config.sft.batch_size, job.rows) == (2, 16, 4)


@pytest.mark.parametrize("other", [("--rows", "4"), ("--program", "decode")])
def test_the_largest_batch_has_no_other_rows(config_file, other):
    args = ["--config", str(config_file), "--topology", "v5e:2x2", "--largest-batch", *other]
    with pytest.raises(ValueError, match=r"--largest-batch .* leave out both"):
        read_job(args)


def test_an_unknown_setting_is_refused(config_file):
    with pytest.raises(BadSetting, match=r"there is no setting --mesh\.rows"):
        read_job(["--config", str(config_file), "--topology", "v5e:2x2", "--mesh.rows", "2"])


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is here")
def test_without_libtpu_it_says_what_to_install(config_file, run):
    done = run("--config", config_file, "--topology", "v5e:2x2")
    assert done.returncode == 1
    assert "pip install libtpu" in done.stderr
    assert "Traceback" not in done.stderr


CUDA = os.environ.get("DART_JAX_CUDA", "")


@pytest.mark.skipif(importlib.util.find_spec("jax_plugins") is not None, reason="a plugin is here")
def test_without_the_cuda_plugin_it_says_what_to_install(config_file, run):
    done = run("--config", config_file, "--topology", "h100")
    assert done.returncode == 1
    assert f"jax-cuda13-pjrt=={version('jax')}" in done.stderr
    assert "Traceback" not in done.stderr


needs_cuda = pytest.mark.skipif(not CUDA, reason="DART_JAX_CUDA names no folder with the plugin")


@needs_cuda
def test_a_step_compiles_for_gpus_that_are_not_there(config_file, run, tmp_path):
    """Two layers over two cards, which exchange parts of the weights and call cuDNN."""
    out = tmp_path / "result.json"
    args = ("--config", config_file, "--topology", "h100:2", "--model.dtype", "bfloat16")
    done = run(*args, "--out", out, python_path=CUDA)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("h100:2 (2 devices): ")

    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["fits"] and "jax-cuda13-pjrt" in result["versions"]
    loops = [part for part in result["traffic"] if part["where"].startswith("loop")]
    assert all(loop["kernels"] and loop["bytes"] for loop in loops)
    assert any(loop["collectives"] for loop in loops)
    # Causal by itself: there is no bias, nor a gradient of one.
    targets = {target for part in result["traffic"] for target in part["custom_calls"]}
    fused = {target for target in targets if "fmha" in target}
    assert fused == {"__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"}


@needs_cuda
def test_decoding_on_a_gpu_copies_no_weights(config_file, run, tmp_path):
    """Two layers of Llama-3-8B: weights and cache are read where they lie."""
    out = tmp_path / "result.json"
    args = ("--config", config_file, "--topology", "h100", "--program", "decode", "--out", out)
    shape = ("--architecture", "llama-3-8b", "--layers", 2, "--rows", 32, "--mesh.fsdp", 1)
    done = run(*args, *shape, python_path=CUDA)
    assert done.returncode == 0, done.stderr
    loop, *_ = json.loads(out.read_text(encoding="utf-8"))["traffic"]
    assert loop["copies"] == {}
    assert loop["bytes"] < 2.8e9


@pytest.fixture(scope="module")
def libtpu_folder():
    """The folder to import libtpu from: DART_JAX_LIBTPU, since plain jax is better off without."""
    folder = os.environ.get("DART_JAX_LIBTPU", "")
    if not folder and importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed; DART_JAX_LIBTPU may name a folder that holds it")
    return folder


def test_step_compiles_for_a_slice_that_is_not_there(config_file, run, libtpu_folder, tmp_path):
    out = tmp_path / "made" / "result.json"
    args = ("--config", config_file, "--topology", "v5e:2x2", "--out", out)
    done = run(*args, python_path=libtpu_folder)
    assert done.returncode == 0, done.stderr
    assert "v5e:2x2 (4 devices)" in done.stdout and done.stdout.rstrip().endswith("fits")
    result = json.loads(out.read_text(encoding="utf-8"))
    # 16 examples of at most 256 tokens are in at most 8 rows of 512.
    assert (result["rows"], result["length"], result["devices"]) == (8, 512, 4)
    assert result["bytes_per_device"] == (
        result["argument_bytes"]
        + result["temp_bytes"]
        + result["output_bytes"]
        - result["alias_bytes"]
    )
    assert result["fits"] and 0 < result["bytes_per_device"] < result["hbm_bytes"]
    # Donated: the adapters and Adam's moments, 3 x 4 bytes of a number, a quarter on each chip.
    assert result["alias_bytes"] >= 3 * 4 * _adapter_size() / 4
    # Nothing frozen is returned, and nothing donated is kept beside its successor.
    assert result["output_bytes"] - result["alias_bytes"] < 100_000
    assert result["flops_per_device"] > 0 and result["compile_seconds"] > 0
    # remat layer: of the forward pass all is computed again but the last product and the head.
    assert 1.1 < result["recompute_factor"] < 1.5


def _adapter_size():
    D, F, q, kv = 256, 512, 256, 128
    sides = [(D, q), (D, kv), (D, kv), (q, D), (D, F), (D, F), (F, D)]
    return TINY["num_hidden_layers"] * 4 * sum(sum(pair) for pair in sides)


def test_a_block_of_decoding_compiles_too(config_file, run, libtpu_folder, tmp_path):
    """Nothing but the cache is returned, and the cache is donated."""
    out = tmp_path / "result.json"
    args = ("--config", config_file, "--topology", "v5e:2x2", "--program", "decode", "--out", out)
    done = run(*args, "--rows", 8, "--length", 256, python_path=libtpu_folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (result["program"], result["rows"], result["length"]) == ("decode", 8, 256)
    # Keys and values of 2 layers, 8 rows, 1 head of 128 and 256 tokens, in bfloat16, over 4 chips.
    cache = 2 * 2 * 8 * 256 * 128 * 2 // 4
    assert result["alias_bytes"] >= cache
    assert result["output_bytes"] - result["alias_bytes"] < 100_000
    assert result["argument_bytes"] > cache and result["fits"]


def test_a_step_that_does_not_fit_is_said_to(config_file, run, libtpu_folder, tmp_path):
    out = tmp_path / "result.json"
    args = ("--config", config_file, "--topology", "v5e:2x2", "--out", out)
    done = run(
        *args, "--rows", 4, "--length", 65536, "--sft.attention", "xla", python_path=libtpu_folder
    )
    assert done.returncode == 1, done.stdout
    assert "does not fit" in done.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["fits"] is False
