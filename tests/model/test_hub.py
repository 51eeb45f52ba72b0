"""Models by their name on the hub: from a cache that is whole, and what is said where it is not."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from dart_jax.model.hub import is_hub_name
from dart_jax.model.load import resolve_path
from tests.tiny_model import write_model

NAME = "someone/tiny-llama"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The folder of NAME in a cache of the hub's own form, in which a model was written."""
    pytest.importorskip("torch")
    repository = tmp_path / "models--someone--tiny-llama"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    folder = repository / "snapshots" / ("0" * 40)
    write_model(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return folder


def test_a_model_in_the_cache_is_found_without_a_network(cached):
    assert resolve_path(NAME) == cached


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_cache_that_is_not_whole_is_not_taken(cached, missing):
    (cached / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"not whole .*`hf download someone/tiny-llama"):
        resolve_path(NAME)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError, "is gated: accept its licence .* HF_TOKEN"),
        (RepositoryNotFoundError, "no folder here, and the hub has no such model"),
    ],
)
def test_what_the_hub_refuses_is_said(monkeypatch, error, message):
    def refuse(name, local_files_only=False, **_):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing")
        raise error("no", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=message):
        resolve_path(NAME)


def test_only_owner_and_name_are_a_hub_name():
    assert is_hub_name("meta-llama/Meta-Llama-3-8B-Instruct")
    for path in ("llama", "/models/llama", "./models/llama", "a/b/c", "models/x.gguf", "../x"):
        assert not is_hub_name(path)
