"""A mistake on any command line is answered by one sentence, with what may have been meant."""

import subprocess
import sys
from pathlib import Path

import pytest

from dart_jax.bench.commands import main as bench
from dart_jax.command_line import did_you_mean, join_negative_numbers, value_of
from dart_jax.commands.audit import main as audit
from dart_jax.commands.compile import main as compile_command
from dart_jax.commands.evaluate import main as evaluate
from dart_jax.commands.export import main as export
from dart_jax.commands.generate import main as generate
from dart_jax.commands.sweep.command import main as sweep
from dart_jax.config import parse
from dart_jax.settings import BadSetting, Positive
from dart_jax.train import main as train

ROOT = Path(__file__).parents[1]
ABLATION = str(ROOT / "configs/ablation.yaml")
QUICKSTART = str(ROOT / "configs/quickstart.yaml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sft.learning_rat", "1e-4"], "did you mean --sft.learning_rate?"),
        (["--sft.learning-rate", "1e-4"], "did you mean --sft.learning_rate?"),
        (["--learning_rate", "1"], "did you mean --sft.learning_rate or --repair.learning_rate?"),
        (["--stf.epochs=1"], "did you mean --sft.epochs?"),
        (["--sft.normaliser", "tokens"], "did you mean --sft.loss_normalization?"),
        (["--dry_run"], "did you mean --dry-run?"),
        (["--sft.learning_rate", "-1e-4"], "sft.learning_rate: -0.0001; give a number above 0"),
        (["--sft.epochs", "many"], "sft.epochs: many; give a whole number from 1"),
        (["--sft.loss.fn"], "--sft.loss.fn has no value; give a text"),
        (["--sft.loss.fn", "--dry-run"], "--sft.loss.fn has no value; give a text"),
        (["--dry-run=yes"], "--dry-run takes no value"),
        (["quickstart.yaml"], "unexpected argument quickstart.yaml"),
        (["--repair.severity_weights", "square"], "linear, uniform, quadratic or exponential or a"),
        (["--lora.targets", "q,vv"], "lora.targets: vv; give some of q, k, v, o, gate, up, down"),
        (["--lora.targets", "[q,'v"], "lora.targets: [q,'v; give a list such as [a, b]"),
        (["--sft", "1"], "sft: 1 is not field: value"),
        (["--sft.loss", "{fn: ]"], "sft.loss: "),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--config", "tests"], "tests is a folder; give the file"),
        (["--stages", "teach,repai"], "--stages: repai; give some of teach, distill"),
    ],
)
def test_training_names_the_mistake(args, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        train(args)
    assert stopped.value.code == 2
    answer = capsys.readouterr().err
    assert message in answer
    assert answer.count("\n") == 1, "no usage"


@pytest.mark.parametrize(
    ("main", "args", "message"),
    [
        (generate, ["--run", "r", "--temprature", "1"], "did you mean --temperature?"),
        (generate, ["--run", "r", "--temperature", "-1e-4"], "-1e-4; give a number from 0"),
        (generate, ["--run", "r", "--seed", "-1"], "argument --seed: -1; give a whole number"),
        (generate, ["--models", "M0"], "the following arguments are required: --run"),
        (audit, ["calibrate", "--run", "r", "--sead", "1"], "did you mean --seeds?"),
        (audit, ["calibrate", "--run", "r", "--seeds", "0"], "--seeds: 0; give a whole number"),
        (audit, ["calibrat"], "invalid choice: 'calibrat'"),
        (evaluate, ["open-ended", "--run", "r", "--querys", "1"], "did you mean --queries?"),
        (evaluate, ["open-ended", "--run", "r", "--queries", "0"], "give a whole number from 1"),
        (export, ["--run", "r", "--fromat", "peft"], "required: --format"),
        (export, ["--run=r", "--format=peft", "--out=o", "--overwite"], "mean --overwrite?"),
        (export, ["--run=r", "--format=peft", "--out=o", "--max-shard-gb=0"], "a number above 0"),
        (compile_command, ["--topologi", "v5e:2x4"], "required: --config, --topology"),
        (
            compile_command,
            ["--config", QUICKSTART, "--topology=v5e:2x4", "--row", "1"],
            "did you mean --rows?",
        ),
        (sweep, ["--config", ABLATION, "--seed", "1"], "did you mean --seeds"),
        (sweep, ["--config", ABLATION, "--epochs", "1"], "mean --sft.epochs or --repair.epochs?"),
        (bench, ["client", "--request", "1"], "did you mean --requests?"),
    ],
)
def test_every_command_names_the_mistake(main, args, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    answer = capsys.readouterr().err
    assert message in answer
    assert answer.count("\n") == 2, "the sentence, and where the options are listed"


@pytest.mark.parametrize(
    ("main", "args"),
    [
        (sweep, ["--config", ABLATION, "--sft.epoch", "1"]),
        (compile_command, ["--config", QUICKSTART, "--topology", "v5e:2x4", "--sft.epoch", "1"]),
    ],
)
def test_commands_that_take_settings_name_the_mistaken_one(main, args):
    with pytest.raises(BadSetting, match=r"no setting --sft\.epoch; did you mean --sft\.epochs\?"):
        main(args)


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (["--lora.targets", "q,v"], ("q", "v")),
        (["--lora.targets=q"], ("q",)),
        (["--lora.targets", "[q, 'v']"], ("q", "v")),
        (["--audit.severity_bins", "0.1,.2,3e-1,0.4"], (0.1, 0.2, 0.3, 0.4)),
        (["--sft.profile_steps", "3,5"], (3, 5)),
        (["--sft.profile_steps", "null"], None),
        (["--repair.severity_weights", "1,1,2,2.5"], (1.0, 1.0, 2.0, 2.5)),
        (["--repair.severity_weights", "uniform"], "uniform"),
        (["--audit.tau", "-1e-2"], -0.01),
        (["--sft.epochs", "5", "--sft.epochs", "7"], 7),
        (["--sft.loss", "{fn: focal}"], None),
    ],
)
def test_what_a_person_writes_is_understood(args, value):
    config = parse(args)[0]
    section, field = args[0].removeprefix("--").partition("=")[0].split(".")
    found = getattr(getattr(config, section), field)
    assert found == value or found.fn == "focal"


def test_a_name_without_a_section_finds_all_that_have_it():
    known = ["sft.epochs", "repair.epochs", "sft.epochs_more"]
    assert did_you_mean("epochs", known) == "; did you mean sft.epochs or repair.epochs?"
    assert did_you_mean("--sft.epcohs", known) == "; did you mean --sft.epochs?"
    assert did_you_mean("sft.nothing_like_it", known) == ""


@pytest.mark.parametrize("number", ["-1e-4", "-.5", "-3", "-1E+5", "-inf", "-nan", "-1_000"])
def test_a_negative_number_is_a_value(number):
    assert join_negative_numbers(["--a", number, "--b"]) == [f"--a={number}", "--b"]


@pytest.mark.parametrize("words", [["--a", "-b"], ["-1", "--a"], ["--a=1", "-1"], ["x", "-1"]])
def test_other_words_stay_apart(words):
    assert join_negative_numbers(words) == words


def test_a_range_as_a_type_of_argparse():
    assert value_of(Positive)("1e-3") == 1e-3
    assert isinstance(value_of(Positive)("2"), float)


def test_training_without_an_argument_prints_its_help():
    command = [sys.executable, "-m", "dart_jax.train"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.startswith("usage: python -m dart_jax.train --config FILE")
    assert "--sft.learning_rate" in done.stdout and done.stderr == ""
