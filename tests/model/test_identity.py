"""A model is what its files hold: what counts, what does not, and what a second look costs."""

import json
import os
import shutil
import threading

import pytest

from dart_jax.model import identity
from dart_jax.model.identity import checkpoint_identity, differing_parts
from dart_jax.model.weights import BadCheckpoint

FILES = {
    "config.json": "{}",
    "generation_config.json": '{"eos_token_id": 1}',
    "model.safetensors": "weights",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "chat_template.jinja": "a",
}


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder, as far as hashing is concerned."""
    path = tmp_path / "model"
    path.mkdir()
    for name, text in FILES.items():
        (path / name).write_text(text)
    return path


def test_the_parts_are_told_apart(folder):
    assert set(checkpoint_identity(folder)) == {"config", "weights", "tokenizer", "generation"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("config.json", "config"),
        ("generation_config.json", "generation"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("tokenizer_config.json", "tokenizer"),
        ("chat_template.jinja", "tokenizer"),
    ],
)
def test_other_content_of_the_same_size_counts(name, part, folder):
    before = checkpoint_identity(folder)
    text = (folder / name).read_text()
    (folder / name).write_text(text[::-1] if text[::-1] != text else "x" * len(text))
    assert differing_parts(before, checkpoint_identity(folder)) == [part]


def test_a_part_that_comes_or_goes_counts(folder):
    before = checkpoint_identity(folder)
    (folder / "generation_config.json").unlink()
    assert differing_parts(before, checkpoint_identity(folder)) == ["generation"]


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", ".cache/huggingface/x.lock", "original/consolidated.00.pth"]
)
def test_what_no_answer_depends_on_does_not_count(name, folder):
    before = checkpoint_identity(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("anything")
    assert checkpoint_identity(folder) == before


def test_neither_place_nor_time_count(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    os.utime(copy / "model.safetensors", (1, 1))
    assert checkpoint_identity(copy) == checkpoint_identity(folder)


def test_the_weights_are_those_that_the_index_names(folder):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"w": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = checkpoint_identity(folder)
    (folder / "consolidated.safetensors").write_text("the same once more")
    assert checkpoint_identity(folder) == before
    (folder / "model-1.safetensors").write_text("WEIGHTS")
    assert differing_parts(before, checkpoint_identity(folder)) == ["weights"]
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors\.index\.json: not JSON"):
        checkpoint_identity(folder)


def test_weights_in_torchs_format(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    before = checkpoint_identity(folder)
    (folder / "pytorch_model.bin").write_text("WEIGHTS")
    assert differing_parts(before, checkpoint_identity(folder)) == ["weights"]


def test_a_file_is_one_part(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_text("a")
    before = checkpoint_identity(path)
    path.write_text("b")
    assert differing_parts(before, checkpoint_identity(path)) == ["file"]
    with pytest.raises(FileNotFoundError):
        checkpoint_identity(tmp_path / "absent.gguf")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's folder; files of any size and age are kept in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_LEAST_KEPT", 1)
    monkeypatch.setattr(identity, "_SETTLED_SECONDS", 0.0)
    return tmp_path / "cache/dart_jax/sha256"


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were hashed."""
    names, really = [], identity._hash_and_keep

    def hash_and_keep(file, advance):
        names.append(file.name)
        return really(file, advance)

    monkeypatch.setattr(identity, "_hash_and_keep", hash_and_keep)
    return names


def test_a_file_is_read_once(folder, cache, read):
    first = checkpoint_identity(folder)
    assert sorted(read) == sorted(FILES)
    read.clear()
    assert checkpoint_identity(folder) == first
    assert read == []
    assert len(list(cache.iterdir())) == len(FILES), "no temporary file is left"


def test_a_change_that_hides_its_time_is_seen(folder, cache, read):
    """Same size, same inode, and the time of the last change set back, as `rsync -t` does."""
    path = folder / "model.safetensors"
    before, times = checkpoint_identity(folder), path.stat()
    read.clear()
    with open(path, "r+") as file:
        file.write("WEIGHTS")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert differing_parts(before, checkpoint_identity(folder)) == ["weights"]
    assert read == ["model.safetensors"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"path": 1}', "\x00"])
def test_a_damaged_entry_is_made_again(damage, folder, cache, read):
    first = checkpoint_identity(folder)
    for entry in cache.iterdir():
        entry.write_text(damage)
    read.clear()
    assert checkpoint_identity(folder) == first
    assert sorted(read) == sorted(FILES)
    read.clear()
    assert checkpoint_identity(folder) == first
    assert read == []


def test_a_cache_that_cannot_be_written_is_told_of(folder, cache, capsys):
    cache.parent.parent.write_text("a file where the folder should be")
    found = checkpoint_identity(folder)
    assert "cannot keep the hash" in capsys.readouterr().err
    assert checkpoint_identity(folder) == found


def test_a_file_that_has_just_changed_is_not_kept(folder, cache, monkeypatch):
    """It may change again within the same tick of the file system's clock."""
    monkeypatch.setattr(identity, "_SETTLED_SECONDS", 3600.0)
    checkpoint_identity(folder)
    assert not cache.exists()


def test_a_relative_cache_home_is_none(folder, cache, tmp_path, monkeypatch):
    """As the XDG specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    checkpoint_identity(folder)
    assert len(list((tmp_path / "home/.cache/dart_jax/sha256").iterdir())) == len(FILES)


def test_several_at_once_agree(folder, cache, capsys):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(checkpoint_identity(folder))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [checkpoint_identity(folder)] * 8
    assert capsys.readouterr().err == ""
