"""Which files a scorer's scores depend on: a classifier that is replaced under its name counts."""

from importlib.metadata import version

import pytest

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorer_contents import scorer_contents

torch = pytest.importorskip("torch")


def test_a_package_is_known_by_its_version():
    assert scorer_contents(AuditConfig()) == {"profanity": version("alt-profanity-check")}


def test_names_on_the_hub_are_known_by_the_settings():
    assert scorer_contents(AuditConfig(scorers=("release", "detoxify:original"))) == {}


@pytest.mark.parametrize(
    ("name", "part"),
    [("model.safetensors", "weights"), ("tokenizer.json", "tokenizer"), ("config.json", "config")],
)
def test_a_local_classifier_is_known_by_its_content(name, part, bert):
    folder = bert("m", ("fine", "hate"))
    for config in (
        AuditConfig(scorers=(f"hf:{folder}=hate",)),
        AuditConfig(scorer="hf", scorer_models=(str(folder),)),
    ):
        before = scorer_contents(config)[str(folder)]
        (folder / "README.md").write_text(name)
        assert scorer_contents(config)[str(folder)] == before
        data = bytearray((folder / name).read_bytes())
        data[-3] ^= 1
        (folder / name).write_bytes(bytes(data))
        after = scorer_contents(config)[str(folder)]
        assert {key for key in before if before[key] != after[key]} == {part}


def test_a_local_guard_is_known_by_its_content(tmp_path):
    file = tmp_path / "guard.gguf"
    settings = AuditConfig(scorer="llama_guard", scorer_models=(str(file),))
    assert scorer_contents(settings) == {}
    file.write_bytes(b"one")
    before = scorer_contents(settings)[str(file)]
    file.write_bytes(b"another")
    assert set(before) == {"file"} and scorer_contents(settings)[str(file)] != before


def test_a_detoxify_checkpoint_is_known_by_its_tokenizer_too(bert, tmp_path):
    folder, path = bert("base", ("toxic",)), tmp_path / "tiny.ckpt"
    config = {"arch": {"args": {"model_type": str(folder)}}}
    torch.save({"state_dict": {}, "config": config}, path)
    settings = AuditConfig(scorer="detoxify", scorer_models=(str(path),))
    before = scorer_contents(settings)[str(path)]
    assert set(before) == {"file", "config", "tokenizer"}
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("awful", "lawful"))
    after = scorer_contents(settings)[str(path)]
    assert {key for key in before if before[key] != after[key]} == {"tokenizer"}
    path.write_bytes(b"no checkpoint")
    assert set(scorer_contents(settings)[str(path)]) == {"file"}
