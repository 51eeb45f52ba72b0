"""Keep what `compile` finds for absent TPU slices in configs/results/compiled.json.

    PYTHONPATH=FOLDER .venv/bin/python -m tests.record_compiled --results OUT llama3_8b_v5e_2x4

FOLDER has the libtpu that `.[tpu]` installs beside this environment's jax (`pip install --no-deps
--target FOLDER libtpu==VERSION`: in the environment itself it would look for a TPU). Each program
of PROGRAMS that is named, or all, is compiled, unless OUT has its NAME.json already: minutes on two
cores. Each minor version of jax has a table of its own; run it once with each. --largest-batch is
for the tables of the largest batch that fits. tests/test_documents.py then names each cell of
configs/README.md that says otherwise.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dart_jax.machine import machine
from dart_jax.pipeline.footprint import GIB
from dart_jax.records import write_text
from tests.record_run import RESULTS, head

ROOT = RESULTS.parents[1]
FILE = RESULTS / "compiled.json"
MODELS = {"llama-3-8b": "Llama-3-8B", "llama-3.2-3b": "Llama-3.2-3B", "llama-3-70b": "Llama-3-70B"}
# Name of a configuration -> the preset of its model, and its slice.
PROGRAMS = {
    "llama3_8b_v5e_2x4": ("llama-3-8b", "v5e:2x4"),
    "llama3_8b_v5e_2x2": ("llama-3-8b", "v5e:2x2"),
    "llama3_2_3b_v5e_2x2": ("llama-3.2-3b", "v5e:2x2"),
    "llama3_8b_v6e_2x4": ("llama-3-8b", "v6e:2x4"),
    "llama3_8b_nf4_v6e_1x1": ("llama-3-8b", "v6e:1x1"),
    "llama3_70b_v5p_2x2x2": ("llama-3-70b", "v5p:2x2x2"),
}


def command(name: str, out: Path, largest: bool) -> list[str]:
    """The command line that compiles a program of the table."""
    preset, topology = PROGRAMS[name]
    words = ["--config", f"configs/{name}.yaml", "--architecture", preset, "--topology", topology]
    words += ["--largest-batch"] if largest else []
    return [sys.executable, "-m", "dart_jax", "compile", *words, "--out", str(out)]


def figures(result: Mapping[str, Any], commit: str) -> dict[str, Any]:
    """Pick the figures of a result of `compile --out` that the tables show, and its versions."""
    sizes = {
        "gib": result["bytes_per_device"],
        "gib_of_chip": result["hbm_bytes"],
        "gib_arguments": result["argument_bytes"],
        "gib_temporaries": result["temp_bytes"],
    }
    return {
        "topology": result["topology"],
        "micro_batches": f"{result['micro_batches']} x {result['rows']} x {result['length']}",
        **{name: round(size / GIB, 2) for name, size in sizes.items()},
        "products": round(result["recompute_factor"], 3),
        "seconds": round(result["compile_seconds"]),
        **result["versions"],
        "commit": commit,
    }


def section(result: Mapping[str, Any], largest: bool) -> str:
    """The table that a result stands in: each minor version of jax has its own."""
    minor = "_".join(result["versions"]["jax"].split(".")[:2])
    return f"{'largest' if largest else 'programs'}_jax_{minor}"


def record(name: str, result: Mapping[str, Any], commit: str, largest: bool) -> None:
    """Replace one program's figures in the file."""
    document = json.loads(FILE.read_text("utf-8"))
    table = document.setdefault(section(result, largest), {})
    quantized = ", nf4" if "_nf4_" in name else ""
    table[name] = {"model": MODELS[PROGRAMS[name][0]] + quantized} | figures(result, commit)
    document |= {"commit": commit, "machine": machine()}
    write_text(FILE, json.dumps(document, indent=1) + "\n")


def main() -> int:
    """Compile and record; returns the exit status of the last `compile` that failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="configurations of the table (default: all)")
    parser.add_argument("--results", type=Path, required=True, help="folder for NAME.json")
    parser.add_argument("--largest-batch", action="store_true", help="instead of the own batch")
    parser.add_argument("--commit", help="the commit that compiled (default: this tree's)")
    given = parser.parse_args()

    for name in given.names or PROGRAMS:
        file = given.results / f"{name}.json"
        if not file.exists():
            done = subprocess.run(command(name, file, given.largest_batch), cwd=ROOT)
            if done.returncode:
                return done.returncode
        result = json.loads(file.read_text("utf-8"))
        record(name, result, given.commit or head(), given.largest_batch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
