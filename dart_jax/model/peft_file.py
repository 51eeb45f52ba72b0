"""Write and read adapters in the file format of the Hugging Face `peft` library.

`adapter_config.json` states rank, alpha, dropout and targets; `adapter_model.safetensors` holds
two matrices per layer and target, each the transpose of ours:

    lora_params[q]["A"][l]  [in, R]   <->  ...layers.{l}.self_attn.q_proj.lora_A.weight  [R, in]
    lora_params[q]["B"][l]  [R, out]  <->  ...layers.{l}.self_attn.q_proj.lora_B.weight  [out, R]
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dart_jax.cli import naming
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LORA_TARGETS, LoraConfig
from dart_jax.model.finite import all_finite
from dart_jax.model.lora import LoraParams, projection_shapes
from dart_jax.model.weights import LAYER_NAMES, BadCheckpoint
from dart_jax.records import write_text
from dart_jax.strict_json import BadRecord, read_json

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"

_MODULES = {target: LAYER_NAMES[target].removesuffix(".weight") for target in LORA_TARGETS}
_TARGET_OF = {module.rpartition(".")[2]: target for target, module in _MODULES.items()}
# Keys of peft features that our adapters lack. Each would change the result, so all are refused.
_BEYOND = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "exclude_modules",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
)


def save_peft(folder: Path, lora_params: LoraParams, lora: LoraConfig, base_name: str) -> None:
    """Write an adapter that `peft.PeftModel.from_pretrained` loads.

    Each file is replaced as a whole and the configuration comes last: a folder that has one is
    complete.

    Args:
        lora_params: Arrays must be whole on this process.
        base_name: Name of the base model; peft shows it, and nothing here reads it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (TENSOR_FILE + ".tmp")
    with naming(temporary), open(temporary, "wb") as out:
        # transformers refuses a file without the framework's name in its metadata.
        out.write(save(_to_tensors(lora_params), metadata={"format": "pt"}))
        # On disk before the configuration says that the folder is complete.
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, folder / TENSOR_FILE)

    whole_alpha = float(lora.alpha).is_integer()  # peft declares an int, and takes a float
    raw = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if whole_alpha else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": [_MODULES[target].rpartition(".")[2] for target in lora.targets],
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    write_text(folder / CONFIG_FILE, json.dumps(raw, indent=2) + "\n")


def adapter_folder(path: str | Path, setting: str) -> Path:
    """Find the folder of an adapter from elsewhere.

    Args:
        setting: The setting or option that names it, for the message.

    Raises:
        FileNotFoundError: It holds no adapter.
    """
    folder = Path(path).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{setting}{folder}: there is no {CONFIG_FILE} in it; give the folder that peft, "
            "or export --format peft, wrote"
        )
    return folder


def load_peft_config(folder: Path) -> LoraConfig:
    """Read an adapter's settings, with its targets in the order of `LORA_TARGETS`.

    Raises:
        BadCheckpoint: Not JSON, or a feature of peft that our adapters lack.
        FileNotFoundError: The folder has no adapter configuration.
    """
    path = folder / CONFIG_FILE
    try:
        raw = read_json(path)
        _refuse_beyond(raw, path)
        modules = raw["target_modules"]
        rank, alpha, dropout = raw["r"], float(raw["lora_alpha"]), raw["lora_dropout"]
    except BadRecord as error:
        raise BadCheckpoint(str(error)) from error
    except KeyError as error:
        raise BadCheckpoint(f"{path}: key {error} is missing") from error

    # peft takes a string for a pattern over module names; only a list names the modules.
    unknown = modules if isinstance(modules, str) else sorted(set(modules) - set(_TARGET_OF))
    if unknown:
        raise BadCheckpoint(f"{path}: target_modules {unknown} are none of {', '.join(_TARGET_OF)}")
    targets = {_TARGET_OF[module] for module in modules}
    return LoraConfig(rank, alpha, dropout, tuple(t for t in LORA_TARGETS if t in targets))


def base_name(folder: Path) -> str:
    """Name or path of the base model in an adapter's settings; '' where they name none.

    Raises:
        BadCheckpoint: The settings are not JSON.
        FileNotFoundError: The folder has no adapter configuration.
    """
    try:
        settings = read_json(folder / CONFIG_FILE)
    except BadRecord as error:
        raise BadCheckpoint(str(error)) from error
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return name if isinstance(name, str) else ""


def _refuse_beyond(raw: dict[str, Any], path: Path) -> None:
    """Raise BadCheckpoint for an adapter that is not plain LoRA."""
    unsupported = {key: raw[key] for key in _BEYOND if raw.get(key)}
    if raw["peft_type"] != "LORA":
        unsupported["peft_type"] = raw["peft_type"]
    if raw.get("bias", "none") != "none":
        unsupported["bias"] = raw["bias"]
    # Other initialisers (pissa, olora, loftq, ...) also rewrite the base weights.
    if raw.get("init_lora_weights", True) not in (True, False, "gaussian"):
        unsupported["init_lora_weights"] = raw["init_lora_weights"]

    if unsupported:
        raise BadCheckpoint(f"{path}: only plain LoRA is supported, not {unsupported}")


