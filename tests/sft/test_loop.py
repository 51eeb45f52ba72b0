"""An interrupted run goes on as if nothing had happened, on other devices, too."""

import dataclasses
import math
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.sharding import make_mesh
from dart_jax.records import read_jsonl
from dart_jax.sft.checkpoint import RefusedCheckpoint
from dart_jax.sft.config import SftConfig
from dart_jax.sft.loop import train
from dart_jax.sft.metrics import LogLine, NonFiniteLoss, Speed
from dart_jax.sft.packing import NothingSupervised, make_plan
from dart_jax.sft.preemption import Terminated

# Little to compile; test_killed.py has dropout.
LORA = LoraConfig(rank=4, alpha=12.0, dropout=0.0, targets=("q", "down"))
SFT = SftConfig(batch_size=4, micro_batch_size=2, checkpoint_every=3, loss_chunk=8, remat="none")
STEPS = 8  # two epochs of 15 examples
SEED = 7
BASE = {"weights": "those of the fixture"}
NO_SPEED = Speed(0.0, 0.0, 0.0, 0.0, 0.0, None)


class Stopped(KeyboardInterrupt):
    """What these tests interrupt a run with."""


def stop():
    raise Stopped


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


class DisturbedExamples(list):
    """Examples of which the next is read, while the log has `steps` lines or more, with a bang."""

    def __init__(self, examples, log, steps, bang):
        super().__init__(examples)
        self.log, self.steps, self.bang = log, steps, bang

    def __getitem__(self, index):
        if self.log.exists() and len(self.log.read_text().splitlines()) >= self.steps:
            self.bang()
        return super().__getitem__(index)


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """Every call of `train` compiles its step; here they share programs, compiled in haste."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_disable_most_optimizations", True)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_disable_most_optimizations", False)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def examples(make_examples):
    """Half of them distill targets, half repairs of severity 2."""
    return [
        dataclasses.replace(example, source="repair", severity=2) if index % 2 else example
        for index, example in enumerate(make_examples(15, weights=(1.0, 2.0)))
    ]


@pytest.fixture(scope="module")
def run(model, lora_params):
    """A function: train in a folder; returns adapters and the log without its speed."""

    def go(
        examples,
        folder,
        model=model,
        lora=LORA,
        sft=SFT,
        learning_rate=1e-2,
        seed=SEED,
        base=BASE,
    ):
        initial = {name: lora_params[name] for name in lora.targets}
        found = train(
            examples,
            model,
            initial,
            folder,
            base=base,
            lora=lora,
            sft=sft,
            epochs=2,
            learning_rate=learning_rate,
            seed=seed,
            title="test",
        )
        return found, read_log(folder)

    return go


def read_log(folder):
    lines = read_jsonl(folder / "log.jsonl", LogLine)
    return [dataclasses.replace(line, speed=NO_SPEED) for line in lines]


@pytest.fixture(scope="module")
def finished(run, examples, tmp_path_factory):
    """(adapters, log, folder) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    return *run(examples, folder), folder


def assert_bitwise(found, expected):
    assert found[1] == expected[1]
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])


