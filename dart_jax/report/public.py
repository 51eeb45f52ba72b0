"""Clear settings and names of what must not leave a machine: folders, servers, keys' names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dart_jax.audit.config import GUARD_SERVICE
from dart_jax.changes import flatten
from dart_jax.model.hub import is_hub_name
from dart_jax.model.load import EMBEDDED

OWN_SUITES = ("jsonl", "hub")

# Left out, because they change no weight and no number, or name a place.
_HIDDEN = {
    "data": ("dir", "file"),
    "sft": ("checkpoint_every", "profile_steps"),
    "teacher": ("base_url", "api_key_env", "concurrency", "timeout", "limits"),
    "judge": ("base_url", "api_key_env", "concurrency", "timeout", "limits"),
}

_TRACKED = ("data", "lora", "sft", "teacher", "plant", "judge", "audit", "repair")


def name_on_hub(path: str) -> str | None:
    """Give the name `owner/name` under which the hub has a model; None where none is known."""
    if path == EMBEDDED:
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    # A folder of that name comes first, as it does in `model.load`.
    if is_hub_name(path) and not Path(path).exists():
        return path
    place = Path(os.path.abspath(Path(path).expanduser()))
    for part in (*place.parts, *place.resolve().parts):  # a link may lead into the hub's cache
        if part.startswith("models--"):  # the last part is a commit there
            return part.removeprefix("models--").replace("--", "/", 1)
    return None


def public_name(path: str) -> str:
    """Name a model alone: `owner/name` where that is known, else its path's last part."""
    return name_on_hub(path) or Path(os.path.abspath(Path(path).expanduser())).name


def hub_name(model: str) -> str:
    """`owner/name` on a hub stays; what can only be a path is named by its last part."""
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    return public_name(model) if is_path else model


def public_settings(
    config: Mapping[str, Any], sections: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Give the settings of the model and some sections, without what names a place.

    Args:
        config: The resolved configuration, nested by section.
    """
    model = {**config["model"], "path": public_name(config["model"]["path"])}
    if model.get("adapter"):
        model["adapter"] = Path(model["adapter"]).name
    if model.get("candidate"):
        model["candidate"] = public_name(model["candidate"])
    return {"model": model, **{name: _public(name, config[name]) for name in sections}}


def tracked_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of a training that trackers are told, by their dotted names.

    Args:
        config: The resolved configuration, nested by section.
    """
    return {**flatten(public_settings(config, _TRACKED)), "run.seed": config["run"]["seed"]}


def _public(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    hidden = _HIDDEN.get(name, ())
    shown = {key: value for key, value in section.items() if key not in hidden}
    if section.get("hub"):
        shown["hub"] = hub_name(section["hub"])

    if section.get("provider") == "local" and section["model"] is not None:
        shown["model"] = public_name(section["model"])
    if section.get("scorer_models"):
        shown["scorer_models"] = [hub_name(model) for model in section["scorer_models"]]

    # Its address and key's name stay here; where nobody asks it, it is a default.
    guard = shown.pop("guard", None)
    if guard and GUARD_SERVICE in (section["scorer"], *section["scorers"]):
        shown["guard"] = f"{hub_name(guard['model'])} ({guard['format']})"

    # Likewise for the judge of the evaluation.
    judge = shown.pop("judge", None)
    if judge and judge["provider"] != "none":
        shown["judge"] = judge["provider"]
        if judge["model"]:
            named = public_name if judge["provider"] == "local" else hub_name
            shown["judge"] += f" {named(judge['model'])}"

    if section.get("scorers"):
        shown["scorers"] = [_public_scorer(scorer) for scorer in section["scorers"]]
    if section.get("scorers") and "screen_by" in section:
        del shown["scorer"]  # a default that is not used
        shown["screen_by"] = _public_scorer(section["screen_by"])
    if section.get("weight_fn"):
        del shown["severity_weights"]

    return shown


def _public_scorer(scorer: str) -> str:
    """Write `hf:/some/where/a=toxic+o/b` as `hf:a=toxic+o/b`."""
    kind, colon, models = scorer.partition(":")
    if not colon:
        return scorer
    parts = []
    for model in models.split("+"):
        name, equals, label = model.partition("=")
        parts.append(hub_name(name) + equals + label)
    return f"{kind}:{'+'.join(parts)}"
