"""Choose and load the models to ask: a run's own, or adapters of any origin beside their base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dart_jax.config import DartConfig, make_parser, put_arguments, read_config, resolve
from dart_jax.model.config import LoraConfig
from dart_jax.model.load import EMBEDDED, Model, load_model
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.peft_file import (
    CONFIG_FILE,
    adapter_folder,
    base_name,
    load_peft,
    load_peft_config,
)
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.pipeline.finished import check_base, run_folder
from dart_jax.processes import to_devices
from dart_jax.report.public import public_name
from dart_jax.settings import BadSetting

BASE = "M0"


@dataclass(frozen=True)
class Choice:
    """The models to ask, before any of them is loaded.

    Attributes:
        names: In the order asked for.
        folders: PEFT folder of each model that is not the base.
        config: The run's settings; for adapters without a run, those of the command line.
        lora: Settings that all adapters must have; None where each has its own.
    """

    names: tuple[str, ...]
    folders: Mapping[str, Path]
    config: DartConfig
    lora: LoraConfig | None


@dataclass(frozen=True)
class Asked:
    """The loaded models.

    Attributes:
        names: In the order asked for.
        adapters: Weights and scale of those that are not the base.
    """

    names: tuple[str, ...]
    model: Model
    adapters: Mapping[str, tuple[LoraParams, float]]


def models_of_run(run: Path, names: Sequence[str]) -> Choice:
    """Read a run's settings, and check that it has these models.

    Raises:
        BadCheckpoint, StaleStage: See `finished.check_base`; M0 alone may be any base.
        BadSetting: M0 and others are asked for at once, and stand on two checkpoints.
        FileNotFoundError: It is no run.
        ValueError: With the names that exist, for one that does not or that is given twice.
    """
    folder = run_folder(run)
    found = sorted(f.parent.name for f in folder.path.glob(f"adapters/*/{CONFIG_FILE}"))
    chosen = _choose(names, {name: run / "adapters" / name for name in found}, str(run))
    config = read_config(folder / "config.yaml")
    if chosen:
        check_base(folder, "distill", config)
    if chosen and config.model.candidate is not None:
        if BASE in names:
            raise BadSetting(
                f"--models {','.join(names)}: M0 is {config.model.path}, the others stand on "
                f"{config.model.candidate} (model.candidate), and one pass of the decoder holds "
                f"one checkpoint; ask {','.join(chosen)}, and M0 in a call of its own"
            )
        model = replace(config.model, path=config.model.candidate, candidate=None)
        config = replace(config, model=model)
    return Choice(tuple(names), chosen, config, config.lora)


def models_of_adapters(
    folders: Sequence[Path], names: Sequence[str], settings: Mapping[str, str]
) -> Choice:
    """Name adapters after their folders, and find their base model.

    Args:
        names: Models to ask, of M0 and the folders' names; without any, all of them.
        settings: The texts of `--model.*` and `--mesh.*` by name. Without model.path, the base is
            the one that the adapters' configuration names.

    Raises:
        BadCheckpoint, FileNotFoundError: A folder holds no adapter that can be read.
        BadSetting: Two folders of one name, or no base model that all of them name.
        ValueError: With the names that exist, for one that does not or that is given twice.
    """
    by_name: dict[str, Path] = {}
    for given in folders:
        folder = adapter_folder(given, "--adapter ")
        # Resolved, since a path such as `.` ends in no name.
        name = folder.resolve().name
        if name == BASE or name in by_name:
            raise BadSetting(f"--adapter {folder}: {name} is another model; rename the folder")
        by_name[name] = folder

    names = names or (BASE, *by_name)
    chosen = _choose(names, by_name, "--adapter")
    if "model.path" not in settings:
        settings = {**settings, "model.path": base_path(by_name)}
    parser = make_parser()
    config, *_ = resolve(parser, put_arguments(parser, settings, parser.get_defaults()))
    return Choice(tuple(names), chosen, config, None)


def _choose(names: Sequence[str], found: Mapping[str, Path], where: str) -> dict[str, Path]:
    """Look up the folders of those that are not the base."""
    for name in names:
        if name != BASE and name not in found:
            raise ValueError(f"--models {name}: {where} has {', '.join([BASE, *found])}")
    if len(set(names)) < len(names):
        raise ValueError(f"--models {','.join(names)}: each one once")
    return {name: found[name] for name in names if name != BASE}


def base_path(adapters: Mapping[str, Path]) -> str:
    """Find the base model that all adapters name, as `model.path` takes it.

    Args:
        adapters: Folders by name.

    Raises:
        BadSetting: They name several, or one names none.
    """
    bases = {name: base_name(folder) for name, folder in adapters.items()}
    named = set(bases.values())
    if len(named) > 1 or "" in named:
        said = ", ".join(f"{name}: {base or 'none'}" for name, base in bases.items())
        raise BadSetting(f"--adapter: no one base model is named ({said}); give --model.path")
    [base] = named
    # An export of the embedded model names its origin, which need not be downloaded.
    return EMBEDDED if base == public_name(EMBEDDED) else base


def load_models(choice: Choice) -> Asked:
    """Load the base model once, and the adapters.

    Raises:
        BadCheckpoint: An adapter does not fit the base model, or is not what the run trained.
    """
    config = choice.config
    print(f"loading {config.model.path}", flush=True)
    model = load_model(config.model, make_mesh(config.mesh))
    adapters = {}
    for name, folder in choice.folders.items():
        expected = choice.lora or load_peft_config(folder)
        lora = load_peft(folder, model.config, expected)
        shardings = tree_shardings(model.mesh, lora_axes(lora), lora)
        adapters[name] = (to_devices(lora, shardings), expected.scale)
    return Asked(choice.names, model, adapters)
