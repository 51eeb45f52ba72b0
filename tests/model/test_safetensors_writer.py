"""Tensors written one at a time are what the safetensors library reads."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from dart_jax.model.safetensors_file import INDEX_FILE, safetensors_source
from dart_jax.model.safetensors_writer import ShardWriter

RNG = np.random.default_rng(0)
TENSORS = {
    "wide": RNG.normal(size=(5, 7)).astype(np.float32),
    'with "quotes" é': RNG.normal(size=(3,)).astype(ml_dtypes.bfloat16),
    "after an odd number of bytes": RNG.normal(size=(2, 2)).astype(np.float32),
    "half": RNG.normal(size=(4, 3)).astype(np.float16),
    "transposed": RNG.normal(size=(6, 4)).astype(np.float32).T,
}


def write(folder, max_bytes, tensors=TENSORS):
    with ShardWriter(folder, max_bytes, tensors) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        return writer.finish()


def read_all(folder):
    return {
        name: tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("max_bytes", [1, 100, 10**9])
def test_round_trip(max_bytes, tmp_path):
    count = write(tmp_path, max_bytes)
    found = read_all(tmp_path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)
    assert len(list(tmp_path.glob("*.safetensors"))) == count
    assert not list(tmp_path.glob("*.partial"))


def test_one_file_needs_no_index(tmp_path):
    halves = {name: TENSORS[name].astype(np.float32) for name in TENSORS}
    assert write(tmp_path, 10**9, halves) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_and_their_index(tmp_path):
    same = {f"layer.{i}": np.full((10,), i, np.float32) for i in range(7)}
    assert write(tmp_path, 80, same) == 4  # two tensors of 40 bytes each
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == 7 * 40
    assert index["weight_map"]["layer.0"] == "model-00001-of-00004.safetensors"
    assert index["weight_map"]["layer.6"] == "model-00004-of-00004.safetensors"
    assert set(safetensors_source(tmp_path).tensors) == set(same)  # checks index against files


def test_misaligned_tensors_get_another_file(tmp_path):
    """Torch maps tensors where they are: a float32 cannot begin at byte 6."""
    torch_file = pytest.importorskip("safetensors.torch")
    names = list(TENSORS)[1:3]
    assert write(tmp_path, 10**9, {name: TENSORS[name] for name in names}) == 2
    for file in tmp_path.glob("*.safetensors"):
        torch_file.load_file(file)


def test_what_was_not_announced_or_never_came(tmp_path):
    with ShardWriter(tmp_path, 10**9, ["a", "b"]) as writer:
        writer.add("a", TENSORS["wide"])
        for name in ("a", "c"):
            with pytest.raises(ValueError, match=f"{name} was not announced"):
                writer.add(name, TENSORS["wide"])
        with pytest.raises(ValueError, match="b is int8"):
            writer.add("b", np.zeros(3, np.int8))
        with pytest.raises(ValueError, match="b and perhaps others"):
            writer.finish()
    assert not list(tmp_path.glob("*.safetensors"))
