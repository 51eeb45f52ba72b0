"""The day that a chat template writes is one for a whole run, and an input where it is written."""

import datetime
import json
import shutil

import pytest
import yaml

from dart_jax.commands.sweep.config import read_sweep
from dart_jax.config import parse
from dart_jax.generate.answers import answer_prompts
from dart_jax.model.chat_template import asks_for_date
from dart_jax.pipeline.run_day import day_of_run, day_of_sweep
from dart_jax.run_dir import RunDir
from dart_jax.stages.context import Run
from dart_jax.train import main
from tests.tiny_model import TEMPLATE

FIRST = datetime.date(2025, 3, 31)
LATER = datetime.date(2025, 4, 1)
STAGES = "--stages=teach,distill"


@pytest.fixture(scope="module")
def dated_model(tiny_model, tmp_path_factory):
    """The tiny model with a template that writes today's date before the first message."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("dated") / "model")
    rewrite_template(folder, "{{ 'Today: ' + strftime_now('%d %b %Y') }}" + TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def begun_first(dated_model, settings, tmp_path_factory):
    """A run with that model, begun on the first day."""
    root = tmp_path_factory.mktemp("begun")
    assert main([*settings(root, model__path=dated_model), STAGES], today=FIRST) == 0
    return root / "run"


@pytest.fixture
def dated_run(begun_first, tmp_path):
    """A copy of it, to go on with; its root is `tmp_path`."""
    return shutil.copytree(begun_first, tmp_path / "run")


def rewrite_template(folder, template):
    config = folder / "tokenizer_config.json"
    raw = json.loads(config.read_text())
    raw.pop("chat_template", None)
    config.write_text(json.dumps(raw))
    (folder / "chat_template.jinja").write_text(template)


def prompts_of(folder):
    """Token ids of a started run's test prompts."""
    config, _, _ = parse([f"--config={folder / 'config.yaml'}"])
    run = Run(config, RunDir(config.run))
    return run, [prompt.tokens for prompt in answer_prompts(run.splits["test"], run.model)]


def begun(printed):
    return [name for name in ("teach", "distill") if f"{name}: up to date" not in printed]


def test_a_run_of_two_days_is_one_run(dated_run, dated_model, settings, tmp_path, capsys):
    """The second start finds everything up to date, and prompts with the same ids."""
    arguments = [*settings(tmp_path, model__path=dated_model), STAGES]
    run, before = prompts_of(dated_run)
    assert "Today: 31 Mar 2025" in run.model.tokenizer.decode(before[0])
    assert run.config.model.date == "2025-03-31"
    assert main(arguments, today=LATER) == 0
    assert begun(capsys.readouterr().out) == []
    assert prompts_of(dated_run)[1] == before


def test_what_the_first_day_began_goes_on_with_its_day(dated_model, settings, tmp_path):
    base = settings(tmp_path, model__path=dated_model)
    assert main([*base, "--stages=teach"], today=FIRST) == 0
    assert main([*base, STAGES], today=LATER) == 0
    inputs = json.loads((tmp_path / "run/stages/distill.json").read_text())["inputs"]
    assert inputs["model.date"] == "2025-03-31"


def test_another_date_runs_again_what_depends_on_it(
    dated_run, dated_model, settings, tmp_path, capsys
):
    """Not the teacher's texts; and the new date is the one that is kept."""
    arguments = [*settings(tmp_path, model__path=dated_model), STAGES]
    assert main([*arguments, "--model.date=2024-02-29"], today=FIRST) == 0
    printed = capsys.readouterr().out
    assert begun(printed) == ["distill"] and "model.date" in printed
    assert main(arguments, today=LATER) == 0
    assert begun(capsys.readouterr().out) == []
    config = yaml.safe_load((dated_run / "config.yaml").read_text())
    assert config["model"]["date"] == "2024-02-29"


def test_without_a_date_in_the_template_any_date_will_do(copied, settings, tmp_path, capsys):
    inputs = json.loads((copied / "stages/distill.json").read_text())["inputs"]
    assert "model.date" not in inputs
    arguments = [*settings(tmp_path), STAGES]
    assert main([*arguments, "--model.date=2024-02-29"], today=LATER) == 0
    assert begun(capsys.readouterr().out) == []


def test_the_dry_run_knows_the_day_of_the_run(dated_run, dated_model, settings, tmp_path, capsys):
    arguments = [*settings(tmp_path, model__path=dated_model), STAGES]
    assert main([*arguments, "--dry-run"], today=LATER) == 0
    assert "distill:" not in capsys.readouterr().out


def test_a_refusing_template_stops_the_run_before_the_teacher_is_asked(
    tiny_model, settings, tmp_path
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    refusal = "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    rewrite_template(folder, TEMPLATE.replace("<head>", refusal + "<head>", 1))
    with pytest.raises(ValueError, match=r"^mini-.*: the chat template refuses .*no system role"):
        main([*settings(tmp_path, model__path=folder), STAGES], today=FIRST)
    assert not (tmp_path / "run/teach/targets.jsonl").exists()


def test_the_runs_of_a_sweep_have_the_day_of_its_first_start(tmp_path):
    file = tmp_path / "try.yaml"
    file.write_text("base: {}\nvariants: {a: , b: {model.date: 2024-02-29}}\n")
    out = tmp_path / "out"
    assert day_of_sweep(out, FIRST) == "2025-03-31"
    out.mkdir()
    (out / "date").write_text("2025-03-30\n")
    sweep = read_sweep(file, out, {}, today=LATER)
    assert sweep.day == "2025-03-30"
    assert [run.config.model.date for run in sweep.runs] == ["2025-03-30", "2024-02-29"]
    assert "date: '2025-03-30'" in sweep.runs[0].resolved


def test_a_config_without_a_date_is_a_first_start(tmp_path):
    assert day_of_run(tmp_path, FIRST) == "2025-03-31"
    for text in ("run: {seed: 1}", "model: {path: there}", "model: {date: null}", "model: null"):
        (tmp_path / "config.yaml").write_text(text)
        assert day_of_run(tmp_path, FIRST) == "2025-03-31"


def test_a_template_that_asks_is_known_without_its_tokenizer(tiny_model, dated_model, tmp_path):
    assert asks_for_date(dated_model) and not asks_for_date(tiny_model)
    gguf = pytest.importorskip("gguf")
    for name, template in (("dated", "{{ strftime_now('%Y') }}"), ("plain", TEMPLATE)):
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_chat_template(template)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        assert asks_for_date(tmp_path / name) == (name == "dated")