def test_log_of_a_run(finished, examples):
    log = finished[1]
    assert [line.step for line in log] == list(range(1, STEPS + 1))
    assert log[0].learning_rate == pytest.approx(1e-2)
    assert log[-1].update_norm < log[0].update_norm
    plan = make_plan(examples, SFT, epochs=2, seed=SEED)
    prefix = plan[0].layout.prefix
    assert prefix > 0, "a row holds the tokens that all prompts begin with once"
    supervised = sum(len(e.tokens) - e.prompt_length for e in examples)
    mass = sum(e.weight * (len(e.tokens) - e.prompt_length) for e in examples)
    for first in (0, STEPS // 2):
        epoch = log[first : first + STEPS // 2]
        rows = sum(
            (plan[step].examples >= 0).any(-1).sum() for step in range(first, first + STEPS // 2)
        )
        tokens = sum(len(e.tokens) - prefix for e in examples) + rows * prefix
        assert sum(line.tokens for line in epoch) == tokens
        assert sum(line.supervised_tokens for line in epoch) == supervised
        assert sum(line.weight_mass for line in epoch) == mass
        assert sum(line.examples for line in epoch) == len(examples)


def test_the_losses_of_a_line_add_up(finished, examples):
    """Weights are 1 for distill and 2 for repair: the loss follows from the means by source."""
    plan = make_plan(examples, SFT, epochs=2, seed=SEED)
    for index, line in enumerate(finished[1]):
        assert line.loss_by_severity == {"moderate": line.loss_by_source["repair"]}
        members = [examples[i] for i in plan[index].examples.ravel() if i >= 0]
        mass = {"distill": 0.0, "repair": 0.0}
        for example in members:
            mass[example.source] += example.weight * (len(example.tokens) - example.prompt_length)
        expected = sum(mass[name] * mean for name, mean in line.loss_by_source.items())
        assert line.loss == pytest.approx(expected / line.weight_mass, rel=1e-5)


def test_initial_adapter_is_left_alone(finished, lora_params):
    """The step donates its state; the caller's arrays are not in it."""
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lora_params))
    assert np.abs(finished[0]["q"]["A"] - lora_params["q"]["A"]).max() > 0


def test_resumed_is_uninterrupted(run, examples, finished, tmp_path):
    """Before and after the first checkpoint, in either epoch, and again and again."""
    for lines in (1, 2, 5):
        with pytest.raises(Stopped):
            run(DisturbedExamples(examples, tmp_path / "log.jsonl", lines, stop), tmp_path)
        assert len(read_log(tmp_path)) == lines
    assert_bitwise(run(examples, tmp_path), finished)


@pytest.fixture(scope="module")
def model_on(model):
    """A function: the model on a mesh of so many devices."""

    def place(devices, **axes):
        mesh = make_mesh(MeshConfig(**axes), jax.devices()[:devices])
        return dataclasses.replace(model, mesh=mesh)

    return place


def test_sigterm_and_other_devices(run, examples, finished, model_on, tmp_path, capsys):
    """From eight devices to one to four: the same batches, and the losses within float32 noise."""
    handler = signal.getsignal(signal.SIGTERM)
    meshes = [model_on(8, data=2, fsdp=2, tensor=2), model_on(1), model_on(4, data=1, fsdp=4)]
    for model, lines in zip(meshes[:2], (0, 3), strict=True):
        disturbed = DisturbedExamples(examples, tmp_path / "log.jsonl", lines, terminate)
        with pytest.raises(Terminated) as caught:
            run(disturbed, tmp_path, model)
        assert caught.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is handler
        step = len(read_log(tmp_path))
        assert step < STEPS
        said = capsys.readouterr().err
        assert f"test: stopped by SIGTERM, saved after step {step} of {STEPS}; the same" in said
        assert (tmp_path / "checkpoint" / str(step)).is_dir()
    adapters, log = run(examples, tmp_path, meshes[2])
    for found, expected in zip(log, finished[1], strict=True):
        assert found.weight_mass == expected.weight_mass
        assert found.supervised_tokens == expected.supervised_tokens
        assert found.loss_by_source == pytest.approx(expected.loss_by_source, rel=1e-4)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

    jax.tree.map(compare, adapters, finished[0])


def test_another_layout_goes_on_from_the_same_checkpoint(run, examples, finished, tmp_path):
    """After an out-of-memory stop: smaller micro-batches and rows, more recomputed.

    No step is done twice, and without dropout the adapter is the same within float32 noise.
    """
    with pytest.raises(Stopped):
        run(DisturbedExamples(examples, tmp_path / "log.jsonl", 5, stop), tmp_path)
    saved = max(int(path.name) for path in (tmp_path / "checkpoint").iterdir())
    before = (tmp_path / "log.jsonl").read_text().splitlines()[:saved]
    smaller = dataclasses.replace(
        SFT, micro_batch_size=1, remat="layer", loss_chunk=4, row_length=64, checkpoint_every=2
    )
    adapters, log = run(examples, tmp_path, sft=smaller)
    assert saved == 3 and (tmp_path / "log.jsonl").read_text().splitlines()[:saved] == before
    assert [line.step for line in log] == list(range(1, STEPS + 1))
    for found, expected in zip(log, finished[1], strict=True):
        assert found.weight_mass == expected.weight_mass
        assert found.examples == expected.examples
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

    jax.tree.map(compare, adapters, finished[0])


def test_what_a_kill_leaves_is_cleared(run, examples, finished, tmp_path):
    """A torn log line and a checkpoint that was being written."""
    with pytest.raises(Stopped):
        run(DisturbedExamples(examples, tmp_path / "log.jsonl", 4, stop), tmp_path)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 6, "lo')
    unfinished = tmp_path / "checkpoint" / "6.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoint" / "3", unfinished)
    shutil.rmtree(unfinished / "state")
    assert_bitwise(run(examples, tmp_path), finished)


