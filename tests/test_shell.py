"""What a command leaves on the terminal, and its exit status."""

import pytest

from dart_jax.shell import exit_status


def raising(error):
    def main():
        raise error

    return main


def test_a_status_passes_through(capsys):
    assert exit_status(lambda: 3) == 3
    assert capsys.readouterr().err == ""


def test_what_the_user_can_mend_is_a_message(capsys, monkeypatch):
    monkeypatch.delenv("DART_JAX_TRACEBACK", raising=False)
    assert exit_status(raising(ValueError("data.dir: none"))) == 1
    assert capsys.readouterr().err.startswith("error: data.dir: none\n")


def test_other_errors_and_asked_for_tracebacks_are_raised(monkeypatch):
    monkeypatch.delenv("DART_JAX_TRACEBACK", raising=False)
    with pytest.raises(PermissionError):
        exit_status(raising(PermissionError("x")), (ValueError, FileNotFoundError))
    monkeypatch.setenv("DART_JAX_TRACEBACK", "1")
    with pytest.raises(ValueError):
        exit_status(raising(ValueError("x")))


def test_ctrl_c_says_what_became_of_the_work(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nstopped; the same command goes on from here\n"
    assert exit_status(raising(KeyboardInterrupt()), stopped="") == 130
    assert capsys.readouterr().err == ""
