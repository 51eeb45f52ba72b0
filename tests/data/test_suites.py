"""A suite is found by its name; the external one needs its folder."""

import pytest

from dart_jax.data.config import DataConfig
from dart_jax.data.mini_suite import load_mini
from dart_jax.data.suites import load_suite


def test_mini():
    assert load_suite(DataConfig()) == [item.question for item in load_mini()]


def test_the_folder_is_asked_for():
    with pytest.raises(ValueError, match=r"needs data\.dir: the folder with D1\.jsonl"):
        load_suite(DataConfig(suite="difference_awareness"))


def test_the_folder_is_named_when_absent(tmp_path):
    config = DataConfig(suite="difference_awareness", dir=str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        load_suite(config)
