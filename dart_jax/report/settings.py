"""Tabulate settings: those that a reader needs at a glance, and all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dart_jax.changes import flatten
from dart_jax.report.document import Column, Table

_ESSENTIALS: dict[str, tuple[str, ...]] = {
    "model": ("path", "adapter", "candidate"),
    "data": ("suite", "split_by", "max_train", "max_validation", "max_test", "seed"),
    "lora": ("rank", "alpha", "dropout"),
    "sft": ("epochs", "early_stopping", "batch_size", "learning_rate", "loss"),
    "decode": (),
    "teacher": ("provider", "model", "label"),
    "judge": ("provider", "model"),
    "audit": (
        "protocol",
        "mode",
        "scorer",
        "scorers",
        "screen_by",
        "views",
        "tau",
        "pool_splits",
        "max_prompts",
    ),
    "repair": (
        "severity_weights",
        "weight_fn",
        "weighting",
        "mass",
        "max_weight_share",
        "span_weight",
        "replay",
        "epochs",
        "max_steps",
        "learning_rate",
        "require_safer",
        "loss",
    ),
    "plant": (),
    "run": ("seed",),
}
"""An empty tuple stands for the whole section; `plant` is left out where nothing is planted."""

_SECTION_COLUMNS = (Column("section", "section"), Column("settings", "settings"))


def essential_settings(config: Mapping[str, Any]) -> Table:
    """Tabulate the settings that a reader needs at a glance, a row a section."""
    rows = []
    for section, keys in _ESSENTIALS.items():
        if section == "plant" and not plants(config):
            continue
        values = dict(config[section])
        if values.get("scorers"):
            del values["scorer"]  # a default that is not used
        if values.get("weight_fn"):
            del values["severity_weights"]
        shown = {key: values[key] for key in keys or values if key in values}
        rows.append({"section": section, "settings": listed(shown)})
    return Table("settings", "Essential settings", _SECTION_COLUMNS, rows)


def plants(config: Mapping[str, Any]) -> bool:
    """Say whether a configuration plants faults; one of an earlier version has no such section."""
    return bool(config.get("plant", {}).get("share"))


def settings_table(config: Mapping[str, Any]) -> Table:
    """Tabulate every setting but the names of the variables that hold keys, a row each."""
    rows = []
    for key, value in flatten(config).items():
        if not key.endswith("api_key_env"):
            rows.append({"setting": key, "value": value_words(value)})
    columns = (Column("setting", "setting"), Column("value", "value"))
    return Table("all_settings", "Configuration, every setting", columns, rows)


def section_rows(sections: Mapping[str, Mapping[str, Any]]) -> Table:
    """Tabulate some settings of some sections, a row a section."""
    rows = [{"section": name, "settings": listed(values)} for name, values in sections.items()]
    return Table("settings", "Settings of the run", _SECTION_COLUMNS, rows)


def listed(values: Mapping[str, Any]) -> str:
    """Write settings as `epochs 1, batch_size 8`; what is null or empty is left out."""
    parts = []
    for key, value in values.items():
        # Not by its truth: 0 and false are settings that say something.
        if value not in (None, (), []):
            parts.append(f"{key} {value_words(value)}")
    return ", ".join(parts)


def value_words(value: Any) -> str:
    """Write one setting in words; null as in the run's config.yaml."""
    if value is None:
        return "null"
    if isinstance(value, Mapping) and "fn" in value:
        return loss_words(value)
    if isinstance(value, Mapping):
        words = [f"{key} {value_words(item)}" for key, item in value.items()]
        # One word where it stands for all, as it may be given.
        return words[0].split()[-1] if len(set(value.values())) == 1 else " ".join(words)
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return str(value)


def loss_words(loss: Mapping[str, Any]) -> str:
    """Write the settings of a loss that matter, as `focal, focal_gamma 2, kl_weight 1`."""
    names = ["unlikelihood_weight", "kl_weight", "toxicity_weight"]
    if loss["fn"] == "focal":
        names.insert(0, "focal_gamma")
    parts = [loss["fn"]]
    parts += [f"{name} {loss[name]:g}" for name in names if loss[name]]
    # A run of an earlier version has no such setting.
    preference = loss.get("preference", "none")
    if preference != "none":
        parts.append(f"preference {preference}, preference_beta {loss['preference_beta']:g}")
    return ", ".join(parts)