def test_finished_run_is_read_not_repeated(run, examples, finished, capsys):
    adapters, log, folder = finished
    assert_bitwise(run(examples, folder), (adapters, log))
    assert "test: nothing left to train" in capsys.readouterr().out


def test_a_run_that_weighs_nothing_stops_before_its_first_step(run, examples, tmp_path):
    weightless = [dataclasses.replace(example, weight=1e-50) for example in examples]
    with pytest.raises(NothingSupervised, match=rf"step 1: .*{examples[0].id[0]}\d"):
        run(weightless, tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def test_non_finite_loss_names_step_and_examples(run, examples, tmp_path):
    """A weight so large that the sum leaves float32; that step is neither logged nor kept."""
    plan = make_plan(examples, SFT, epochs=2, seed=SEED)
    victim = next(i for i in plan[3].examples.ravel() if i >= 0)
    poisoned = list(examples)
    poisoned[victim] = dataclasses.replace(examples[victim], weight=1e38)
    with pytest.raises(NonFiniteLoss) as caught:
        run(poisoned, tmp_path)
    message = str(caught.value)
    assert message.startswith("step 4: loss ")
    assert ", ".join(plan.ids(3)) in message
    assert "sft.learning_rate" in message
    assert [line.step for line in read_log(tmp_path)] == [1, 2, 3]
    assert all(math.isfinite(line.loss) for line in read_log(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoint").iterdir() if path.is_dir()] == ["3"]


def heavier(examples):
    return [dataclasses.replace(examples[0], weight=3.0), *examples[1:]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lora": dataclasses.replace(LORA, rank=2)}, "adapter.rank is 4, not 2"),
        ({"lora": dataclasses.replace(LORA, targets=("q",))}, "adapter.targets is "),
        ({"seed": 8}, r"data is .*; key is \[0, 7\], not \[0, 8\]"),
        ({"learning_rate": 1e-3}, r"optimizer.learning_rate is 0.01, not 0.001"),
        ({"sft": dataclasses.replace(SFT, weight_decay=0.1)}, "optimizer.weight_decay is 0.0, not"),
        ({"sft": dataclasses.replace(SFT, batch_size=8)}, "data is .*; optimizer.steps is 8, not"),
        ({"base": {"weights": "other ones"}}, 'base.weights is "those of the fixture", not "other'),
        (heavier, "data is "),
    ],
    ids=[
        *("rank", "targets", "seed", "learning rate", "weight decay", "batch size", "base"),
        "examples",
    ],
)
def test_checkpoint_of_another_run(change, named, run, examples, finished):
    folder = finished[2]
    before = sorted(folder.rglob("*"))
    if callable(change):
        examples, change = change(examples), {}
    message = rf"{folder}.checkpoint: the checkpoint of step 8 is of another run: .*{named}"
    with pytest.raises(RefusedCheckpoint, match=message):
        run(examples, folder, **change)
    assert sorted(folder.rglob("*")) == before, "nothing is deleted or started"
