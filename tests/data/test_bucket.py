"""Files and folders of a bucket, in the memory file system of fsspec."""

import importlib.util

import fsspec
import pytest

from dart_jax.data.bucket import local_copy
from dart_jax.data.config import DataConfig
from dart_jax.data.suites import load_suite
from dart_jax.model.load import resolve_path
from dart_jax.run_dir import RunConfig
from dart_jax.settings import BadSetting


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket with a model's two files; copies go to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.pipe({"/models/llama/config.json": b"{}", "/models/llama/part/weights": b"1234"})
    yield system
    system.rm("/models", recursive=True)


def test_a_folder_is_copied_once(bucket, monkeypatch, capsys):
    copy = resolve_path("memory://models/llama")
    assert (copy.name, (copy / "part/weights").read_bytes()) == ("llama", b"1234")
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == [
        "config.json",
        "weights",
    ]
    assert "copying memory://models/llama" in capsys.readouterr().out

    monkeypatch.setattr(type(bucket), "get_file", None)
    assert resolve_path("memory://models/llama") == copy
    assert "copying" not in capsys.readouterr().out


def test_a_file_alone_is_copied_under_its_name(bucket):
    copy = local_copy("memory://models/llama/part/weights", "model.path")
    assert (copy.name, copy.read_bytes()) == ("weights", b"1234")


def test_what_changed_in_the_bucket_is_copied_anew(bucket):
    before = local_copy("memory://models/llama", "model.path")
    bucket.pipe("/models/llama/part/weights", b"4321")
    after = local_copy("memory://models/llama", "model.path")
    assert (before / "part/weights").read_bytes() == b"1234"
    assert (after / "part/weights").read_bytes() == b"4321"


def test_an_interrupted_copy_leaves_no_file_under_its_name_and_goes_on(
    bucket, tmp_path, monkeypatch
):
    whole = type(bucket).get_file

    def get_half(self, path, target, **_):
        if path.endswith("weights"):
            with open(target, "wb") as out:
                out.write(b"12")
            raise ConnectionError("the network is down")
        whole(self, path, target)

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket), "get_file", get_half)
        with pytest.raises(ConnectionError):
            local_copy("memory://models/llama", "model.path")
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["config.json"]
    stamp = left[0].stat().st_mtime_ns

    copy = local_copy("memory://models/llama", "model.path")
    assert (copy / "part/weights").read_bytes() == b"1234"
    assert left[0].stat().st_mtime_ns == stamp


def test_the_suite_may_be_in_a_bucket(bucket):
    bucket.pipe("/models/suite/D1.jsonl", b"{}\n")
    config = DataConfig(suite="difference_awareness", dir="memory://models/suite")
    with pytest.raises(FileNotFoundError, match=r"benchmark D2 is missing: .*suite"):
        load_suite(config)


def test_nothing_at_the_address_is_said(bucket):
    with pytest.raises(FileNotFoundError, match=r"model.path: there is nothing at memory://no"):
        resolve_path("memory://no")
    with pytest.raises(FileNotFoundError, match=r"model.path: nowhere://x: "):
        resolve_path("nowhere://x")


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is here")
def test_a_missing_package_is_named():
    with pytest.raises(FileNotFoundError, match=r"model.path: gs://b/llama .* pip install gcsfs"):
        resolve_path("gs://b/llama")


def test_a_run_does_not_live_in_a_bucket():
    with pytest.raises(BadSetting, match=r"run.root: gs://b/runs; a run needs locks"):
        RunConfig(root="gs://b/runs")
