"""An accelerator that was asked for and is not there is an error, not a slow run."""

import re

import jax
import pytest

from dart_jax import backend
from dart_jax.backend import Hardware, WrongDevices, check_accelerator, hardware
from dart_jax.cli import exit_status


def test_the_devices_are_those_of_jax():
    found = hardware()
    assert (found.platform, found.count) == ("cpu", len(jax.devices()))
    # A CPU's memory is not that of a device, which programs have for themselves.
    assert found.memory is None and str(found) == f"cpu, {found.count} x cpu"
    assert str(Hardware("gpu", "NVIDIA H100", 2, 60 * 2**30)).endswith("H100, 60.0 GiB each")


@pytest.mark.parametrize(
    ("asked", "plugin", "advice"),
    [
        ("cuda", None, r"jax has no CUDA here: run `ACCELERATOR=cuda bash launch/setup\.sh`"),
        ("cuda", object(), "nvidia-smi.*ACCELERATOR=cuda12 bash launch/setup"),
        ("cuda12", object(), "nvidia-smi"),
        ("tpu", None, "another process holds the TPU"),
    ],
)
def test_falling_back_to_the_cpu_is_an_error(asked, plugin, advice, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "find_spec", lambda name: plugin)
    with pytest.raises(WrongDevices, match=f"^ACCELERATOR={asked}, but jax.*{advice}"):
        check_accelerator("cpu", {"ACCELERATOR": asked}, tmp_path)

    # As launch/setup.sh leaves it, when the variable was set for that command only.
    (tmp_path / ".accelerator").write_text(asked)
    made = re.escape(f"{tmp_path} was made with ACCELERATOR={asked}, but jax found only a CPU")
    with pytest.raises(WrongDevices, match=made):
        check_accelerator("cpu", {}, tmp_path)


@pytest.mark.parametrize(
    ("platform", "variables"),
    [
        ("gpu", {"ACCELERATOR": "cuda"}),
        ("cpu", {"ACCELERATOR": "cpu"}),
        ("cpu", {"JAX_PLATFORMS": "cpu"}),
        ("cpu", {"JAX_PLATFORMS": "cpu", "ACCELERATOR": "cuda"}),
    ],
)
def test_what_was_asked_for_is_right(platform, variables, tmp_path):
    (tmp_path / ".accelerator").write_text("cuda")
    check_accelerator(platform, variables, tmp_path)


def test_it_is_a_message_and_no_traceback(capsys, tmp_path):
    def main():
        check_accelerator("cpu", {"ACCELERATOR": "cuda"}, tmp_path)

    assert exit_status(main) == 1
    assert capsys.readouterr().err.startswith("error: ACCELERATOR=cuda, but jax found only a CPU")
