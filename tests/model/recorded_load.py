"""A tensor source that counts what it is asked for; run as a script, one of two processes.

    python recorded_load.py FOLDER PORT INDEX

loads over a mesh that both processes hold, compares this one's shards with the whole weights,
and prints the bytes that were read of each tensor.
"""

import dataclasses
import json
import sys
import weakref
from collections import Counter
from pathlib import Path


class Recorded:
    """`source`, which counts bytes by tensor, and how many tensors were ever open at once."""

    def __init__(self, source):
        self.bytes = Counter()
        self.most_open = 0
        self._open_now = weakref.WeakSet()
        self._inner = source
        self.source = dataclasses.replace(source, open=self._open)

    def _open(self, name):
        tensor = _Tensor(self._inner.open(name), self.bytes, name)
        self._open_now.add(tensor)
        self.most_open = max(self.most_open, len(self._open_now))
        return tensor


class _Tensor:
    def __init__(self, tensor, counted, name):
        self._tensor, self._counted, self._name = tensor, counted, name

    def __getitem__(self, index):
        part = self._tensor[index]
        self._counted[self._name] += part.nbytes
        return part


def main(folder, port, index):
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dart_jax.model.config import MeshConfig
    from dart_jax.model.llama import param_axes, param_shapes
    from dart_jax.model.load import open_checkpoint
    from dart_jax.model.sharding import make_mesh, tree_shardings
    from dart_jax.model.weights import load_params

    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    config, source = open_checkpoint(folder)
    recorded = Recorded(source)
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    found = load_params(config, recorded.source, jnp.float32, shardings)
    whole = load_params(config, source, jnp.float32)
    for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        assert not leaf.is_fully_addressable
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(expected)[shard.index])
    print(json.dumps({"bytes": recorded.bytes, "most_open": recorded.most_open}))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
