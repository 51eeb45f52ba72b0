"""Write configs/results/memory.json: which card holds a training step, by the formula.

    python -m tests.record_memory

The tables of launch/gpu.md are compared with it, and it with the formula of this commit.
"""

import json
from typing import Any

from dart_jax.model.config import LoraConfig, ModelConfig
from dart_jax.model.presets import PRESETS
from dart_jax.pipeline.footprint import GIB, Devices, decode_footprint, train_footprint
from dart_jax.records import write_text
from dart_jax.sft.config import SftConfig
from tests.record_run import RESULTS

FILE = RESULTS / "memory.json"
MODELS = {"8B": "llama-3-8b", "3B": "llama-3.2-3b"}
STORAGE = {"bfloat16": "none", "int8": "int8", "nf4": "nf4"}
REMAT = ("projections", "layer")
BATCHES = ((1, 1024), (1, 2048), (2, 2048), (4, 2048), (8, 2048))
SLOTS, POSITIONS = (32, 64, 128), 640
# In GB, of which the formula may take so much: the rest is for what it does not know.
CARDS, SHARE = (24, 40, 80), 0.9


def cell(total_bytes: float) -> str:
    """GiB, and the smallest card that holds it with a tenth to spare."""
    gib = total_bytes / GIB
    cards = [card for card in CARDS if gib <= SHARE * card]
    return f"{gib:.1f} ({cards[0] if cards else '-'})"


def training() -> dict[str, dict[str, str]]:
    """Each storage and remat -> micro-batch -> its cell."""
    table = {}
    for title, preset in MODELS.items():
        for stored, quantize in STORAGE.items():
            model = ModelConfig(dtype="bfloat16", quantize=quantize)
            for remat in REMAT:
                row = table[f"{title}, {stored}, {remat}"] = {}
                for rows, length in BATCHES:
                    found = train_footprint(
                        PRESETS[preset],
                        model,
                        LoraConfig(),
                        SftConfig(remat=remat),
                        Devices(),
                        (1, rows, length),
                    )
                    row[f"{rows} x {length}"] = cell(found.total)
    return table


def decoding() -> dict[str, dict[str, str]]:
    """Each storage -> slots -> its cell, for M0 with two adapters."""
    table = {}
    for title, preset in MODELS.items():
        for stored, quantize in STORAGE.items():
            model = ModelConfig(dtype="bfloat16", quantize=quantize)
            row = table[f"{title}, {stored}"] = {}
            for slots in SLOTS:
                found = decode_footprint(
                    PRESETS[preset], model, LoraConfig(), Devices(), slots, POSITIONS, 2
                )
                row[f"{slots} slots"] = cell(found.total)
    return table


def document() -> dict[str, Any]:
    """The whole file."""
    return {
        "command": "python -m tests.record_memory",
        "commit": None,
        "machine": "none: calculated",
        "note": "GiB by dart_jax/pipeline/footprint.py; in brackets the card in GB.",
        "training": training(),
        "decoding": decoding(),
    }


if __name__ == "__main__":
    write_text(FILE, json.dumps(document(), indent=1) + "\n")
