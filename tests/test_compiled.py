"""Compiled programs are kept in the user's cache; in a made-up home, as the tests have it."""

import os

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dart_jax import compiled
from dart_jax.compiled import keep_compiled
from dart_jax.machine import instruction_set
from dart_jax.records import digest

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
)


def settings():
    return [getattr(jax.config, name) for name in SETTINGS]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder in a home of its own; jax has its settings back afterwards."""
    before = settings()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.reset_cache()
    yield tmp_path / "dart_jax/compiled" / digest(instruction_set())[:8]
    for name, value in zip(SETTINGS, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_for_all_runs(cache, tmp_path):
    keep_compiled(tmp_path / "runs")
    assert settings()[:2] == [str(cache), 4 * 2**30]
    jax.jit(lambda x: x * 3 + 1)(2.0)
    [program] = cache.glob("*-cache")

    # What a killed process leaves: jax reads the stamp of each program when it stores another.
    (cache / "old-cache").write_bytes(b"half")
    os.utime(cache / "old-cache", times=(0, 0))
    (cache / "new-cache").write_bytes(b"half")
    keep_compiled(tmp_path / "runs")
    assert {path.name for path in cache.glob("*-cache")} == {program.name, "new-cache"}
    assert not (tmp_path / "runs").exists()


def test_a_job_of_several_processes_shares_its_programs(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "process_count", lambda: 2)
    bound = settings()[1]
    keep_compiled(tmp_path / "runs")
    assert settings()[:2] == [str(tmp_path / "runs/.jax_cache"), bound]
    assert not cache.exists()


@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", None])
def test_it_can_be_moved_and_turned_off(variable, cache, tmp_path, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    before = settings()
    keep_compiled(tmp_path / "runs")
    assert settings() == before and not cache.exists()


def test_another_bound_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    bound = settings()[1]
    keep_compiled(tmp_path / "runs")
    assert settings()[1] == bound


def test_each_kind_of_processor_has_its_own(cache, tmp_path, monkeypatch):
    keep_compiled(tmp_path / "runs")
    monkeypatch.setattr(compiled, "instruction_set", lambda: "avx2")
    keep_compiled(tmp_path / "runs")
    assert len(list(cache.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path, capsys):
    (tmp_path / "dart_jax").write_text("a file")
    before = settings()
    keep_compiled(tmp_path / "runs")
    assert settings() == before
    assert "JAX_COMPILATION_CACHE_DIR" in capsys.readouterr().err
