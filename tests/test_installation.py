"""What is installed: pyproject.toml and requirements.txt agree, and what is absent is named."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import Endpoint
from dart_jax.chat.openai_client import OpenAIChat
from dart_jax.commands.needed_extras import main
from dart_jax.data.custom_dataset import load_hub
from dart_jax.extras import MissingExtra
from dart_jax.pipeline.preflight import check_service, check_trackers
from dart_jax.teach.config import TeacherConfig

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEVICES = {"tpu", "cuda12", "cuda13"}
ONLY_IN_EXTRAS = {
    *("torch", "detoxify", "openai", "aiolimiter", "datasets", "peft", "wandb", "trackio"),
    *("pytest", "ruff", "hypothesis", "beartype", "playwright", "trl"),
}


def whole_list() -> set[Requirement]:
    """The lines of requirements.txt without their comments."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    written = [line.partition("#")[0].strip() for line in lines]
    return {Requirement(line) for line in written if line}


def test_requirements_are_those_of_the_project_and_its_extras():
    lines = list(PROJECT["dependencies"])
    for extra in EXTRAS.keys() - DEVICES:
        lines += [line for line in EXTRAS[extra] if not line.startswith("dart-jax[")]
    assert {Requirement(line) for line in lines} == whole_list()


def test_the_core_brings_nothing_that_an_extra_is_for():
    core = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert core & ONLY_IN_EXTRAS == set()
    assert {requirement.name for requirement in whole_list()} > ONLY_IN_EXTRAS


def test_the_extras_for_devices_leave_the_version_to_the_core():
    of_jax = {extra: EXTRAS[extra][:1] for extra in DEVICES}
    assert of_jax == {extra: [f"jax[{extra}]"] for extra in DEVICES}
    assert sum(len(EXTRAS[extra]) for extra in DEVICES - {"tpu"}) == 2


@pytest.mark.parametrize(("python", "table"), [("3.11", "jax_0_10"), ("3.12", "jax_0_12")])
def test_a_tpu_gets_the_compiler_that_was_measured(python, table):
    """The slice of launch/tpu.md, for which each Python's jax and libtpu have compiled the step."""
    _, *compilers = map(Requirement, EXTRAS["tpu"])
    environment = {"python_version": python}
    [compiler] = [line for line in compilers if line.marker.evaluate(environment)]
    document = json.loads((ROOT / "configs/results/compiled.json").read_text("utf-8"))
    measured = document[f"programs_{table}"]["llama3_8b_v5e_2x4"]
    assert compiler.specifier.contains(measured["libtpu"])
    core = map(Requirement, PROJECT["dependencies"])
    [jax] = [line for line in core if line.name == "jax" and line.marker.evaluate(environment)]
    assert jax.specifier.contains(measured["jax"])


def test_the_tests_have_every_extra():
    [others] = [line for line in EXTRAS["test"] if line.startswith("dart-jax[")]
    assert Requirement(others).extras == EXTRAS.keys() - DEVICES - {"test"}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_each_python_gets_one_jax_and_one_flax(python):
    environment = {"python_version": python}
    for name in ("jax", "flax"):
        lines = [requirement for requirement in whole_list() if requirement.name == name]
        [chosen] = [line for line in lines if line.marker.evaluate(environment)]
        is_older = python == "3.11"
        assert chosen.specifier.contains({"jax": "0.10.2", "flax": "0.12.8"}[name]) == is_older
        # The pair that does not import.
        assert not chosen.specifier.contains({"jax": "0.11.2", "flax": "0.12.9"}[name])


ENDPOINT = Endpoint("http://127.0.0.1:9/v1/", "key", secret=False, token_field="max_tokens")
SERVER = TeacherConfig(provider="openai", model="m", base_url=ENDPOINT.base_url)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("openai", "services", lambda: OpenAIChat(ENDPOINT, "m", None, limits=LimitsConfig())),
        ("aiolimiter", "services", lambda: check_service(SERVER, "teacher")),
        ("wandb", "wandb", lambda: check_trackers(["tensorboard", "wandb"])),
        ("trackio", "trackio", lambda: check_trackers(["trackio"])),
        ("datasets", "hub", lambda: load_hub("owner/name", "train")),
    ],
)
def test_an_absent_package_is_an_error_that_names_the_command(monkeypatch, package, extra, use):
    monkeypatch.setitem(sys.modules, package, None)
    wanted = rf"needs {package}, .*launch/setup\.sh {extra}`.*pip install '\.\[{extra}\]'`"
    with pytest.raises(MissingExtra, match=wanted):
        use()


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        ("--config configs/quickstart.yaml", ""),
        ("--config configs/quickstart.yaml --audit.scorer detoxify", "classifiers"),
        ("--config configs/quickstart.yaml --audit.scorers [profanity,release]", "classifiers"),
        ("--audit.scorer detoxify --stages teach,distill", ""),
        ("--teacher.provider openai --teacher.model m", "services"),
        ("--judge.provider deepseek --judge.model m", "services"),
        ("--judge.provider deepseek --judge.model m --audit.mode screen_only", ""),
        ("--audit.scorer guard_service", "services"),
        ("--judge.provider guard", "services"),
        ("--judge.provider guard --judge.model owner/name", ""),
        ("--data.suite hub --data.hub owner/name --audit.scorer detoxify", "classifiers hub"),
        ("--data.suite hub --help", ""),
        ("--run.trackers [tensorboard,wandb,trackio]", "trackio wandb"),
        ("--run.trackers [wandb] --stages teach,audit", ""),
    ],
)
def test_the_extras_that_a_run_needs(capsys, monkeypatch, arguments, extras):
    monkeypatch.chdir(ROOT)
    assert main(arguments.split()) == 0
    assert capsys.readouterr().out.strip() == extras


def test_a_mistake_is_the_one_that_the_run_would_tell():
    program = [sys.executable, "-m", "dart_jax.commands.needed_extras", "--data.suit", "hub"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean --data.suite" in done.stderr


def test_windows_itself_is_refused():
    program = "import sys; sys.platform = 'win32'; import dart_jax"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "on Windows, install and run it in WSL" in done.stderr
