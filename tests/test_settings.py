"""Every setting has a range, and it holds wherever a configuration is made."""

import dataclasses
import math
from typing import Annotated, Literal

import pytest

from dart_jax.commands.sweep.config import read_sweep
from dart_jax.config import DartConfig, parse
from dart_jax.model.config import LoraConfig
from dart_jax.settings import (
    BadSetting,
    Count,
    LossWeightOrZero,
    Positive,
    Range,
    allows,
    described,
    setting_types,
)

TYPES = dict(setting_types(DartConfig))
LEAVES = [key for key, hint in TYPES.items() if not dataclasses.is_dataclass(hint)]

# Each was accepted once, and trained nothing, trained backwards or failed after the teacher's bill.
REFUSED = {
    "sft.learning_rate": (-0.5, 0.0, 1e-50, math.inf, math.nan),
    "sft.clip_norm": (0.0, -1.0),
    "sft.warmup_share": (2.0, -0.1),
    "sft.weight_decay": (-0.5,),
    "sft.profile_steps": ((0, 3), (3, 2)),
    "lora.alpha": (0.0, -1.0, 1e40),
    "lora.targets": (("q", "q", "v"), ("q", "q_proj"), (), ("head",)),
    "lora.dropout": (1.0,),
    "repair.replay": (25, -0.1),
    "repair.learning_rate": (-1e-4, 0),
    "repair.span_weight": (1e-50, -1.0, math.nan),
    "repair.severity_weights": ((1, 2, 3), (1, 2, 3, 0), (1, 2, 3, 1e-50), (1, 2, 3, 1e40)),
    "repair.max_weight_share": (0, 1.5),
    "repair.mass": (0, -1, math.inf),
    "repair.max_steps": (0, 1.5),
    "sft.loss.toxicity_weight": (1e-50, -1.0, math.inf),
    "evaluate.confidence": (95, 1, 0),
    "evaluate.bootstrap_samples": (0, 39),
    "judge.concurrency": (0,),
    "judge.timeout": (0,),
    "teacher.max_tokens": (0,),
    "teacher.correction_rounds": (-1,),
    "teacher.limits.max_requests": (0,),
    "judge.limits.price_prompt": (math.nan,),
    "audit.tau": (2, math.nan),
    "audit.severity_bins": ((0.1, 0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 4)),
    "audit.pool_splits": (("test",), ()),
    "audit.mode": ("judge_some",),
    "mesh.fsdp": (0, -2),
    "model.context_length": (0,),
    "model.path": ("",),
    "data.max_train": (0, -1),
    "data.seed": (-1,),
    "run.seed": (-1, 2**32),
    "run.name": ("", "a/b"),
    "run.root": ("",),
    "decode.temperature": (-0.1, 1e-50, math.inf),
    "decode.top_p": (0.0, 1.1),
}
CASES = [(key, value) for key, values in REFUSED.items() for value in values]


def section_of(key):
    """The configuration class of a setting, and the field's name."""
    *sections, field = key.split(".")
    config = DartConfig()
    for name in sections:
        config = getattr(config, name)
    return config, field


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_value_outside_its_range_is_refused_in_python(key, value):
    config, field = section_of(key)
    with pytest.raises(BadSetting) as refused:
        dataclasses.replace(config, **{field: value})
    assert f"{key.split('.')[-2]}.{field}" in str(refused.value)


def as_text(value):
    """A value as YAML and command lines write it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_text, value))}]"
    special = {math.inf: ".inf"}
    return ".nan" if value != value else str(special.get(value, value))


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_value_outside_its_range_is_refused_on_the_command_line(key, value):
    with pytest.raises(BadSetting) as refused:
        parse([f"--{key}", as_text(value)])
    message = str(refused.value)
    assert key in message and "\n" not in message, "one sentence that names the setting"


@pytest.mark.parametrize(("key", "value"), CASES[::5])
def test_a_variant_of_a_sweep_is_refused_before_it_starts(key, value, tmp_path):
    if key.startswith("run."):
        pytest.skip("run.* belongs to the sweep")
    (tmp_path / "try.yaml").write_text(
        f"base: {{}}\nvariants: {{a: {{{key}: {as_text(value)}}}}}\n"
    )
    with pytest.raises(BadSetting, match=r"try\.yaml: variants\.a: ") as refused:
        read_sweep(tmp_path / "try.yaml", None, {})
    assert key in str(refused.value)


@pytest.mark.parametrize("key", [key for key in LEAVES if "a number" in described(TYPES[key])])
def test_no_setting_may_be_no_number(key):
    for value in (math.nan, math.inf, -math.inf, 1e-50):
        items = (value,) * 4 if "list" in described(TYPES[key]) else value
        assert not allows(TYPES[key], items)


@pytest.mark.parametrize("key", LEAVES)
def test_every_number_and_text_has_a_range(key):
    bare = {float, int} & parts_of(TYPES[key])
    assert not bare, f"{key}: declare its range, such as Positive, beside the field"
    assert allows(TYPES[key], getattr(*section_of(key))), "its default is within it"


def parts_of(hint):
    """The types that an annotation is made of, those with a range left out."""
    if hasattr(hint, "__metadata__"):
        return set()
    parts = getattr(hint, "__args__", ())
    found = {hint} if not parts else set()
    for part in parts:
        found |= parts_of(part) if not isinstance(part, str) else set()
    return found


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Positive, "a number above 0"),
        (Count | None, "a whole number from 1 or null"),
        (Annotated[float, Range(above=0, most=1)], "a number above 0 and to 1"),
        (LossWeightOrZero, "a number 0 or from 1e-06 to 1000000"),
        (Literal["a", "b", "c"], "a, b or c"),
        (tuple[Count, Count], "a list of 2, each a whole number from 1"),
        (bool, "true or false"),
    ],
)
def test_a_range_in_words(hint, text):
    assert described(hint) == text


def test_a_truth_value_is_no_number():
    assert not allows(Count, True)
    assert allows(bool, True) and not allows(bool, 1)
    assert allows(Positive, 1) and not allows(Count, 1.0)


def test_names_of_peft_are_understood():
    assert LoraConfig(targets=("q_proj", "v")).targets == ("q", "v")
    assert LoraConfig(targets=("q_proj", "v")) == LoraConfig(targets=("q", "v"))
    assert parse(["--lora.targets", "q_proj,up_proj"])[0].lora.targets == ("q", "up")


@pytest.mark.parametrize("value", ["null", "0.5"])
def test_clipping_may_be_off(value):
    found = parse(["--sft.clip_norm", value])[0].sft.clip_norm
    assert found == (None if value == "null" else 0.5)
