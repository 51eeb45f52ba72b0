"""Compile training step or decoder for devices that are not there, and say what it needs.

    python -m dart_jax compile --config configs/llama3_8b_v5e_2x4.yaml --topology v5e:2x4
    python -m dart_jax compile --config configs/llama3_8b.yaml --topology h100 --program decode

Needs the compiler of the topology (libtpu, or jax's CUDA plugin and ptxas), and no TPU, GPU,
weights or data. What is compiled is the step that `python -m dart_jax.train` runs with this
configuration, for the largest micro-batch that any examples could make: every one of
sft.max_length tokens, all supervised. Packed into rows of sft.row_length tokens, sft.row_length //
sft.max_length of these are in a row. A training has at most four programs of the step
(`sft.row_shapes`), of which none is larger.

With --program decode it is a block of decode steps instead, for M0 and one adapter side by side,
over N slots (decode.slots) of T tokens each (1,024): the program that is held longest, with the
whole cache among its arguments.

Said are the bytes of a device; how many times the products of matrices are done that a training
step needs (1.5 if all of the forward pass is computed again); and of each loop what one iteration
(a layer, a new token) moves, copies, exchanges between devices, and calls of libraries. Kernels
are chosen as XLA does without a card to try them on.

With --largest-batch the micro-batch has the most rows that fit by formula, or as many fewer as the
compiler asks for.

The exit status is 0 if the step fits the devices' memory, 1 if it does not.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dart_jax.command_line import call
from dart_jax.config import SETTINGS, DartConfig, read_config
from dart_jax.pipeline.footprint import GIB, Devices, batch_shape
from dart_jax.pipeline.hlo_products import recompute_factor
from dart_jax.pipeline.hlo_traffic import count_traffic
from dart_jax.pipeline.largest_batch import rows_to_try
from dart_jax.pipeline.topologies import (
    Topology,
    absent_devices,
    compiler_versions,
    parse_topology,
    prepare_environment,
)
from dart_jax.records import write_text
from dart_jax.settings import Count
from dart_jax.strict_json import read_json

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from dart_jax.model.architecture import LlamaConfig

# Of a step that fits: bytes on one device, and seconds.
_MEASURED = (
    "argument_bytes",
    "temp_bytes",
    "output_bytes",
    "alias_bytes",
    "bytes_per_device",
    "compile_seconds",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Compile for TPUs or GPUs that are not there; say what it needs.

    Any setting of python -m dart_jax.train may follow, such as --mesh.tensor 2.

    Attributes:
        config: YAML file, as `dart_jax train` takes it.
        topology: TPUs, such as v5e:2x4, v5p:2x2x2 or v6e:2x2, or GPUs: h100, h100:8 or a100.
        program: Compile the training step, or a block of decode steps.
        architecture: Preset, such as llama-3-8b, where model.path has no checkpoint.
        layers: Layers to compile, for the model's own; two show what each does.
        rows: Rows of a micro-batch, or slots, over all chips.
        length: Tokens of a row, or a slot.
        largest_batch: Compile as many rows of a micro-batch as fit, instead of `rows`.
        out: JSON file for the result.
        settings: The texts of `--section.field value`, by name.
    """

    config: Path
    topology: str
    program: Literal["train", "decode"] = "train"
    architecture: str | None = None
    layers: Count | None = None
    rows: Count | None = None
    length: Count | None = None
    largest_batch: bool = False
    out: Path | None = None
    settings: Mapping[str, str]


def read_job(arguments: Sequence[str]) -> tuple[Job, DartConfig]:
    """Read the command line; what is no option of this command is a setting of dart_jax.train.

    Raises:
        ValueError: The largest batch is asked for with a number of rows, or in decoding.
    """
    job = call("python -m dart_jax compile", Job, arguments, SETTINGS)
    if job.largest_batch and (job.rows is not None or job.program != "train"):
        raise ValueError("--largest-batch finds --rows of --program train: leave out both")
    return job, read_config(job.config, job.settings)