def load_peft(folder: Path, config: LlamaConfig, lora: LoraConfig) -> LoraParams:
    """Read an adapter for a model, in float32 on the default device.

    Args:
        lora: Expected settings of the adapter; dropout is not compared, because it only matters in
            training.

    Raises:
        BadCheckpoint: Another rank, alpha or targets than `lora`'s, or tensors that do not fit the
            model or are not finite; names them.
        FileNotFoundError: A file of the adapter is missing.
    """
    _check_config(folder, lora)
    tensors = _read_tensors(folder / TENSOR_FILE)
    _check_tensors(folder / TENSOR_FILE, tensors, config, lora)
    not_finite = sorted(name for name, tensor in tensors.items() if not all_finite(tensor))
    if not_finite:
        raise BadCheckpoint(
            f"{folder / TENSOR_FILE}: not finite: {_first(not_finite)}; train it again"
        )

    def stack(target: str, matrix: str) -> Any:
        names = (_name(layer, target, matrix) for layer in range(config.num_layers))
        return jnp.asarray(np.stack([tensors[name].T for name in names]), jnp.float32)

    return {t: {matrix: stack(t, matrix) for matrix in ("A", "B")} for t in lora.targets}


def check_trained(lora_params: LoraParams, where: Path) -> None:
    """Refuse an adapter in which the B of some layer and target is still zero.

    B starts at zero and the first step changes it. Where it is zero, the projection is the base
    model's: no gradient reached it, or no step was made.

    Raises:
        BadCheckpoint: Names the matrices that are all zero.
    """
    zero = [
        _name(layer, target, "B")
        for target, weights in lora_params.items()
        for layer, weight in enumerate(np.asarray(weights["B"]))
        if not weight.any()
    ]
    if zero:
        raise BadCheckpoint(
            f"{where}: all zero: {_first(zero)}. B starts at zero, so that these projections were "
            "never trained and are the base model's own; check that the run made optimizer "
            "steps at a learning rate above zero, and train it again"
        )


def _first(names: list[str]) -> str:
    """List the first five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _name(layer: int, target: str, matrix: str) -> str:
    return f"base_model.model.model.layers.{layer}.{_MODULES[target]}.lora_{matrix}.weight"


def _to_tensors(lora_params: LoraParams) -> dict[str, np.ndarray]:
    """Split the stacked layers into peft's tensors, each transposed."""
    tensors = {}
    for target, weights in lora_params.items():
        for matrix, stacked in weights.items():
            for layer, weight in enumerate(np.asarray(stacked, np.float32)):
                # The library writes memory as it lies, and a transposed view has not moved it.
                tensors[_name(layer, target, matrix)] = np.ascontiguousarray(weight.T)
    return tensors


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        # The flax framework is the one that knows bfloat16.
        with safe_open(path, framework="flax") as file:
            return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BadCheckpoint(f"{path}: not a readable safetensors file ({error})") from error


def _check_config(folder: Path, lora: LoraConfig) -> None:
    stored = load_peft_config(folder)
    differing = [
        f"{key} is {theirs}, expected {ours}"
        for key, theirs, ours in (
            ("rank", stored.rank, lora.rank),
            ("alpha", stored.alpha, lora.alpha),
            ("targets", sorted(stored.targets), sorted(lora.targets)),
        )
        if theirs != ours
    ]
    if differing:
        raise BadCheckpoint(f"{folder / CONFIG_FILE}: {'; '.join(differing)}")


def _check_tensors(
    path: Path, tensors: dict[str, np.ndarray], config: LlamaConfig, lora: LoraConfig
) -> None:
    """Raise BadCheckpoint unless names and shapes are those of the model's adapter."""
    expected = {}
    for target in lora.targets:
        fan_in, fan_out = projection_shapes(config)[target]
        for layer in range(config.num_layers):
            expected[_name(layer, target, "A")] = (lora.rank, fan_in)
            expected[_name(layer, target, "B")] = (fan_out, lora.rank)

    misshaped = [
        f"{name} is {tensors[name].shape}, expected {shape}"
        for name, shape in sorted(expected.items())
        if name in tensors and tensors[name].shape != shape
    ]

    problems = [
        f"{kind} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for kind, names in (
            ("missing", sorted(expected.keys() - tensors.keys())),
            ("unknown", sorted(tensors.keys() - expected.keys())),
            ("misshaped", misshaped),
        )
        if names
    ]
    if problems:
        raise BadCheckpoint(f"{path}: {'; '.join(problems)}")
