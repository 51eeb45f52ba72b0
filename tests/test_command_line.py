"""A mistake on any command line is answered by one sentence, with what may have been meant."""

import inspect
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from dart_jax.__main__ import command
from dart_jax.bench import commands as bench
from dart_jax.command_line import (
    CommandParser,
    call,
    join_negative_numbers,
    take_settings,
)
from dart_jax.commands import audit, evaluate, export, generate
from dart_jax.commands.compile import Job
from dart_jax.commands.sweep.command import Options
from dart_jax.config import SETTINGS, parse
from dart_jax.model.config import LoraConfig
from dart_jax.settings import BadSetting, Count, Positive
from dart_jax.suggestions import did_you_mean

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
        (["--dry-run=yes"], "--dry-run: takes no value, not yes"),
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
    assert command(["train", *args]) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and message in answer
    assert answer.count("\n") <= 2, "the sentence, and where the options are listed"


COMPILE = ["compile", "--config", QUICKSTART, "--topology=v5e:2x4"]
SWEEP = ["sweep", "--config", ABLATION]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate", "--run", "r", "--temprature", "1"], "did you mean --temperature?"),
        (["generate", "--run", "r", "--temperature", "-1e-4"], "-1e-4; give a number from 0"),
        (["generate", "--run", "r", "--seed", "-1"], "argument --seed: -1; give a whole number"),
        (["generate", "--run", "r", "--seed"], "argument --seed: expected one argument"),
        (["generate", "--run", "r", "--temp", "1"], "unknown argument --temp\n"),
        (["generate", "--run", "r", "--plain=yes"], "argument --plain: takes no value, not yes"),
        (["generate", "--models", "M0"], "give one of --run"),
        (["generate", "--run", "r", "--sft.epochs", "1"], "--sft.epochs: only settings of"),
        (["audit"], "no command; give calibrate, export-annotations, import-annotations"),
        (["audit", "calibrate", "--run", "r", "--sead", "1"], "did you mean --seeds?"),
        (["audit", "calibrate", "--run", "r", "--seeds", "0"], "--seeds: 0; give a whole number"),
        (["audit", "calibrat"], "unknown command calibrat; did you mean calibrate?"),
        (["audit", "import-annotations", "--run", "r"], "arguments are required: files"),
        (["audit", "calibrate", "--run", "r", "more"], "unexpected argument more"),
        (["evaluate", "open-ended", "--run", "r", "--querys", "1"], "did you mean --queries?"),
        (["evaluate", "open-ended", "--run", "r", "--queries", "0"], "a whole number from 1"),
        (["evaluate", "open-ended", "--run", "r", "--models", "M0"], "name models beside M0"),
        (["evaluate", "open-ended", "--run", "r", "--sft.epochs", "1"], "--sft.epochs: only judge"),
        (["evaluate", "external", "--run", "r", "--suite", "bald"], "invalid choice: 'bald'"),
        (["export", "--run", "r", "--fromat", "peft"], "did you mean --format?"),
        (["export", "--run", "r", "--format", "peft"], "arguments are required: --out"),
        (["export", "--run", "r", "--max-shard-gb", "0"], "--max-shard-gb: 0; give a number above"),
        ([*COMPILE, "--topologi", "v5e:2x4"], "did you mean --topology?"),
        (["compile", "--rows", "1"], "arguments are required: --config, --topology"),
        ([*COMPILE, "--row", "1"], "did you mean --rows?"),
        ([*COMPILE, "--sft.epoch", "1"], "no setting --sft.epoch; did you mean --sft.epochs?"),
        ([*SWEEP, "--seed", "1"], "did you mean --seeds"),
        ([*SWEEP, "--epochs", "1"], "did you mean --sft.epochs or --repair.epochs?"),
        ([*SWEEP, "--sft.epoch", "1"], "no setting --sft.epoch; did you mean --sft.epochs?"),
        (["bench", "client", "--request", "1"], "did you mean --requests?"),
        (["bench", "train", "--peer-batches", "4", "0"], "--peer-batches: 0; give a whole number"),
        (["bench", "train", "--ours-dtype", "float16"], "--ours-dtype: invalid choice: 'float16'"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_every_command_names_the_mistake(args, message, capsys):
    assert command(args) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and message in answer
    assert answer.count("\n") <= 2, "the sentence, and where the options are listed"


def options_of(
    files: tuple[Path, ...],
    *,
    a_rate: Positive = 3.0,
    sizes: tuple[Count, ...] = (1, 2),
    mode: Literal["fast", "slow"] = "fast",
    dry_run: bool = False,
    out: Path | None = None,
    settings: Mapping[str, str] | None = None,
):
    """Return what is given.

    More about it.

    Args:
        files: Some files.
        a_rate: A rate, in a sentence that is
            longer than a line.
        sizes: Sizes.
        mode: A mode.
        dry_run: Do nothing.
        out: A file.
    """
    return locals()


def test_options_are_the_parameters_of_a_function():
    words = "x y --a-rate -0.5e-3 --sizes 3 4 --mode slow --dry-run --out z --lora.rank=3"
    with pytest.raises(BadSetting, match=r"--a-rate: -0\.5e-3; give a number above 0"):
        call("prog", options_of, words.split(), SETTINGS)
    assert call("prog", options_of, words.replace("-0.5", "0.5").split(), SETTINGS) == {
        "files": (Path("x"), Path("y")),
        "a_rate": 0.0005,
        "sizes": (3, 4),
        "mode": "slow",
        "dry_run": True,
        "out": Path("z"),
        "settings": {"lora.rank": "3"},
    }


def test_what_is_left_out_has_the_default_of_the_function():
    given = call("prog", options_of, ["x"])
    assert given == options_of((Path("x"),))
    assert type(given["sizes"]) is tuple


def test_help_is_the_docstring():
    text = " ".join(CommandParser("prog", options_of).format_help().split())
    assert "Return what is given. More about it." in text and "Args" not in text
    assert "A rate, in a sentence that is longer than a line. (type: a number above 0" in text
    assert "default: 3.0)" in text and "[--mode {fast,slow}]" in text and "[--dry-run]" in text


def commands_with_options():
    """Every command that has options of its own: its name, and the function or dataclass."""
    commands = {"generate": generate.generate, "export": export._export}
    commands |= {"sweep": Options, "compile": Job}
    for room in (audit, evaluate, bench):
        commands |= {f"{room.PROG} {name}": found for name, found in room.COMMANDS.items()}
    return commands.items()


@pytest.mark.parametrize(("name", "found"), commands_with_options())
def test_every_option_is_explained(name, found):
    parser = CommandParser(name, found)
    options = {action.dest: action.help for action in parser._actions if action.dest != "help"}
    assert options.keys() == inspect.signature(found).parameters.keys() - {"settings"}
    assert all(options.values())
    assert len(inspect.getdoc(found).splitlines()[0]) < 90, "it stands in the list of commands"


@pytest.mark.parametrize(
    ("words", "others", "settings"),
    [
        ("--sft.epochs 3 --out x", ["--out", "x"], {"sft.epochs": "3"}),
        ("a --audit.tau -1e-2 b", ["a", "b"], {"audit.tau": "-1e-2"}),
        ("--sft.epochs=3 --sft.epochs 4 runs/a.b", ["runs/a.b"], {"sft.epochs": "4"}),
        ("--run=a.b --lora {rank:3} --seed 1", ["--run=a.b", "--seed", "1"], {"lora": "{rank:3}"}),
    ],
)
def test_settings_are_told_from_options(words, others, settings):
    """A whole section is one only where it is known as such: elsewhere --run is an option."""
    known = {**SETTINGS, "lora": LoraConfig}
    assert take_settings(words.split(), known) == (others, settings)


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


def test_training_without_an_argument_prints_its_help():
    command = [sys.executable, "-m", "dart_jax.train"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.startswith("usage: python -m dart_jax.train --config FILE")
    assert "--sft.learning_rate" in done.stdout and done.stderr == ""
