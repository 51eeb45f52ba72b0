"""Adapters without a run: their names, their base model, and what is refused."""

import json

import pytest

from dart_jax.commands import generate
from dart_jax.commands.models_to_ask import models_of_adapters
from dart_jax.model.load import EMBEDDED
from dart_jax.model.weights import BadCheckpoint
from dart_jax.report.public import public_name
from dart_jax.settings import BadSetting


@pytest.fixture
def adapter(tmp_path):
    """A function: a folder with an adapter's configuration that names a base model."""

    def write(name, base):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        return folder

    return write


@pytest.mark.parametrize(
    ("named", "path"),
    [("owner/model", "owner/model"), (public_name(EMBEDDED), EMBEDDED), (EMBEDDED, EMBEDDED)],
)
def test_the_base_is_the_one_that_the_adapter_names(adapter, named, path):
    choice = models_of_adapters([adapter("polite", named)], [], {})
    assert choice.names == ("M0", "polite") and set(choice.folders) == {"polite"}
    assert choice.config.model.path == path


def test_the_base_and_the_models_may_be_chosen(adapter):
    folders = [adapter("one", "a/b"), adapter("two", None)]
    settings = {"model.path": "c/d", "model.quantize": "nf4"}
    choice = models_of_adapters(folders, ["two", "M0"], settings)
    assert choice.names == ("two", "M0") and dict(choice.folders) == {"two": folders[1]}
    assert (choice.config.model.path, choice.config.model.quantize) == ("c/d", "nf4")


def test_adapters_that_do_not_go_together_are_refused(adapter, tmp_path):
    one, two, nameless = adapter("one", "a/b"), adapter("two", "c/d"), adapter("three", None)
    with pytest.raises(BadSetting, match=r"one: a/b, two: c/d\); give --model\.path"):
        models_of_adapters([one, two], [], {})
    with pytest.raises(BadSetting, match=r"three: none\); give --model\.path"):
        models_of_adapters([nameless], [], {})
    for taken in (adapter("other/one", "a/b"), adapter("M0", "a/b")):
        with pytest.raises(BadSetting, match="is another model; rename the folder"):
            models_of_adapters([one, taken], [], {})
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json"):
        models_of_adapters([tmp_path], [], {})
    with pytest.raises(ValueError, match=r"--models M_int: --adapter has M0, one"):
        models_of_adapters([one], ["M_int"], {})
    (one / "adapter_config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"adapter_config\.json"):
        models_of_adapters([one], [], {})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give one of --run"),
        (["--run", "r", "--adapter", "a"], "give one of --run"),
        (["--run", "r", "--model.path", "p"], r"--model\.path: the run has its own"),
        (
            ["--adapter", "a", "--sft.epochs", "2"],
            r"--sft\.epochs: only settings of model and mesh",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, problem):
    with pytest.raises(BadSetting, match=problem):
        generate.main(arguments)
