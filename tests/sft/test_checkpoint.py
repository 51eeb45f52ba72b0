"""Checkpoints are whole, of this run, and taken before the step reuses the memory; or refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dart_jax.model.config import MeshConfig
from dart_jax.model.sharding import make_mesh
from dart_jax.sft.checkpoint import Checkpoints, RefusedCheckpoint, checksum, differences
from dart_jax.sft.step import TrainState

IDENTITY = {"adapter": {"rank": 4, "targets": ("q", "v")}, "data": "abc", "key": [0, 7]}
ROWS = 1 << 16  # large enough that arrays get files of their own


def make_state():
    """Random weights: constant ones would be compressed into the index."""
    leaf = jax.random.normal(jax.random.key(0), (8, ROWS))
    lora = {"q": {"A": leaf, "B": 0.5 * leaf[:, :16]}}
    moments = jax.tree.map(jnp.ones_like, lora)
    return TrainState(jnp.zeros((), jnp.int32), lora, (moments, jnp.zeros((), jnp.int32)))


LIKE = jax.eval_shape(make_state)


def shardings_on(devices):
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])

    def of(leaf):
        return NamedSharding(mesh, PartitionSpec("data") if leaf.ndim else PartitionSpec())

    return jax.tree.map(of, LIKE)


def step_of(state):
    moved = jax.tree.map(lambda leaf: 1.5 * leaf + 0.25, state.lora_params)
    return TrainState(state.step + 1, moved, state.opt_state)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(folder, states by step) of a run on eight devices whose step donates its state."""
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    shardings = shardings_on(8)
    step = jax.jit(step_of, donate_argnums=0, in_shardings=(shardings,), out_shardings=shardings)
    state = jax.device_put(make_state(), shardings)
    expected = {}
    with Checkpoints(folder, IDENTITY) as checkpoints:
        assert checkpoints.restore(LIKE, shardings) is None
        for number in range(1, 9):
            state = step(state)
            if number % 2 == 0:
                expected[number] = jax.tree.map(np.array, state)
                checkpoints.save(number, state)
    return folder, expected


def restore(folder, devices=8, identity=IDENTITY):
    with Checkpoints(folder, identity) as checkpoints:
        return checkpoints.restore(LIKE, shardings_on(devices))


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("devices", [8, 1, 4])
def test_restored_on_any_devices_bit_by_bit(devices, saved):
    """The steps after a save, which ran while it was written, have left no trace in it."""
    found = restore(saved[0], devices)
    assert_same(found, saved[1][8])
    assert found.lora_params["q"]["A"].sharding == shardings_on(devices).lora_params["q"]["A"]


def test_two_are_kept(saved):
    assert sorted(path.name for path in saved[0].iterdir()) == ["6", "8"]


def test_the_one_before_is_whole(saved, tmp_path):
    """The remedy that a damaged one's message names."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved[0], folder)
    shutil.rmtree(folder / "8")
    assert_same(restore(folder), saved[1][6])


def test_saving_a_step_again_does_nothing(saved, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved[0], folder)
    with Checkpoints(folder, IDENTITY) as checkpoints:
        state = checkpoints.restore(LIKE, shardings_on(8))
        checkpoints.save(8, state._replace(lora_params=state.opt_state[0]))
    assert_same(restore(folder), saved[1][8])


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flipped(path):
    """One byte of what orbax does not check: an array's values."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def largest_file(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


@pytest.fixture
def copied(saved, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(saved[0], folder)
    return folder


def refusal(folder, step=8):
    return rf"{folder}: the checkpoint of step {step} is damaged \(.+\); delete "


# What reads the arrays of a damaged checkpoint leaves its futures behind.
ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ABANDONED
@pytest.mark.parametrize("damage", [half, empty, flipped])
@pytest.mark.parametrize(
    "name", ["label/metadata", "state/_METADATA", "state/manifest.ocdbt", "largest"]
)
def test_damaged(damage, name, copied):
    path = largest_file(copied / "8") if name == "largest" else copied / "8" / name
    damage(path)
    remedy = f"{copied}/8 to go on from step 6, or {copied} to train"
    with pytest.raises(RefusedCheckpoint, match=refusal(copied) + remedy):
        restore(copied)


@ABANDONED
@pytest.mark.parametrize("damage", [half, lambda path: path.unlink()], ids=["half", "missing"])
def test_every_file_is_read_right_or_refused(damage, saved, tmp_path):
    """Some files are not needed to read the arrays back; without the others, nothing is read."""
    refused = 0
    names = [path.relative_to(saved[0]) for path in (saved[0] / "8").rglob("*") if path.is_file()]
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(saved[0], folder)
        damage(folder / name)
        try:
            found = restore(folder)
        except RefusedCheckpoint:
            refused += 1
        else:
            assert_same(found, saved[1][8])
    assert refused >= 4


def test_a_folder_that_orbax_did_not_write(copied):
    shutil.rmtree(copied / "6")
    shutil.rmtree(copied / "8")
    (copied / "8").mkdir()
    with pytest.raises(RefusedCheckpoint, match=refusal(copied) + f"{copied} to train"):
        restore(copied)


def test_a_renamed_checkpoint(copied):
    (copied / "8").rename(copied / "9")
    with pytest.raises(RefusedCheckpoint, match=refusal(copied, 9)):
        restore(copied)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**IDENTITY, "key": [0, 8]}, r"key is \[0, 7\], not \[0, 8\]"),
        ({**IDENTITY, "data": "abd"}, 'data is "abc", not "abd"'),
        ({**IDENTITY, "adapter": {"rank": 8, "targets": ("q", "v")}}, "adapter.rank is 4, not 8"),
        ({**IDENTITY, "more": 1}, "more is null, not 1"),
    ],
)
def test_of_another_run(other, named, saved):
    message = f"{saved[0]}: the checkpoint of step 8 is of another run: {named}. Go back"
    with pytest.raises(RefusedCheckpoint, match=message):
        restore(saved[0], identity=other)


def test_differences_are_named_by_their_path():
    found = {"a": {"b": 1, "c": [2]}, "d": 4}
    assert list(differences(found, found)) == []
    expected = {"a": {"b": 1, "c": [3]}, "e": 5}
    assert list(differences(found, expected)) == [
        "a.c is [2], not [3]",
        "d is 4, not null",
        "e is null, not 5",
    ]


def test_checksum_sees_one_bit_and_no_sharding():
    state = make_state()
    expected = int(checksum(state))
    assert int(checksum(jax.device_put(state, shardings_on(8)))) == expected
    a = np.array(state.lora_params["q"]["A"])
    a.view(np.uint32)[3, 5] ^= 1
    changed = state._replace(lora_params={"q": {**state.lora_params["q"], "A": jnp.asarray(a)}})
    assert int(checksum(changed)) != expected
