"""Settings from YAML and the command line: what is refused, and what is saved."""

import dataclasses
import subprocess
import sys
from inspect import cleandoc
from operator import attrgetter
from pathlib import Path

import pytest

from dart_jax.chat.config import LimitsConfig
from dart_jax.config import STAGES, DartConfig, make_parser, parse, parse_stages
from dart_jax.evaluate.config import EvaluatorJudgeConfig
from dart_jax.settings import BadSetting
from dart_jax.sft.config import LossConfig
from dart_jax.teach.config import SaferConfig

ROOT = Path(__file__).parents[1]
FIELDS = [
    (section.name, field)
    for section in dataclasses.fields(DartConfig)
    for field in dataclasses.fields(section.default_factory)
]
EVALUATOR = [("evaluate.judge", field) for field in dataclasses.fields(EvaluatorJudgeConfig)]
LIMITS = [
    (f"{role}.limits", field)
    for role in ("teacher", "judge", "evaluate.judge")
    for field in dataclasses.fields(LimitsConfig)
]
LOSSES = [
    (f"{stage}.loss", field)
    for stage in ("sft", "repair")
    for field in dataclasses.fields(LossConfig)
]
SAFER = [("repair.require_safer", field) for field in dataclasses.fields(SaferConfig)]
FIXED = {
    "run": {"name", "root", "seed"},
    "data": {"suite", "dir", "split_by", "max_train", "max_test"},
    "model": {"path"},
    "lora": {"rank", "alpha", "dropout", "targets"},
    "teacher": {"provider"},
    "judge": {"provider"},
    "audit": {"scorer", "tau"},
    "repair": {"severity_weights", "replay"},
}


@pytest.fixture(scope="module")
def help_text():
    return make_parser().format_help()


def unspaced(text):
    """Without the white space that wrapping puts in, even within a hyphened word."""
    return "".join(text.split())


@pytest.mark.parametrize(
    ("section", "field"),
    FIELDS + EVALUATOR + LIMITS + LOSSES + SAFER,
    ids=lambda part: getattr(part, "name", part),
)
def test_help_explains_every_setting(section, field, help_text):
    classes = type(attrgetter(section)(DartConfig())).__mro__[:-1]  # all but object
    # Cleaned, as Python 3.13 does by itself: a docstring's indentation differs between versions.
    docs = (cleandoc(one.__doc__).partition(f"\n    {field.name}: ")[2] for one in classes)
    explained = next(filter(None, docs), "").split("\n")[0]
    assert explained, "each attribute has its line in the docstring"
    if dataclasses.is_dataclass(field.type):
        return  # its own fields are explained
    entry = help_text.rpartition(f"--{section}.{field.name} ")[2]
    assert unspaced(explained) in unspaced(entry)


@pytest.mark.parametrize("section", FIXED)
def test_scripts_rely_on_these_names(section):
    names = {field.name for field in dataclasses.fields(getattr(DartConfig(), section))}
    assert names >= FIXED[section]


def test_fixed_choices_and_defaults():
    config, stages, _ = parse([])
    assert config == DartConfig()
    assert stages == STAGES == ("teach", "distill", "audit", "repair", "evaluate")
    assert (config.run.root, config.audit.tau, config.data.seed) == ("runs", 0.01, 42)
    for key, choices in {
        "data.suite": "mini difference_awareness",
        "data.split_by": "row scenario",
        "teacher.provider": "file local openai deepseek",
        "judge.provider": "local openai deepseek guard",
        "audit.scorer": "profanity detoxify hf llama_guard guard_service",
    }.items():
        section, field = key.split(".")
        for choice in choices.split():
            parsed = parse([f"--{key}={choice}"])[0]
            assert getattr(getattr(parsed, section), field) == choice


def refuse(args):
    """The error message of a refused command line."""
    with pytest.raises(BadSetting) as refused:
        parse(args)
    return str(refused.value)


@pytest.fixture
def yaml(tmp_path):
    def write(text):
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"--config={path}"

    return write


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sft:\n  learning_rat: 1e-4\n", "learning_rat"),
        ("stf:\n  epochs: 1\n", "stf"),
        ("sft:\n  epochs: many\n", "sft.epochs"),
        ("sft:\n  epochs: 1.5\n", "sft.epochs"),
        ("audit:\n  tau: low\n", "audit.tau"),
        ("data:\n  suite: maxi\n", "data.suite"),
        ("repair:\n  severity_weights: [1, 2, 3]\n", "repair.severity_weights"),
        ("lora:\n  rank: 0\n", "lora.rank"),
        ("repair:\n  loss:\n    kl: 1\n", "repair.loss.kl"),
        ("repair:\n  loss:\n    toxicity_weight: 1\n", "repair.loss.toxicity_weight"),
        ("sft:\n  loss:\n    kl_weight: 1\n", "sft.loss.kl_weight"),
        ("sft:\n  loss:\n    focal_gamma: -1\n", "sft.loss.focal_gamma"),
        ("lora:\n  targets: [q, z]\n", "lora.targets"),
        ("sft:\n  epochs: 1\n  epochs: 2\n", "settings.yaml:3: epochs is given twice"),
        ("sft:\n  epochs: 1\nsft:\n  batch_size: 2\n", "settings.yaml:3: sft is given twice"),
        ("sft.epochs: 1\nsft:\n  epochs: 2\n", "settings.yaml: sft is set twice"),
        ("sft: 5\n", "settings.yaml: sft: 5 is not field: value"),
        ("sft:\n  loss:\n", "settings.yaml: sft.loss: nothing is not field: value"),
        ("# \u00ef\n".encode("utf-16"), "settings.yaml:1: not UTF-8: this is UTF-16"),
    ],
)
def test_yaml_faults_are_named(text, named, yaml):
    assert named in refuse([yaml(text)])


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--sft.learning_rat=1e-4", "sft.learning_rat"),
        ("--stf.epochs=1", "stf.epochs"),
        ("--sft.epochs=many", "sft.epochs"),
        ("--run.seed=1.5", "run.seed"),
        ("--teacher.provider=oracle", "teacher.provider"),
        ("--sft.micro_batch_size=3", "sft.micro_batch_size"),
        ("--judge.limits.max_cost_usd=5", "price_prompt"),
        ("--judge.limits.max_requests=0", "max_requests"),
        ("--teacher.limits.requests_per_minute=0", "requests_per_minute"),
        ("--teacher.limits.max_retries=-1", "max_retries"),
        ("--teacher.limits.price_prompt=-1", "price_prompt"),
        ("--decode.top_p=0", "decode.top_p"),
        ("--stages=teach,frobnicate", "frobnicate"),
        ("--stages=", "empty"),
        ("--config=nowhere.yaml", "nowhere.yaml"),
        ("--sft.loss={fn: focal, fn: cross_entropy}", "sft.loss"),
    ],
)
def test_command_line_faults_are_named(argument, named):
    assert named in refuse([argument])