def main(arguments: Sequence[str]) -> int:
    """Compile, write and print the result; returns the exit status."""
    job, config = read_job(arguments)
    topology = parse_topology(job.topology)
    prepare_environment(topology)
    architecture = _architecture(job.architecture, config.model.path)
    # Of all its layers, however many are compiled.
    config, mesh = _laid_out(config, architecture, topology)
    if job.layers is not None:
        architecture = dataclasses.replace(architecture, num_layers=job.layers)

    lower = _lower_train if job.program == "train" else _lower_decode
    for rows in _rows_to_try(job, config, architecture, mesh, topology.memory_bytes):
        lowered, shape = lower(dataclasses.replace(job, rows=rows), config, architecture, mesh)
        compiled, text = _compile(lowered, topology.memory_bytes)
        if compiled["fits"]:
            break

    devices = mesh.size
    result = {"program": job.program, "topology": job.topology, "devices": devices}
    result |= {"hbm_bytes": topology.memory_bytes} | compiled
    traffic = count_traffic(text) if text else []
    factor, flops = None, None
    if text and job.program == "train":
        factor = _recompute_factor(text, config, architecture, shape, mesh)
    if job.program == "train":
        flops = _flops(config, architecture, shape)

    result |= {
        "recompute_factor": factor,
        "traffic": [dataclasses.asdict(part) for part in traffic],
        "flops_per_device": flops and flops // devices,
        "micro_batches": shape[0],
        "rows": shape[1],
        "length": shape[2],
        "mesh": dict(mesh.shape),
        "architecture": dataclasses.asdict(architecture),
        "versions": compiler_versions(topology),
        "config": config.to_dict(),
    }

    if job.out is not None:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(job.out, json.dumps(result, indent=1) + "\n")
    print(_line(result), *traffic, sep="\n", flush=True)
    return 0 if result["fits"] else 1


def _laid_out(
    config: DartConfig, architecture: LlamaConfig, topology: Topology
) -> tuple[DartConfig, Mesh]:
    """Settle the mesh as it would be on the devices themselves, and make it."""
    from dart_jax.backend import Hardware
    from dart_jax.model.sharding import make_mesh
    from dart_jax.pipeline.layout import choose

    devices = absent_devices(topology)
    platform = "gpu" if topology.is_gpu else "tpu"
    found = Hardware(platform, topology.model, len(devices), topology.memory_bytes)
    layout = choose(config, found, [architecture], trains=True)
    return dataclasses.replace(config, mesh=layout.mesh), make_mesh(layout.mesh, devices)


def _architecture(name: str | None, model_path: str) -> LlamaConfig:
    from dart_jax.model.load import resolve_path
    from dart_jax.model.presets import PRESETS

    if name in PRESETS:
        return PRESETS[name]
    names = ", ".join(PRESETS)
    if name is not None:
        raise ValueError(f"--architecture: {name!r}; one of {names}")
    try:
        path = resolve_path(model_path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or --architecture, out of {names}") from error
    return _read_architecture(path)


def _read_architecture(path: Path) -> LlamaConfig:
    """Read the shapes alone: the folder needs no weights in it."""
    from dart_jax.model.architecture import from_hf_config
    from dart_jax.model.gguf_file import open_gguf

    if path.is_file():
        return open_gguf(path)[0]
    file = path / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"model.path: {file} is missing")
    return from_hf_config(read_json(file), str(file))


def _rows_to_try(
    job: Job, config: DartConfig, architecture: LlamaConfig, mesh: Mesh, memory_bytes: int
) -> Iterable[int | None]:
    """Yield the rows asked for; for the largest batch as many as fit by formula, then fewer."""
    if not job.largest_batch:
        return (job.rows,)
    return rows_to_try(config, architecture, Devices(**mesh.shape), memory_bytes, job.length)


def _lower_train(
    job: Job, config: DartConfig, architecture: LlamaConfig, mesh: Mesh
) -> tuple[Any, tuple[int, int, int]]:
    """Lower the training step; returns it and the shape [A, B, T] of its batches."""
    from dart_jax.model.sharding import data_parallel
    from dart_jax.pipeline.lowered_step import lower_step

    shape = batch_shape(config.sft, data_parallel(mesh), job.rows, job.length)
    return lower_step(config, architecture, mesh, shape), shape


