"""The file of a sweep: what is put together, and what is refused before anything runs."""

from pathlib import Path

import pytest
import yaml

from dart_jax.command_line import take_settings
from dart_jax.commands.sweep.config import read_sweep
from dart_jax.config import SETTINGS
from dart_jax.evaluate.expectations import Expectation

ROOT = Path(__file__).parents[3]
BASE = "base: {data: {max_train: 4}}\n"


@pytest.fixture
def read(tmp_path):
    """A function: a sweep from a text."""

    def parse(text, *args, out=None):
        file = tmp_path / "try.yaml"
        file.write_text(text)
        return read_sweep(file, out, take_settings(args, SETTINGS)[1])

    return parse


def test_variants_change_the_base_and_seeds_come_outermost(read):
    sweep = read(
        BASE + "seeds: [3, 5]\nvariants:\n  a:\n"
        "  b: {repair.severity_weights: [1, 1, 1, 1], sft: {learning_rate: 1e-4}}",
        "--sft.batch_size=4",
        "--sft.learning_rate=0.5",
        "--run.root=there",
    )
    assert [(run.variant, run.seed) for run in sweep.runs] == [
        ("a", 3),
        ("b", 3),
        ("a", 5),
        ("b", 5),
    ]
    a, b = (run.config for run in sweep.runs[:2])
    assert (a.run.name, a.run.seed, a.run.root) == ("a-seed3", 3, "there/sweep/try/runs")
    assert a.data.max_train == b.data.max_train == a.sft.batch_size == b.sft.batch_size == 4
    assert (a.sft.learning_rate, b.sft.learning_rate) == (0.5, 1e-4)
    assert a.repair.weights == (1, 2, 3, 4)
    assert b.repair.weights == (1, 1, 1, 1)
    assert yaml.safe_load(sweep.runs[1].resolved)["sft"]["learning_rate"] == 1e-4


@pytest.mark.parametrize("name", ["ablation", "lab", "smollm2_sweep"])
def test_shipped_sweeps_are_read(name):
    sweep = read_sweep(ROOT / f"configs/{name}.yaml", None, {})
    assert len(sweep.runs) == 3 * len({run.variant for run in sweep.runs}) >= 9


def test_expectations_are_read(read):
    text = "variants: {a: , b: }\nexpectations: [{of: b, metric: planted, above: M_int}]"
    assert read(BASE + text).expectations == (Expectation("b", "planted", "above", "M_int"),)


def test_the_base_is_a_file_beside_it(read, tmp_path):
    (tmp_path / "base.yaml").write_text("lora: {rank: 3}\nteacher: {limits: {max_tokens: 9}}\n")
    sweep = read(
        "base: base.yaml\nvariants: {a: {teacher.limits.max_requests: 7}}", out=tmp_path / "o"
    )
    [run] = sweep.runs
    assert (run.config.lora.rank, run.config.run.seed) == (3, 0)
    assert run.config.teacher.limits.max_tokens == 9
    assert run.config.teacher.limits.max_requests == 7
    assert sweep.root == tmp_path / "o/runs"


