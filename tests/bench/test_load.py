"""The memory benchmark of loading: its checkpoint, its peer, and what it reads of a process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.bench.load import load_whole_leaves, measure, write_checkpoint
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import load_params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def sizes(folder):
    return write_checkpoint(folder, 0.004)


@pytest.fixture(scope="module")
def loaded(folder, sizes):
    """The smallest of the checkpoints, loaded in every way."""
    config, source = open_checkpoint(folder)
    mesh = make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8])
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    loaders = {"ours": load_params, "whole_leaves": load_whole_leaves}
    return {way: load(config, source, jnp.bfloat16, shardings) for way, load in loaders.items()}


def test_every_way_loads_the_same(loaded, sizes):
    ours = loaded["ours"]
    for other in loaded.values():
        jax.tree.map(np.testing.assert_array_equal, ours, other)
    matrices = [leaf for leaf in jax.tree.leaves(ours) if leaf.dtype == jnp.bfloat16]
    assert max(leaf.nbytes for leaf in matrices) == sizes["largest_leaf_bytes"]
    assert ours["embed"].nbytes == sizes["largest_tensor_bytes"]


def test_measured_from_outside(folder, loaded, tmp_path):
    """Both ways in processes of their own, which agree on what they loaded."""
    ours = measure(folder, "ours", tmp_path)
    peer = measure(folder, "whole_leaves", tmp_path)
    assert ours["fingerprint"] == peer["fingerprint"]
    # Nine matrices in eight shards, no two of them alike; three norms, whole on every device.
    assert len(set(ours["fingerprint"])) == 9 * 8 + 3
    shards = [s for leaf in jax.tree.leaves(loaded["ours"]) for s in leaf.addressable_shards]
    assert ours["array_bytes"] == sum(shard.data.nbytes for shard in shards)
    assert ours["before_bytes"] < ours["peak_anonymous_bytes"] < ours["peak_rss_bytes"]