def _lower_decode(
    job: Job, config: DartConfig, architecture: LlamaConfig, mesh: Mesh
) -> tuple[Any, tuple[int, int, int]]:
    """Lower a block of decode steps; returns it and 1, its slots and the tokens of each."""
    from dart_jax.generate.lowering import lower_block
    from dart_jax.generate.plan import most_slots
    from dart_jax.pipeline.lowered_step import base_shapes

    length = job.length or 1024
    rows = job.rows or most_slots(config.decode, mesh, length)
    lowered = lower_block(
        architecture,
        base_shapes(config.model, architecture),
        config.lora,
        config.decode,
        mesh,
        rows,
        length,
        memory_bytes=parse_topology(job.topology).memory_bytes,
    )
    return lowered, (1, rows, length)


def _compile(lowered: Any, memory_bytes: int) -> tuple[dict[str, Any], str]:
    """Compile; returns the bytes of one device's share, the compiler's seconds, and the text.

    The compiler refuses what exceeds the memory, and then has no sizes to give.
    """
    import jax

    from dart_jax.pipeline.lowered_step import memory_of

    started = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        problem = str(error).splitlines()[0]
        return {**dict.fromkeys(_MEASURED), "fits": False, "problem": problem}, ""
    seconds = time.perf_counter() - started
    memory = memory_of(compiled)
    values = (*memory, memory.total, round(seconds, 1))
    measured = dict(zip(_MEASURED, values, strict=True))
    fits = memory.total <= memory_bytes
    return {**measured, "fits": fits}, compiled.as_text()


def _recompute_factor(
    text: str,
    config: DartConfig,
    architecture: LlamaConfig,
    shape: tuple[int, int, int],
    mesh: Mesh,
) -> float | None:
    from dart_jax.model.kernel_attention import choose_attention
    from dart_jax.model.sharding import platform_of

    dtype = "bfloat16" if config.model.dtype == "auto" else config.model.dtype
    has_scores = choose_attention(config.sft.attention, platform_of(mesh), dtype) == "xla"
    return recompute_factor(text, architecture, config.lora, shape, mesh.size, has_scores)


def _flops(config: DartConfig, architecture: LlamaConfig, shape: tuple[int, int, int]) -> int:
    """Count the operations of a step in which every row is one example of full length.

    By formula, without recomputation: the compiler's own count takes the body of a loop once.
    """
    from dart_jax.sft.flops import Counts, train_flops

    micro_batches, rows, length = shape
    rows *= micro_batches
    tokens = rows * length
    return train_flops(
        architecture, config.lora, Counts(tokens, tokens, tokens, tokens * (length + 1) // 2)
    )


def _line(result: dict[str, Any]) -> str:
    where = f"{result['topology']} ({result['devices']} devices)"
    limit = f"{result['hbm_bytes'] / GIB:.2f}"
    if "problem" in result:
        return f"{where}: does not fit {limit} GiB a device: {result['problem']}"

    arguments, temporaries, outputs, aliased, total = (
        result[name] / GIB for name in _MEASURED if name != "compile_seconds"
    )
    flops = result["flops_per_device"]
    flops = f"{flops / 1e12:.1f} TFLOP a step and device, " if flops else ""
    factor = result["recompute_factor"]
    done = f"{factor:.2f} times the products needed, " if factor else ""
    rows = f"{result['micro_batches']} x {result['rows']} rows x {result['length']} tokens"
    return (
        f"{where}: {total:.3f} GiB a device of {limit} ({arguments:.3f} arguments + "
        f"{temporaries:.3f} temporaries + {outputs:.3f} outputs - {aliased:.3f} aliased) "
        f"for {rows}, {flops}{done}compiled in {result['compile_seconds']:.0f} s: "
        f"{'fits' if result['fits'] else 'does not fit'}"
    )