def test_what_all_variants_share_lies_between_the_base_and_the_command_line(read):
    """A variant wins over the command line, that over `settings`, those over the base."""
    shared = "settings: {data.max_train: 5, sft: {epochs: 7, batch_size: 2}, lora.rank: 3}\n"
    sweep = read(BASE + shared + "variants: {a: , b: {lora.rank: 5}}", "--sft.epochs=9")
    for run, rank in zip(sweep.runs, (3, 5), strict=True):
        found = run.config.data.max_train, run.config.sft.epochs, run.config.sft.batch_size
        assert (*found, run.config.lora.rank) == (5, 9, 2, rank)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {sft.nope: 1}\nvariants: {a: }", r"try\.yaml: settings: .*nope"),
        ("settings: 3\nvariants: {a: }", r"settings: 3 is not"),
        ("settings: {stages: teach}\nvariants: {a: }", r"settings: stages has no place"),
        ("variants: {a: , b: {repair.nope: 1}}", r"try\.yaml: variants\.b: .*repair.*nope"),
        ("variants: {a: {nope: 1}}", r"variants\.a: .*nope"),
        ("variants: {a: {sft.epochs: x}}", r"variants\.a: .*sft\.epochs"),
        ("variants: {a: {lora.rank: 0}}", r"variants\.a: lora\.rank: 0"),
        ("variants: {a: {repair: 1}}", r"variants\.a: repair: 1"),
        ("variants: {a: 3}", r"variants\.a: 3"),
        ("variants: {a: {run.seed: 1}}", r"variants\.a: run, .*belong to the sweep"),
        ("variants: {a: {stages: teach}}", r"variants\.a: .*stages.*belong to the sweep"),
        ("variants: {a: {lora.rank: 3, lora: {rank: 4}}}", r"variants\.a: lora is set twice"),
        ("variants: {a: , a: }", r"try\.yaml:\d+: a is given twice"),
        ("variants: {a/b: }", r"'a/b' is no plain name"),
        ("variants: {}", r"variants: give at least one"),
        ("", r"variants: give at least one"),
        ("variants: {a: }\nseeds: 3", r"seeds: 3"),
        ("variants: {a: }\nseeds: [1, 1]", r"seeds: \[1, 1\]"),
        ("variants: {a: }\nseeds: []", r"seeds: \[\]"),
        ("variants: {a: }\nnope: 1", r"unknown key nope"),
        ("variants: {a: }\nexpectations: 3", r"expectations: give a list"),
        ("variants: {a: }\nexpectations: [{of: a}]", r"expectations, number 1: .* is not like"),
        (
            "variants: {a: , b: }\nexpectations: [{of: a, metric: drif, below: b}]",
            r"expectations, number 1: unknown metric drif; did you mean drift\?",
        ),
        (
            "variants: {linear: }\nexpectations: [{of: linear, metric: drift, above: linea}]",
            r"unknown above linea; did you mean linear\?",
        ),
    ],
)
def test_what_is_wrong_is_named(text, message, read):
    with pytest.raises(ValueError, match=message):
        read(BASE + text)


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ("nowhere.yaml", FileNotFoundError, r"base: there is no file .*nowhere\.yaml"),
        ("{sft: {nope: 1}}", ValueError, r"base: .*nope"),
        ("{stages: teach}", ValueError, r"base: stages has no place"),
        ("3", ValueError, r"base: give"),
    ],
)
def test_a_wrong_base_is_named(base, error, message, read):
    with pytest.raises(error, match=message):
        read(f"base: {base}\nvariants: {{a: }}")


def test_seeds_of_the_command_line_replace_the_files(tmp_path):
    path = tmp_path / "try.yaml"
    path.write_text(BASE + "seeds: [0, 1, 2]\nvariants: {a: }")
    assert [run.seed for run in read_sweep(path, None, {}, [3, 1]).runs] == [3, 1]
    with pytest.raises(ValueError, match=r"command line: --seeds: \[1, 1\]"):
        read_sweep(path, None, {}, [1, 1])


def test_variants_of_the_command_line_are_run_in_the_files_order(tmp_path):
    path = tmp_path / "try.yaml"
    expected = "expectations: [{of: b, metric: drift, below: a}]"
    path.write_text(BASE + "variants: {a: , b: , c: }\n" + expected)
    sweep = read_sweep(path, None, {}, None, ["c", "a"])
    assert [run.variant for run in sweep.runs] == ["a", "c"] == list(sweep.variants)
    assert sweep.expectations[0].of == "b"  # which is then not measured
    with pytest.raises(ValueError, match="command line: --variants: unknown variant d"):
        read_sweep(path, None, {}, None, ["d"])


def test_a_wrong_argument_is_named(read):
    with pytest.raises(ValueError, match=r"there is no setting --sft\.nope$"):
        read(BASE + "variants: {a: }", "--sft.nope=1")


def test_the_ablation_that_comes_with_the_project_parses():
    sweep = read_sweep(Path(__file__).parents[3] / "configs/ablation.yaml", None, {})
    assert {run.config.data.suite for run in sweep.runs} == {"mini"}
    assert len(sweep.runs) == len(sweep.variants) * len(sweep.seeds)
