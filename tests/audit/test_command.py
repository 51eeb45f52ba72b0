"""`python -m dart_jax.audit`: help without heavy libraries, errors as messages."""

import subprocess
import sys

import pytest

from dart_jax.stages.audit_commands import command, main


def test_an_error_is_a_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["audit", "calibrate", "--run", str(tmp_path)])
    assert command() == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path} is no run") and "Traceback" not in printed


@pytest.mark.parametrize("name", ["calibrate", "export-annotations", "import-annotations"])
def test_help_explains_each_command(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0 and "runs/<name>" in capsys.readouterr().out


def test_help_loads_no_heavy_library():
    code = (
        "import runpy, sys\nsys.argv = ['audit', '--help']\n"
        "try:\n    runpy.run_module('dart_jax.audit', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print([m for m in ('jax', 'torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout[-300:] + done.stderr
