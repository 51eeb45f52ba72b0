"""The documents' examples as they stand there: severity to loss, and a loss of one's own."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from dart_jax import sft
from dart_jax.config import parse
from dart_jax.records import Condition, DriftCase, DriftType, Question, Severity, Target, Turn
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import tokenize
from dart_jax.sft.loop import train
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import gradients, train_spec
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.repair import repair_requests
from tests.sft.test_loop import LORA, read_log
from tests.sft.test_loop import SFT as SETTINGS

SFT = Path(sft.__file__).parent / "README.md"
TOP = Path(__file__).parents[2] / "README.md"


def blocks(readme, language):
    return re.findall(rf"```{language}\n(.*?)```", readme.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("severity", Severity)
def test_a_severity_becomes_a_loss_weight(severity, model, lora, lora_params):
    """Weight in at the drift case, weight out in the loss: weight k is k copies, and not fewer."""
    (code,) = [block for block in blocks(SFT, "python") if "DriftCase" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    given = {
        "question": Question("q", "own", Condition.DIFF, "", -1, "s", (Turn("user", "Hi."),)),
        "model": model,
        "adapter": lora_params,
        "lora": lora,
        "np": np,
        "replace": dataclasses.replace,
    }
    for name in (DriftCase, DriftType, RepairConfig, Severity, SftConfig, Target):
        given[name.__name__] = name
    for function in (gradients, make_plan, repair_requests, tokenize, train_spec):
        given[function.__name__] = function
    exec(code.replace("Severity.SEVERE", f"Severity.{severity.name}"), given)

    repair, replay, loss_of = given["repair"], given["replay"], given["loss_of"]
    assert repair.weight == severity
    once = dataclasses.replace(repair, weight=1.0)
    losses = [loss_of([*[once] * count, replay]) for count in range(1, 5)]
    np.testing.assert_allclose(loss_of([repair, replay]), losses[severity - 1], rtol=1e-5)
    assert min(np.abs(np.diff(losses))) > 1e-3, "any other number of copies would be seen"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The example's settings, with its module in the current directory."""
    (code,) = [block for block in blocks(TOP, "python") if "my_pkg.py" in block]
    (yaml,) = [block for block in blocks(TOP, "yaml") if "my_pkg." in block]
    assert len(code.splitlines()) + len(yaml.splitlines()) < 20
    (tmp_path / "my_pkg.py").write_text(code)
    (tmp_path / "own.yaml").write_text(yaml)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return parse(["--config=own.yaml"])[0].repair.loss


def test_the_readme_example_trains(settings, model, lora_params, make_examples, tmp_path):
    """Replayed targets have no loss at the start, repairs have theirs; the adapter moves."""
    examples = [
        dataclasses.replace(example, source="repair" if index % 2 else "distill")
        for index, example in enumerate(make_examples(4))
    ]
    initial = {name: lora_params[name] for name in LORA.targets}
    train(
        examples,
        model,
        initial,
        tmp_path / "run",
        base={},
        lora=LORA,
        sft=SETTINGS,
        epochs=1,
        learning_rate=1e-2,
        seed=0,
        title="readme",
        loss=settings,
    )
    (line,) = read_log(tmp_path / "run")
    assert line.loss_parts == {settings.fn: line.loss}
    repairs = [e for e in examples if e.source == "repair"]
    tokens = sum(len(e.tokens) - e.prompt_length for e in repairs)
    expected = line.loss_by_source["repair"] * tokens / line.supervised_tokens
    assert line.loss == pytest.approx(expected, rel=1e-4)
    assert line.grad_norm > 0
