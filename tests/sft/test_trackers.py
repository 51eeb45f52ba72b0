"""Trackers get each line once, in one run over all starts, and nothing that must stay here."""

import sys
from types import SimpleNamespace

import pytest

from dart_jax.config import DartConfig
from dart_jax.report.public import tracked_settings
from dart_jax.sft.sinks import open_sinks
from dart_jax.sft.trackers import TrackerFailed, Tracking, run_identity, wandb_mode
from dart_jax.sft.validation import ValidationLine
from tests.sft.test_monitor import make_line

SETTINGS = {"lora.rank": 16, "sft.loss.fn": "focal", "lora.targets": ("q", "v")}


class FakeWandb:
    """Remembers what it is given; `broken` fails as the library does."""

    class Error(Exception):
        """As the library's, of no built-in kind."""

    def __init__(self):
        self.begun, self.logged, self.ended, self.broken = [], [], 0, False

    def init(self, **options):
        self.begun.append(options)
        return self

    def Settings(self, **options):
        return SimpleNamespace(**options)

    def log(self, values, step):
        if self.broken:
            raise self.Error("gone")
        self.logged.append((step, sorted(values)[-1]))

    def finish(self):
        self.ended += 1


@pytest.fixture
def wandb(monkeypatch):
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def start(folder, done, steps, trackers=("wandb",)):
    """A start after `done` steps that logs these, with a measurement after the second."""
    sinks = open_sinks(folder, "distill", 9, done, Tracking(trackers, "try", SETTINGS))
    for step in steps:
        for sink in sinks:
            sink.write(make_line(step))
            if step == 2:
                sink.measured(ValidationLine(step=2, epoch=1.0, loss=0.5, examples=3))
    for sink in sinks:
        sink.close()


def test_a_later_start_goes_on_with_the_same_run_and_repeats_no_line(wandb, tmp_path):
    """Killed after step 3, with a checkpoint of step 1: steps 2 and 3 are trained again."""
    start(tmp_path, 0, (1, 2, 3))
    start(tmp_path, 1, (2, 3, 4))
    assert [step for step, _ in wandb.logged] == [1, 2, 2, 3, 4]
    assert wandb.logged[2] == (2, "validation/loss")
    first, second = wandb.begun
    assert first["id"] == second["id"] == run_identity(tmp_path)
    assert (first["name"], first["group"], first["job_type"]) == ("try distill", "try", "distill")
    assert first["config"] == SETTINGS
    assert wandb.ended == 2

    # A training that begins anew has another folder by then, and is another run.
    assert run_identity(tmp_path / "anew") != first["id"]


def test_a_measurement_that_a_kill_left_out_is_made_up_for(wandb, tmp_path):
    """Killed between the line of step 2 and the measurement after it."""
    (log,) = (s for s in open_sinks(tmp_path, "distill", 9, 0, Tracking(())) if hasattr(s, "told"))
    log.write(make_line(1))
    log.write(make_line(2))
    start(tmp_path, 1, (2, 3))
    assert [step for step, _ in wandb.logged] == [2, 3]
    assert wandb.logged[0] == (2, "validation/loss")


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "k"}, "online"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "online"}, "online"),
    ],
)
def test_nothing_is_sent_unless_a_mode_or_a_key_asks_for_it(environment, mode):
    assert wandb_mode(environment) == mode


def test_the_machine_the_code_and_the_terminal_stay_here(wandb, tmp_path):
    start(tmp_path, 0, (1,))
    [begun] = wandb.begun
    assert begun["mode"] == "offline" and begun["dir"] == tmp_path
    switched_off = vars(begun["settings"])
    assert switched_off.pop("console") == "off"
    assert switched_off.pop("x_save_requirements") is False
    assert switched_off and all(switched_off.values())


def test_a_failure_is_one_that_the_training_survives(wandb, tmp_path):
    *_, tracker, _ = open_sinks(tmp_path, "distill", 9, 0, Tracking(("wandb",), "try"))
    wandb.broken = True
    with pytest.raises(TrackerFailed, match="gone") as caught:
        tracker.write(make_line(1))
    assert isinstance(caught.value, OSError)


def test_without_trackers_there_is_the_log_alone(tmp_path):
    start(tmp_path, 0, (1, 2), trackers=())
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    start(tmp_path / "as before", 0, (1,), trackers=("tensorboard",))
    names = {path.name for path in (tmp_path / "as before").iterdir()}
    assert names == {"log.jsonl", "tensorboard"}


def test_no_place_no_server_and_no_key_is_told():
    config = DartConfig().to_dict()
    config["model"]["path"] = "/home/someone/Model"
    config["data"] |= {"dir": "/home/someone/suite", "file": "/home/someone/rows.jsonl"}
    for role in ("teacher", "judge"):
        config[role] |= {"base_url": "http://key@10.0.0.1/v1", "api_key_env": "MY_KEY"}
    settings = tracked_settings(config)
    assert settings["model.path"] == "Model" and settings["lora.rank"] == 16
    assert settings["run.seed"] == 0 and "run.root" not in settings
    assert not [name for name in settings if "key" in name or "url" in name]
    for hidden in ("someone", "10.0.0.1", "MY_KEY"):
        assert hidden not in str(settings)
