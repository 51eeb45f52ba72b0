"""Scorers would download the files that they load, less those that are here."""

from types import SimpleNamespace

import huggingface_hub
import pytest

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorer_files import scorer_downloads
from dart_jax.audit.scorer_protocol import ScorerUnavailable
from tests.file_server import file_server

SIZES = {"config.json": 1, "vocab.txt": 2, "pytorch_model.bin": 40, "tf_model.h5": 800}


def hub_of(monkeypatch, sizes, cached=()):
    """Let the hub list files with their sizes, of which some are in the cache."""

    def listed(name, dry_run):
        assert dry_run
        return [
            SimpleNamespace(filename=file, file_size=size, will_download=file not in cached)
            for file, size in sizes.items()
        ]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", listed)


@pytest.mark.parametrize(
    ("more", "cached", "size"),
    [
        ({}, (), 43),
        ({"model.safetensors": 50}, (), 53),
        ({"model.safetensors": 50}, ("model.safetensors", "vocab.txt"), 1),
    ],
)
def test_of_two_forms_of_weights_one_is_counted(monkeypatch, more, cached, size):
    hub_of(monkeypatch, SIZES | more, cached)
    config = AuditConfig(scorers=("profanity", "hf:someone/classifier=toxic"))
    assert scorer_downloads(config) == {"someone/classifier": size}


def test_both_classifiers_of_the_release_are_listed(monkeypatch):
    hub_of(monkeypatch, SIZES)
    assert len(scorer_downloads(AuditConfig(scorers=("release",)))) == 2


def test_what_the_hub_does_not_give_is_said(monkeypatch):
    def refuse(name, dry_run):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ScorerUnavailable, match=r"does not give someone/classifier: no network"):
        scorer_downloads(AuditConfig(scorers=("hf:someone/classifier",)))


def test_detoxify_s_checkpoint_is_asked_for_unless_it_is_here(monkeypatch, tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("detoxify").detoxify
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    config = AuditConfig(scorer="detoxify")
    with file_server() as server:
        server.files["/toxic.ckpt"] = b"12345"
        monkeypatch.setitem(library.MODEL_URLS, "original", f"{server.url}/toxic.ckpt")
        assert scorer_downloads(config) == {"detoxify:original": 5}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/toxic.ckpt").write_bytes(b"12345")
    assert scorer_downloads(config) == {"detoxify:original": 0}

    with pytest.raises(ScorerUnavailable, match="neither a file nor one of Detoxify's variants"):
        scorer_downloads(AuditConfig(scorers=("detoxify:nothing",)))
