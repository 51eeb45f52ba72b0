"""An interrupted run goes on as if nothing had happened; a bad loss or checkpoint stops it."""

import dataclasses
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dart_jax.model.config import LoraConfig
from dart_jax.records import read_jsonl
from dart_jax.sft.batch import epoch_batches
from dart_jax.sft.config import SftConfig
from dart_jax.sft.loop import NonFiniteLoss, StepLog, steps_per_epoch, train

LORA = LoraConfig(rank=4, alpha=12.0, dropout=0.2)
SFT = SftConfig(batch_size=4, micro_batch_size=2, checkpoint_every=3, loss_chunk=8)
STEPS = 8  # two epochs of 15 examples


class Stopped(KeyboardInterrupt):
    """What these tests interrupt a run with."""


class InterruptedExamples(list):
    """Examples of which the next is read only while the log has fewer than `steps` lines."""

    def __init__(self, examples, log, steps):
        super().__init__(examples)
        self.log, self.steps = log, steps

    def __getitem__(self, index):
        if self.log.exists() and len(self.log.read_text().splitlines()) >= self.steps:
            raise Stopped
        return super().__getitem__(index)


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """Every call of `train` compiles its step; here they share one compiled program."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def examples(make_examples):
    return make_examples(15, weights=(1.0, 2.0))


@pytest.fixture(scope="module")
def run(model, lora_params):
    """A function: train in a folder; returns adapters and the log without its seconds."""

    def go(examples, folder, initial=lora_params, lora=LORA, sft=SFT):
        found = train(
            examples,
            model,
            initial,
            folder,
            lora=lora,
            sft=sft,
            epochs=2,
            learning_rate=1e-2,
            seed=7,
            title="test",
        )
        return found, _log(folder)

    return go


def _log(folder):
    lines = read_jsonl(folder / "log.jsonl", StepLog)
    return [dataclasses.replace(line, seconds=0.0) for line in lines]


@pytest.fixture(scope="module")
def finished(run, examples, tmp_path_factory):
    """(adapters, log, folder) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    return *run(examples, folder), folder


def _assert_bitwise(found, expected):
    assert found[1] == expected[1]
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])


def test_log_of_a_run(finished, examples):
    log = finished[1]
    assert [line.step for line in log] == list(range(1, STEPS + 1))
    assert log[0].learning_rate == pytest.approx(1e-2)
    assert log[-1].loss < log[0].loss
    tokens = sum(len(e.tokens) for e in examples)
    mass = sum(e.weight * (len(e.tokens) - e.prompt_length) for e in examples)
    for epoch in (log[: STEPS // 2], log[STEPS // 2 :]):
        assert sum(line.tokens for line in epoch) == tokens
        assert sum(line.weight_mass for line in epoch) == mass


def test_initial_adapter_is_left_alone(finished, lora_params):
    """The step donates its state; the caller's arrays are not in it."""
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lora_params))
    assert np.abs(finished[0]["q"]["A"] - lora_params["q"]["A"]).max() > 0


@pytest.mark.parametrize("stops", [(1,), (3,), (5,), (2, 4, 7)])
def test_resumed_is_uninterrupted(stops, run, examples, finished, tmp_path):
    """Before, at and after a checkpoint, in either epoch, and again and again."""
    for stop in stops:
        with pytest.raises(Stopped):
            run(InterruptedExamples(examples, tmp_path / "log.jsonl", stop), tmp_path)
        assert len(_log(tmp_path)) == stop
    _assert_bitwise(run(examples, tmp_path), finished)


def test_what_a_kill_leaves_is_cleared(run, examples, finished, tmp_path):
    """A torn log line and a checkpoint that was being written."""
    with pytest.raises(Stopped):
        run(InterruptedExamples(examples, tmp_path / "log.jsonl", 5), tmp_path)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 6, "lo')
    unfinished = tmp_path / "checkpoint" / "6.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoint" / "3", unfinished)
    shutil.rmtree(unfinished / "default")
    _assert_bitwise(run(examples, tmp_path), finished)


def test_finished_run_is_read_not_repeated(run, examples, finished):
    adapters, log, folder = finished
    _assert_bitwise(run(examples, folder), (adapters, log))


def test_non_finite_loss_names_step_and_examples(run, examples, tmp_path):
    """A weight so large that the sum leaves float32; that step is neither logged nor kept."""
    order = epoch_batches(examples, SFT.batch_size, 7, 0)
    poisoned = list(examples)
    victim = order[3][1]
    poisoned[victim] = dataclasses.replace(examples[victim], weight=1e38)
    with pytest.raises(NonFiniteLoss) as caught:
        run(poisoned, tmp_path)
    message = str(caught.value)
    assert message.startswith("step 4: loss ")
    assert ", ".join(examples[i].id for i in order[3]) in message
    assert "sft.learning_rate" in message
    assert [line.step for line in _log(tmp_path)] == [1, 2, 3]
    assert all(math.isfinite(line.loss) for line in _log(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoint").iterdir() if path.is_dir()] == ["3"]


@pytest.mark.parametrize(
    "other_lora",
    [
        dataclasses.replace(LORA, rank=2),
        dataclasses.replace(LORA, targets=("q", "v")),
        dataclasses.replace(LORA, rank=6),
    ],
    ids=["lower rank", "fewer targets", "higher rank"],
)
def test_checkpoint_of_another_adapter(other_lora, run, examples, lora_params, finished, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(finished[2], folder)

    def fit(weights):
        pad = max(0, other_lora.rank - LORA.rank)
        a = jnp.pad(weights["A"], ((0, 0), (0, 0), (0, pad)))[..., : other_lora.rank]
        b = jnp.pad(weights["B"], ((0, 0), (0, pad), (0, 0)))[:, : other_lora.rank]
        return {"A": a, "B": b}

    other = {target: fit(lora_params[target]) for target in other_lora.targets}
    with pytest.raises(ValueError, match=rf"{folder}.checkpoint: .* step 8 .* delete the folder"):
        run(examples, folder, initial=other, lora=other_lora)


def _damaged(folder):
    """Each file of the checkpoint, by its path in it."""
    step = folder / "checkpoint" / str(STEPS)
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


def test_damaged_checkpoint(run, examples, finished, tmp_path):
    """Cut to half, each file of it is refused with the folder's name, or was not needed."""
    refused = []
    for name in _damaged(finished[2]):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(finished[2], folder)
        path = folder / "checkpoint" / str(STEPS) / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            found = run(examples, folder)
        except ValueError as error:
            assert f"{folder}/checkpoint: the checkpoint of step 8 is damaged" in str(error)
            refused.append(name)
        else:
            _assert_bitwise(found, finished)
    assert any("manifest.ocdbt" in name for name in refused), refused
    assert any("/d/" in name for name in refused), refused


def test_steps_per_epoch():
    assert [steps_per_epoch(n, 4) for n in (1, 4, 5, 15)] == [1, 1, 2, 4]
