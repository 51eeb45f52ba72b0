"""Compile training step or decoder for a TPU slice that is not there, and say what it needs.

    python -m dart_jax compile --config configs/llama3_8b_v5e_2x4.yaml --topology v5e:2x4

Needs libtpu, whose compiler it is, and no TPU, weights or data. What is compiled is the step that
`python -m dart_jax.train` runs with this configuration, for the largest micro-batch that any
examples could make: every one of sft.max_length tokens, all supervised. Packed into rows of
sft.row_length tokens, sft.row_length // sft.max_length of these are in a row.

With --program decode it is a block of decode steps instead, for M0 and one adapter side by side,
over N slots (decode.slots) of T tokens each (1,024): the program that is held longest, with the
whole cache among its arguments.

The exit status is 0 if the step fits the chips' memory, 1 if it does not.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dart_jax.command_line import call
from dart_jax.config import SETTINGS, DartConfig, read_config
from dart_jax.pipeline.footprint import GIB, batch_shape
from dart_jax.records import write_text
from dart_jax.settings import Count
from dart_jax.strict_json import read_json

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from dart_jax.model.architecture import LlamaConfig

# What the compiler grants a program of one chip's 16, 95 and 32 GB (libtpu 0.0.52).
HBM_BYTES = {"v5e": int(15.75 * GIB), "v5p": int(95.73 * GIB), "v6e": int(31.24 * GIB)}

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
    """Compile for a TPU slice without one; say what it needs.

    Any setting of python -m dart_jax.train may follow, such as --mesh.tensor 2.

    Attributes:
        config: YAML file, as `dart_jax train` takes it.
        topology: Generation and chips, such as v5e:2x4, v5p:2x2x2 or v6e:2x2.
        program: Compile the training step, or a block of decode steps.
        architecture: Preset, such as llama-3-8b, where model.path has no checkpoint.
        rows: Rows of a micro-batch, or slots, over all chips.
        length: Tokens of a row, or a slot.
        out: JSON file for the result.
        settings: The texts of `--section.field value`, by name.
    """

    config: Path
    topology: str
    program: Literal["train", "decode"] = "train"
    architecture: str | None = None
    rows: Count | None = None
    length: Count | None = None
    out: Path | None = None
    settings: Mapping[str, str]


def read_job(arguments: Sequence[str]) -> tuple[Job, DartConfig]:
    """Read the command line; what is no option of this command is a setting of dart_jax.train."""
    job = call("python -m dart_jax compile", Job, arguments, SETTINGS)
    return job, read_config(job.config, job.settings)


def parse_topology(text: str) -> tuple[str, tuple[int, ...]]:
    """Split `v5e:2x4` into the generation and the chips along each axis.

    Raises:
        ValueError: Not of that form, or a generation that is not known.
    """
    generation, _, bounds = text.partition(":")
    sizes = bounds.split("x")
    if generation not in HBM_BYTES or not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(
            f"--topology: {text!r}; a generation out of {', '.join(HBM_BYTES)} and its chips, "
            "such as v5e:2x4 or v5p:2x2x2"
        )
    return generation, tuple(map(int, sizes))


def main(arguments: Sequence[str]) -> int:
    """Compile, write and print the result; returns the exit status."""
    job, config = read_job(arguments)
    generation, chips = parse_topology(job.topology)
    _prepare_environment()
    architecture = _architecture(job.architecture, config.model.path)
    config, mesh = _laid_out(config, architecture, job.topology, chips)

    lower = _lower_train if job.program == "train" else _lower_decode
    lowered, shape = lower(job, config, architecture, mesh)

    devices = mesh.size
    hbm_bytes = HBM_BYTES[generation]
    result = {"program": job.program, "topology": job.topology, "devices": devices}
    result |= {"hbm_bytes": hbm_bytes} | _compile(lowered, hbm_bytes)

    flops = _flops(config, architecture, shape) if job.program == "train" else None
    result |= {
        "flops_per_device": flops and flops // devices,
        "micro_batches": shape[0],
        "rows": shape[1],
        "length": shape[2],
        "mesh": dict(mesh.shape),
        "architecture": dataclasses.asdict(architecture),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "libtpu")},
        "config": config.to_dict(),
    }

    if job.out is not None:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(job.out, json.dumps(result, indent=1) + "\n")
    print(_line(result), flush=True)
    return 0 if result["fits"] else 1


def _prepare_environment() -> None:
    """Make libtpu a compiler only. Has to come before the first import of jax."""
    if importlib.util.find_spec("libtpu") is None:
        raise FileNotFoundError(
            "libtpu is not installed, and it holds the TPU compiler; run `pip install libtpu` "
            "(in an environment of its own: with it, plain jax looks for a TPU when it starts)"
        )
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Nobody is there to be asked about the slice, nor a device to be locked.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-8"
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"


def _laid_out(
    config: DartConfig, architecture: LlamaConfig, topology: str, chips: tuple[int, ...]
) -> tuple[DartConfig, Mesh]:
    """Settle the mesh as it would be on the slice itself, and make it."""
    import jax
    from jax.experimental import topologies

    from dart_jax.backend import Hardware
    from dart_jax.model.sharding import make_mesh
    from dart_jax.pipeline.layout import choose

    # libtpu takes hosts of 2x2 chips; a slice of one chip is a host of one.
    options = {"chips_per_host_bounds": (1, 1, 1)} if set(chips) == {1} else {}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"--topology: libtpu refuses {topology}: {error}") from error

    generation = topology.partition(":")[0]
    slice_ = Hardware("tpu", generation, len(found.devices), HBM_BYTES[generation])
    layout = choose(config, slice_, [architecture], trains=True)
    return dataclasses.replace(config, mesh=layout.mesh), make_mesh(layout.mesh, found.devices)


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
    base_params = base_shapes(config.model, architecture)
    lowered = lower_block(architecture, base_params, config.lora, config.decode, mesh, rows, length)
    return lowered, (1, rows, length)


def _compile(lowered: Any, hbm_bytes: int) -> dict[str, Any]:
    """Compile; returns the bytes of one chip's share and the compiler's seconds.

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
        return {**dict.fromkeys(_MEASURED), "fits": False, "problem": str(error).splitlines()[0]}
    seconds = time.perf_counter() - started
    memory = memory_of(compiled)
    values = (*memory, memory.total, round(seconds, 1))
    return {**dict(zip(_MEASURED, values, strict=True)), "fits": memory.total <= hbm_bytes}


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
    return (
        f"{where}: {total:.3f} GiB a device of {limit} ({arguments:.3f} arguments + "
        f"{temporaries:.3f} temporaries + {outputs:.3f} outputs - {aliased:.3f} aliased), "
        f"{flops}compiled in {result['compile_seconds']:.0f} s: "
        f"{'fits' if result['fits'] else 'does not fit'}"
    )
