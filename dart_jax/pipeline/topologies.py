"""Devices that are not there, for which a program can be compiled all the same.

    v5e:2x4     a TPU slice; libtpu has its compiler
    h100:8      GPUs of one host; jax's CUDA plugin has their compiler, which needs ptxas

A GPU is described to XLA by a file of gpu_targets/, which says where its numbers are from.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.pipeline.footprint import GIB

# What the compiler grants a program of one chip's 16, 95 and 32 GB (libtpu 0.0.52).
_TPU_BYTES = {"v5e": int(15.75 * GIB), "v5p": int(95.73 * GIB), "v6e": int(31.24 * GIB)}
_TARGETS = Path(__file__).parent / "gpu_targets"
_GPUS = tuple(sorted(file.stem for file in _TARGETS.glob("*.txtpb")))
# What jax takes of a card's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
_SHARE_OF_A_GPU = "0.75"


@dataclass(frozen=True)
class Topology:
    """Absent devices: their name as given, generation or card, and number along each axis."""

    name: str
    model: str
    chips: tuple[int, ...]

    @property
    def is_gpu(self) -> bool:
        """Tell GPUs from TPUs."""
        return self.model in _GPUS

    @property
    def memory_bytes(self) -> int:
        """Memory of one device that a program may take."""
        if not self.is_gpu:
            return _TPU_BYTES[self.model]
        share = float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", _SHARE_OF_A_GPU))
        return int(share * int(_stated(self.target, r"device_memory_size: (\d+)")))

    @property
    def target(self) -> str:
        """A GPU's description, as text of XLA's GpuTargetConfigProto."""
        return (_TARGETS / f"{self.model}.txtpb").read_text("utf-8")


def _stated(target: str, pattern: str) -> str:
    match = re.search(pattern, target)
    assert match is not None, pattern
    return match[1]


def parse_topology(text: str) -> Topology:
    """Split `v5e:2x4` or `h100:8` into the model and its number along each axis.

    Raises:
        ValueError: Not of that form, or a model that is not known.
    """
    model, colon, bounds = text.partition(":")
    # Only a GPU may stand alone.
    sizes = bounds.split("x") if colon or model not in _GPUS else ["1"]
    axes_known = len(sizes) == 1 if model in _GPUS else model in _TPU_BYTES
    if not axes_known or not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(
            f"--topology: {text!r}; a TPU generation out of {', '.join(_TPU_BYTES)} and its chips, "
            f"such as v5e:2x4 or v5p:2x2x2, or a GPU out of {', '.join(_GPUS)} and how many of "
            "them, such as h100 or h100:8"
        )
    return Topology(text, model, tuple(map(int, sizes)))


def prepare_environment(topology: Topology) -> None:
    """Make the topology's compiler a compiler only. Has to come before the first import of jax.

    Raises:
        FileNotFoundError: The compiler is not installed; says what to install.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if topology.is_gpu:
        _cuda_plugin()
        # No card is there, on which kernels could be tried against each other.
        flags = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={_cuda_toolkit()}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        return

    if importlib.util.find_spec("libtpu") is None:
        raise FileNotFoundError(
            "libtpu is not installed, and it holds the TPU compiler; run `pip install libtpu` "
            "(in an environment of its own: with it, plain jax looks for a TPU when it starts)"
        )
    # Nobody is there to be asked about the slice, nor a device to be locked.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-8"
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"


def _cuda_plugin() -> Path:
    """Find the library that holds XLA's CUDA compiler."""
    spec = importlib.util.find_spec("jax_plugins")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for library in sorted(Path(folder).glob("xla_cuda*/xla_cuda_plugin.so"), reverse=True):
            return library
    version = importlib.metadata.version("jax")
    raise FileNotFoundError(
        "jax's CUDA plugin is not installed, and it holds the GPU compiler; run `pip install "
        f"--no-deps --target FOLDER jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}` and "
        "set PYTHONPATH=FOLDER (a folder of its own: with it, plain jax looks for a GPU)"
    )


def _cuda_toolkit() -> Path:
    """Find the folder with bin/ptxas and libdevice, which the CUDA compiler calls and links."""
    folders = []
    if "CUDA_ROOT" in os.environ:
        folders.append(Path(os.environ["CUDA_ROOT"]))
    nvidia = importlib.util.find_spec("nvidia")
    for site in (nvidia.submodule_search_locations if nvidia is not None else None) or ():
        folders.append(Path(site) / "cu13")
    ptxas = shutil.which("ptxas")
    if ptxas is not None:
        folders.append(Path(ptxas).resolve().parents[1])
    folders.append(Path("/usr/local/cuda"))  # where NVIDIA's installer and XLA's own search go

    for folder in folders:
        if (folder / "bin/ptxas").exists() and (folder / "nvvm/libdevice").exists():
            return folder
    raise FileNotFoundError(
        "bin/ptxas and nvvm/libdevice, which the GPU compiler needs, are in none of "
        f"{', '.join(map(str, folders))}; set CUDA_ROOT to a CUDA toolkit's folder, or run `pip "
        "install --no-deps --target FOLDER nvidia-cuda-nvcc nvidia-nvvm` and set PYTHONPATH=FOLDER"
    )


def absent_devices(topology: Topology) -> Sequence[Any]:
    """Make the devices, for which programs are lowered and compiled but cannot be run.

    Raises:
        ValueError: The compiler knows no such devices.
    """
    import jax
    from jax.experimental import topologies

    if topology.is_gpu:
        _answer_for_the_driver(topology.target)
        # Partitions, hosts of each, and cards of each.
        options = {"target_config": topology.target, "topology": f"1x1x{topology.chips[0]}"}
        arguments = (topology.model, "cuda")
    else:
        # libtpu takes hosts of 2x2 chips; a slice of one chip is a host of one.
        options = {"chips_per_host_bounds": (1, 1, 1)} if set(topology.chips) == {1} else {}
        arguments = (topology.name, "tpu")
    try:
        return topologies.get_topology_desc(*arguments, **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"--topology: XLA refuses {topology.name}: {error}") from error


def _answer_for_the_driver(target: str) -> None:
    """Answer what jax asks the driver before it calls cuDNN: version and compute capability."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    major, minor, patch = map(int, _stated(target, r'dnn_version: "([\d.]+)"').split("."))
    capability = (
        int(_stated(target, r"cuda_compute_capability \{ major: (\d+)")),
        int(_stated(target, r"cuda_compute_capability \{ major: \d+ minor: (\d+)")),
    )

    def asked(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    cudnn.check_cudnn_version = lambda: 10000 * major + 100 * minor + patch
    cudnn.check_compute_capability = lambda text: capability >= asked(text)
    cudnn.is_cuda_compute_capability_equal = lambda text: capability == asked(text)


def compiler_versions(topology: Topology) -> dict[str, str]:
    """Give the versions of jax and of the package that holds the compiler."""
    versions = {"jax": importlib.metadata.version("jax")}
    package = "libtpu"
    if topology.is_gpu:
        package = f"jax-{_cuda_plugin().parent.name.removeprefix('xla_')}-pjrt"
    return versions | {package: importlib.metadata.version(package)}