def test_scientific_notation_is_a_number(yaml):
    from_yaml = parse([yaml("sft:\n  learning_rate: 1e-4\naudit:\n  tau: 2E-3\n")])[0]
    assert (from_yaml.sft.learning_rate, from_yaml.audit.tau) == (1e-4, 2e-3)
    assert parse(["--sft.learning_rate", "1e-4"])[0].sft.learning_rate == 1e-4
    # An integer where a float belongs becomes one.
    assert isinstance(parse(["--lora.alpha", "16"])[0].lora.alpha, float)


def test_the_command_line_wins_over_yaml(yaml):
    file = yaml("sft:\n  epochs: 5\n  batch_size: 2\n")
    config = parse([file, "--sft.epochs", "7"])[0]
    assert (config.sft.epochs, config.sft.batch_size) == (7, 2)


def test_stages_run_in_their_order():
    assert parse_stages(" repair, teach") == ("teach", "repair")
    assert parse(["--stages", "evaluate,audit"])[1] == ("audit", "evaluate")


CHANGED = [
    "--run.seed=7",
    "--data.dir=some/folder",
    "--data.max_train=12",
    "--lora.targets=[q,v]",
    "--sft.learning_rate=1e-4",
    "--sft.micro_batch_size=4",
    "--audit.pool_splits=[train]",
    "--audit.scorer_models=[a/b, c]",
    "--repair.severity_weights=[1,1,2,2.5]",
    "--teacher.api_key_env=SOME_KEY",
    "--judge.limits.max_requests=9",
]


@pytest.mark.parametrize("args", [[], CHANGED], ids=["defaults", "changed"])
def test_the_snapshot_loads_back_to_the_same_settings(args, yaml):
    config, _, snapshot = parse([*args, "--stages=teach"])
    again, stages, second = parse([yaml(snapshot)])
    assert again == config
    assert second == snapshot
    assert stages == STAGES, "which stages to run is no property of the run"
    for section, field in FIELDS:
        assert f"\n{section}:" in f"\n{snapshot}"
        assert f"  {field.name}:" in snapshot, "settings that are null are there, too"


def test_no_secret_in_the_snapshot(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    service = "--teacher.provider=openai", "--teacher.model=m"
    config, _, snapshot = parse([*service, "--teacher.api_key_env=OPENAI_API_KEY"])
    assert "very-secret" not in snapshot + repr(config) + str(config.to_dict())
    assert "api_key_env: OPENAI_API_KEY" in snapshot


@pytest.mark.parametrize(
    "argument",
    ["--judge.api_key_env=sk-very-secret", "--teacher.base_url=https://me:very-secret@host/v1"],
)
def test_a_secret_given_as_a_setting_is_refused_unquoted(argument):
    message = refuse([argument])
    assert "environment variable" in message and "very-secret" not in message


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DartConfig().sft.epochs = 2


def test_help_loads_no_heavy_library():
    program = (
        "import sys\nfrom dart_jax.train import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'jax', 'flax', 'torch', 'transformers', 'sklearn', 'scipy', 'matplotlib'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("loaded: []\n"), done.stdout[-500:] + done.stderr


SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    "path",
    [path for path in SHIPPED if "\nvariants:" not in path.read_text()],
    ids=lambda p: p.name,
)
def test_shipped_configurations_load(path):
    config, _, _ = parse([f"--config={path}"])
    assert config.run.name == path.stem


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ("none", ("none", "none", "none")),
        ("{omits: judge, elaborates: scorer}", ("scorer", "auto", "judge")),
    ],
)
def test_one_word_may_stand_for_all_settings_of_a_section(given, rules, yaml):
    config, _, resolved = parse([f"--repair.require_safer={given}"])
    assert config.repair.require_safer == SaferConfig(*rules)
    for text in (f"repair: {{require_safer: {given}}}", resolved):
        assert parse([yaml(text)])[0] == config
    over = parse([yaml("repair: {require_safer: {omits: judge}}"), "--repair.require_safer=scorer"])
    assert over[0].repair.require_safer == SaferConfig("scorer", "scorer", "scorer")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--repair.require_safer=jugde"], "elaborates: jugde; give auto, scorer, judge or none"),
        (["--repair.require_safer=[none]"], "repair.require_safer: [none] is not field: value"),
        (["--repair.loss=focal"], "repair.loss: focal is not field: value"),
    ],
)
def test_other_words_and_sections_are_refused(args, message):
    assert message in refuse(args)
