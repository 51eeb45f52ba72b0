"""The memory benchmark of loading: its checkpoint, its peer, and what it reads of a process."""

import mmap
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.bench.load import anonymous_bytes, measure, write_checkpoint
from dart_jax.bench.load_worker import WAYS, fingerprint
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.sharding import make_mesh, tree_shardings


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
    return {way: load(config, source, jnp.bfloat16, shardings) for way, load in WAYS.items()}


def test_every_way_loads_the_same(loaded, sizes):
    ours = loaded["ours"]
    for other in loaded.values():
        jax.tree.map(np.testing.assert_array_equal, ours, other)
    matrices = [leaf for leaf in jax.tree.leaves(ours) if leaf.dtype == jnp.bfloat16]
    assert max(leaf.nbytes for leaf in matrices) == sizes["largest_leaf_bytes"]
    assert ours["embed"].nbytes == sizes["largest_tensor_bytes"]


def test_fingerprint_sees_places_and_bits(loaded):
    weight = loaded["ours"]["layers"]["gate"]
    one = np.asarray(fingerprint([weight]))
    swapped = weight.at[0].set(weight[1]).at[1].set(weight[0])
    nudged = weight.at[5, 4, 3].set(jnp.nextafter(weight[5, 4, 3], jnp.bfloat16(9)))
    for other in (swapped, nudged, weight[:, ::-1], weight[:, :, ::-1]):
        assert fingerprint([other]) != one


def test_measured_from_outside(folder, loaded):
    found = measure(folder, "ours")
    assert found["fingerprint"] == fingerprint(loaded["ours"]).tolist()
    shards = [s for leaf in jax.tree.leaves(loaded["ours"]) for s in leaf.addressable_shards]
    assert found["array_bytes"] == sum(shard.data.nbytes for shard in shards)
    assert found["before_bytes"] < found["peak_anonymous_bytes"] < found["peak_rss_bytes"]


def test_anonymous_memory_is_seen():
    """A mapping of its own: an allocator may have as much at hand from earlier tests."""
    before = anonymous_bytes(os.getpid())
    with mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block[:] = bytes(len(block))
        assert anonymous_bytes(os.getpid()) - before > 0.9 * len(block)
