"""`--dry-run`: the memory of a device and the time that a run's own computing needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import jax
from jax.sharding import Mesh

from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.engine import BLOCK, aligned
from dart_jax.generate.plan import most_slots
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.load import Model
from dart_jax.model.sharding import data_parallel
from dart_jax.pipeline import duration
from dart_jax.pipeline.duration import Work
from dart_jax.pipeline.footprint import (
    GIB,
    Devices,
    Footprint,
    batch_shape,
    decode_footprint,
    train_footprint,
)
from dart_jax.pipeline.lowered_step import lower_step, memory_of
from dart_jax.sft.row_shapes import MOST_SHAPES
from dart_jax.stages.audit import pool
from dart_jax.stages.context import Run
from dart_jax.stages.distill import written_plan

# For which the time is given where the run's own device is none of the known ones.
_EXAMPLES = ("NVIDIA A100", "NVIDIA H100", "TPU v5e")


def needs(run: Run, model: Model, stages: Collection[str]) -> Iterator[str]:
    """Say what training and decoding take of one device, and about how long they take.

    On a CPU this is said for accelerators, too: the run may be planned for another machine.

    Args:
        stages: Those that are still to run.
        model: With its architecture, tokenizer and mesh; its weights are not looked at.
    """
    settings, config, mesh = run.config, model.config, model.mesh
    accelerators = Devices(**mesh.shape)
    places = {"": accelerators}
    if jax.default_backend() == "cpu":
        places = {" on this CPU": Devices(**mesh.shape, is_cpu=True), " elsewhere": accelerators}

    slots = most_slots(run.decode, mesh, positions=0)
    lengths = [request.length for request in answer_prompts(run.splits["train"], model)]
    if {"distill", "repair"} & set(stages):
        parts = []
        for place, devices in places.items():
            taken = train_footprint(config, settings.model, settings.lora, settings.sft, devices)
            taken = _with_candidate(taken, run)
            parts.append(f"{taken}{place}")
        # A program for this CPU says nothing of the accelerators.
        compiled = "" if len(places) > 1 else _compiled(run, config, mesh)
        yield f"memory, training (rows of full length): {compiled}by formula {'; '.join(parts)}"
        yield f"programs, training: {_programs(run, model, stages)}"
    if {"audit", "evaluate"} & set(stages):
        parts = []
        for place, devices in places.items():
            parts.append(f"{_decoding(run, config, devices, slots, max(lengths))}{place}")
        yield f"memory, decoding: by formula {'; '.join(parts)}"

    work = _work(run, config, round(sum(lengths) / len(lengths)), stages)
    kinds = [jax.devices()[0].device_kind]
    if duration.peak_flops(kinds[0]) is None:
        kinds = list(_EXAMPLES)
    read = _decoding(run, config, accelerators, slots, max(lengths)).read_in_a_step
    estimates = [duration.hours(work, kind, mesh.size, slots, read) for kind in kinds]
    yield f"time: {duration.described(work, kinds, estimates)}"


def _compiled(run: Run, config: LlamaConfig, mesh: Mesh) -> str:
    """Compile the step for the accelerators that are there, and say what it takes."""
    shape = batch_shape(run.config.sft, data_parallel(mesh))
    memory = memory_of(lower_step(run.config, config, mesh, shape).compile())
    return (
        f"as compiled {memory.total / GIB:.2f} GiB a device ({memory.arguments / GIB:.2f} "
        f"arguments + {memory.temporaries / GIB:.2f} temporaries); "
    )


def _programs(run: Run, model: Model, stages: Collection[str]) -> str:
    """Count the programs of the distill training, if all that it trains on is written."""
    targets = run.folder / "teach/targets.jsonl"
    is_written = "distill" in stages and "teach" not in stages and targets.exists()
    if not is_written or run.config.model.given or run.config.sft.loss.toxicity_weight > 0:
        return f"at most {MOST_SHAPES} of the step; which ones depends on the targets"
    return f"distill: {written_plan(run, model).summary()}"


def _decoding(
    run: Run, config: LlamaConfig, devices: Devices, slots: int, longest: int
) -> Footprint:
    settings = run.config
    positions = aligned(longest) + aligned(run.decode.max_new_tokens) + BLOCK
    adapters = 1 + settings.repair.cycles  # the evaluation asks all models side by side
    taken = decode_footprint(
        config, settings.model, settings.lora, devices, slots, positions, adapters
    )
    return _with_candidate(taken, run)


def _with_candidate(taken: Footprint, run: Run) -> Footprint:
    """Count the second checkpoint, which stays in memory beside M0."""
    bases = 1 if run.config.model.candidate is None else 2
    return dataclasses.replace(taken, base=bases * taken.base)


def _work(run: Run, config: LlamaConfig, prompt: int, stages: Collection[str]) -> Work:
    """Bound what the stages compute: every question has a target, every pair is a drift case.

    Args:
        prompt: Mean length of a prompt in tokens.
    """
    settings = run.config
    completion = min(settings.teacher.max_tokens, settings.sft.max_length - prompt)
    one = duration.example_flops(config, settings.lora, prompt, max(1, completion))
    targets, asked, cycles = len(run.splits["train"]), len(pool(run)), settings.repair.cycles

    examples = answers = 0
    if "distill" in stages:
        examples += targets * settings.sft.epochs
    if "audit" in stages:
        # M0 once for all cycles, and the model of each.
        answers += asked * (1 + cycles)
    if "repair" in stages:
        replayed = round(settings.repair.replay * targets)
        examples += (asked + replayed) * settings.repair.epochs * cycles
    if "evaluate" in stages:
        ways = 2 if settings.evaluate.policy == "both" else 1
        # M0, M_int, and the model that each cycle leaves.
        answers += len(run.splits["test"]) * (2 + cycles) * ways
    return Work(examples * one, answers, run.decode.max_new_tokens)
