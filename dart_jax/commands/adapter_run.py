"""Begin a run whose M_int is an adapter from elsewhere, for the commands that measure a run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

from dart_jax.commands.models_to_ask import base_path
from dart_jax.config import read_command, read_config
from dart_jax.model.peft_file import adapter_folder, load_peft_config
from dart_jax.pipeline.run import run_locked
from dart_jax.settings import BadSetting

SECTIONS = ("model", "mesh")
"""Settings of the command that belong to the run itself, and are given where it is begun."""


def begin_run(run: Path, adapter: Path, settings: Mapping[str, str]) -> None:
    """Begin the run, unless it is there; nothing is trained.

    Args:
        settings: Those of SECTIONS, by name. Without model.path, the base is the one that the
            adapter's configuration names.

    Raises:
        BadSetting: The run is there with another M_int.
        FileNotFoundError, BadCheckpoint: There is no adapter in the folder, or one that cannot be
            read.
    """
    adapter = adapter_folder(adapter, "--adapter ").resolve()
    if (run / "config.yaml").is_file():
        given = read_config(run / "config.yaml").model.adapter
        if given is None or Path(given).expanduser().resolve() != adapter:
            raise BadSetting(
                f"--adapter {adapter}: M_int of {run} is {given or 'trained there'}; give another "
                "--run, which will be begun"
            )
        return

    lora, place = load_peft_config(adapter), run.resolve()
    own = {
        "run.name": place.name,
        "run.root": str(place.parent),
        **({} if "model.path" in settings else {"model.path": base_path({adapter.name: adapter})}),
        "model.adapter": str(adapter),
        "lora.rank": str(lora.rank),
        "lora.alpha": f"{lora.alpha:g}",
        "lora.targets": f"[{', '.join(lora.targets)}]",
        # No target is written: nothing is repaired here, so that nothing is replayed.
        "repair.replay": "0",
        "model.date": datetime.date.today().isoformat(),
        **settings,
    }
    command = read_command([f"--{name}={value}" for name, value in own.items()])
    run_locked(command.config, ("distill",), command.resolved)
