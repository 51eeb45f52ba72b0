"""The README's loss of one's own, as it stands there: read, imported, trained with."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from dart_jax.config import parse
from dart_jax.sft.loop import train
from tests.sft.test_loop import LORA, SFT, read_log

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The example's settings, with its module in the current directory."""
    (code,) = [block for block in blocks("python") if "my_pkg.py" in block]
    (yaml,) = [block for block in blocks("yaml") if "my_pkg." in block]
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
        sft=SFT,
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
