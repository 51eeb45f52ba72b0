"""A second start on other settings: what repeats, what is checked first, what is set aside."""

import json

import pytest

from dart_jax.commands import evaluate as evaluate_command
from dart_jax.config import STAGES
from dart_jax.generate.decode import PromptTooLong
from dart_jax.records import read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.sft.metrics import LogLine
from dart_jax.sft.monitor import Monitor
from dart_jax.train import main

LAYOUT = {
    "sft__micro_batch_size": 2,
    "sft__row_length": 1024,
    "sft__attention": "xla",
    "sft__loss_chunk": 64,
    "sft__remat": "layer",
    "sft__checkpoint_every": 7,
    "sft__profile_steps": "[1,2]",
    "decode__slots": 4,
    "audit__batch_size": 3,
    "judge__concurrency": 1,
    "judge__timeout": 1.0,
    "judge__max_failure_share": 0.5,
    "judge__limits__max_retries": 1,
    "teacher__concurrency": 1,
    "teacher__timeout": 1.0,
    "teacher__limits__max_retries": 1,
    # Of services, or of a mode that is not asked for.
    "teacher__temperature": 0.9,
    "audit__severity_bins": "[0.1,0.2,0.3,0.4]",
}


def test_layout_memory_speed_and_log_repeat_nothing(copied, settings, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in copied.glob("stages/*")}
    assert main(settings(tmp_path, **LAYOUT)) == 0
    printed = capsys.readouterr().out
    assert [stage for stage in STAGES if f"{stage}: up to date" in printed] == list(STAGES)
    assert {path: path.stat().st_mtime_ns for path in copied.glob("stages/*")} == before
    assert not [*copied.glob("*.old"), *copied.glob("*.unfinished")]


def test_what_would_be_refused_touches_nothing(copied, settings, tmp_path, capsys):
    """The setting is named with both values, and the run stays finished under the old one."""
    before = hash_path(copied / "adapters"), hash_path(copied / "distill")
    with pytest.raises(
        ValueError, match=r"mini-.* tokens .* more than 10, the smaller of sft\.max"
    ):
        main(settings(tmp_path, sft__max_length=10))
    assert "distill: again, because sft.max_length changed (1024 -> 10)" in capsys.readouterr().out
    assert (hash_path(copied / "adapters"), hash_path(copied / "distill")) == before
    assert not (copied / "distill.old").exists()
    assert main(settings(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert [stage for stage in STAGES if f"{stage}: up to date" in printed] == list(STAGES)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sft__batch_size": 4, "sft__row_length": 20}, r"more than sft\.row_length 20"),
        ({"decode__max_new_tokens": 900}, r"decode\.max_new_tokens"),
        ({"audit__scorers": '["detoxify:absent"]'}, "absent"),
    ],
)
def test_other_refusals_touch_nothing_either(changes, problem, copied, settings, tmp_path):
    folders = ("teach", "adapters", "distill", "audit", "repair", "evaluation", "generations")
    before = [hash_path(copied / name) for name in folders]
    with pytest.raises((ValueError, RuntimeError), match=problem):
        main(settings(tmp_path, **changes))
    assert [hash_path(copied / name) for name in folders] == before


def test_another_loss_is_named_and_the_old_repair_set_aside(copied, settings, tmp_path, capsys):
    before = hash_path(copied / "adapters/M_DART")
    stages = json.loads((copied / "stages/repair.json").read_text())
    args = settings(tmp_path, repair__loss__fn="focal")
    assert main([*args, "--stages=teach,distill,audit,repair"]) == 0
    printed = capsys.readouterr().out
    assert "repair: again, because repair.loss.fn changed (cross_entropy -> focal)\n" in printed
    assert f"repair: what it had left is in {copied / 'repair.old'} now" in printed
    assert hash_path(copied / "adapters/M_DART") != before
    old = copied / "repair.old"
    assert hash_path(old / "adapters/M_DART") == before
    for name, expected in stages["outputs"].items():
        assert hash_path(old / name) == expected, name
    assert json.loads((old / "stages/repair.json").read_text()) == stages


def test_a_stopped_training_goes_on_with_smaller_micro_batches(
    settings, tmp_path, monkeypatch, capsys
):
    """As after an out-of-memory stop: no step is done twice."""
    really_before = Monitor.before

    def stop_at_second(self, number, batch):
        if number == 2:
            self.flush()
            raise KeyboardInterrupt
        really_before(self, number, batch)

    stages = "--stages=teach,distill"
    monkeypatch.setattr(Monitor, "before", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        main([*settings(tmp_path, lora__dropout=0.0), stages])
    monkeypatch.setattr(Monitor, "before", really_before)
    log = tmp_path / "run/distill/log.jsonl"
    first = log.read_text("utf-8")
    assert len(first.splitlines()) == 1
    smaller = {"sft__micro_batch_size": 2, "sft__remat": "layer", "sft__loss_chunk": 32}
    assert main([*settings(tmp_path, lora__dropout=0.0, **smaller), stages]) == 0
    printed = capsys.readouterr().out
    assert "again, because" not in printed and "distill: steps 2-2 in" in printed
    assert log.read_text("utf-8").startswith(first)
    assert [line.step for line in read_jsonl(log, LogLine)] == [1, 2]
    assert not (tmp_path / "run/distill.unfinished").exists()


def test_prompts_that_do_not_fit_leave_earlier_answers(copied):
    command = ["open-ended", f"--run={copied}", "--queries=2"]
    assert evaluate_command.main(command) == 0
    before = hash_path(copied / "open_ended")
    with pytest.raises(PromptTooLong):
        evaluate_command.main([*command, "--decode.max_new_tokens=1020"])
    assert hash_path(copied / "open_ended") == before
