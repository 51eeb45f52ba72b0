"""Tensors that come one at a time end in the files that readers of safetensors expect."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from dart_jax.model.safetensors_file import INDEX_FILE, safetensors_source, save_shards

RNG = np.random.default_rng(0)
TENSORS = {
    "wide": RNG.normal(size=(5, 7)).astype(np.float32),
    'with "quotes" é': RNG.normal(size=(3,)).astype(ml_dtypes.bfloat16),
    "after an odd number of bytes": RNG.normal(size=(2, 2)).astype(np.float32),
    "half": RNG.normal(size=(4, 3)).astype(np.float16),
    "transposed": RNG.normal(size=(6, 4)).astype(np.float32).T,
}


@pytest.mark.parametrize("max_bytes", [1, 100, 10**9])
def test_round_trip(max_bytes, tmp_path):
    count, total_bytes = save_shards(tmp_path, TENSORS.items(), max_bytes)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == count and not list(tmp_path.glob("*.partial"))
    assert total_bytes == sum(tensor.nbytes for tensor in TENSORS.values())
    found = {}
    for file in files:
        found |= load_file(file)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_one_file_needs_no_index_and_torch_reads_it(tmp_path):
    torch_file = pytest.importorskip("safetensors.torch")
    assert save_shards(tmp_path, TENSORS.items(), 10**9)[0] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    assert torch_file.load_file(tmp_path / "model.safetensors").keys() == TENSORS.keys()


def test_shards_and_their_index(tmp_path):
    same = {f"layer.{i}": np.full((10,), i, np.float32) for i in range(7)}
    assert save_shards(tmp_path, same.items(), 80) == (4, 280)  # two tensors of 40 bytes each
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == 7 * 40
    assert index["weight_map"]["layer.0"] == "model-00001-of-00004.safetensors"
    assert index["weight_map"]["layer.6"] == "model-00004-of-00004.safetensors"
    assert set(safetensors_source(tmp_path).tensors) == set(same)  # checks index against files


def test_no_more_than_a_shard_is_kept(tmp_path):
    """What has been written is on the disk before the tensor after the next shard is made."""
    seen = []

    def tensors():
        for number in range(6):
            seen.append(len(list(tmp_path.glob("*.partial"))))
            yield f"t{number}", np.zeros(10, np.float32)

    save_shards(tmp_path, tensors(), 80)
    assert seen == [0, 0, 0, 1, 1, 2]


def test_an_error_on_the_way_leaves_no_file_that_a_reader_looks_for(tmp_path):
    twice = [("a", TENSORS["wide"]), ("b", TENSORS["half"]), ("a", TENSORS["wide"])]
    with pytest.raises(ValueError, match="a is written twice"):
        save_shards(tmp_path, twice, 1)
    assert not list(tmp_path.glob("*.safetensors"))
