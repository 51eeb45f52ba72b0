"""The shapes of a call of `decode` on a CPU and on GPUs, which need not be there."""

import jax
import jax.numpy as jnp
import pytest

from dart_jax.generate import plan
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.plan import Request, cache_room, make_plan, most_slots
from dart_jax.model.config import MeshConfig
from dart_jax.model.sharding import make_mesh
from tests.tiny_model import CONFIG

PROMPTS = [Request(f"q{n}", (n, *range(100))) for n in range(2000)]


@pytest.fixture
def meshes():
    """One device, and eight."""
    return [make_mesh(MeshConfig(), jax.devices()[:count]) for count in (1, 8)]


@pytest.fixture
def on_gpus(monkeypatch):
    """Let the simulated devices pass for GPUs."""
    monkeypatch.setattr(plan, "platform_of", lambda mesh: "gpu")


def test_on_a_cpu_batches_are_small(meshes):
    one, eight = (make_plan(PROMPTS, DecodeConfig(), mesh) for mesh in meshes)
    assert (one.slots, eight.slots) == (32, 32)
    assert one.pages > 1
    # Of 112 tokens a row: 4 rows are 448.
    assert one.prefill_shape(PROMPTS) == (112, 4)


def test_a_shorter_length_is_one_that_saves_more_than_its_program_costs(meshes):
    """Beside a prompt of 117 tokens, those of 101 are padded to 112 or to 128."""
    enough = plan.PROGRAM_TOKENS // 16
    for short, lengths in ((enough, (112, 128)), (enough - 1, (128,))):
        prompts = [*PROMPTS[:short], Request("long", (7,) * 117)]
        planned = make_plan(prompts, DecodeConfig(), meshes[0])
        assert planned.prompt_lengths == lengths
        assert planned.prefill_shape(prompts[:8])[0] == lengths[0]
        assert planned.prefill_shape(prompts[-8:])[0] == 128
    # Calls in a row share the powers of two, whatever each of them would save.
    two = [PROMPTS[0], Request("long", (7,) * 200)]
    shared = make_plan(two, DecodeConfig(), meshes[0], few_shapes=True)
    assert shared.prompt_lengths == (128, 256)


def test_a_batch_shrinks_where_that_saves_more_than_its_program_costs(meshes):
    planned = make_plan(PROMPTS, DecodeConfig(), meshes[0])
    steps = plan.PROGRAM_TOKENS // 24
    assert planned.smaller(32, 8, steps) == 8
    assert planned.smaller(32, 8, steps - 1) == 32
    assert planned.smaller(8, 8, steps) == 8


def test_on_gpus_batches_are_large(meshes, on_gpus):
    one, eight = (make_plan(PROMPTS, DecodeConfig(), mesh) for mesh in meshes)
    assert (one.slots, eight.slots) == (128, 1024)
    # 32 rows are 3,584 of 4,096 tokens, and as many on each device.
    assert one.prefill_shape(PROMPTS) == (112, 32)
    assert eight.prefill_shape(PROMPTS) == (112, 256)
    few = make_plan(PROMPTS[:5], DecodeConfig(), meshes[0])
    assert few.slots == 8


@pytest.mark.parametrize("room", [None, 128 * 640, 128 * 640 - 1, 32 * 640, 0])
def test_slots_fit_the_memory_that_is_free(meshes, on_gpus, room):
    slots = {None: 128, 128 * 640: 128, 128 * 640 - 1: 64, 32 * 640: 32, 0: 32}[room]
    one, eight = meshes
    assert most_slots(DecodeConfig(), one, 640, room) == slots
    assert most_slots(DecodeConfig(), eight, 640, room) == 8 * slots
    assert most_slots(DecodeConfig(slots=100), eight, 640, room) == 100


class Device:
    """A device that says what memory it has."""

    def __init__(self, limit, used):
        self.stats = {"bytes_limit": limit, "bytes_in_use": used}

    def memory_stats(self):
        return self.stats


def test_room_is_that_of_the_fullest_device(meshes, monkeypatch):
    dtype = jnp.dtype("bfloat16")
    assert cache_room(CONFIG, meshes[0], dtype) is None  # a CPU does not say
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(10_000, 0), Device(10_000, 4_000)])
    # Keys and values of 2 heads of 8 in 2 layers, in the CPU's float32: 256 bytes a token.
    assert cache_room(CONFIG, meshes[0], dtype) == 2400 // 256
