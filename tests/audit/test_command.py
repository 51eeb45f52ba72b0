"""`python -m dart_jax.audit`: help without heavy libraries, errors as messages."""

import subprocess
import sys

import pytest

from dart_jax.stages.audit_commands import main


def run(*arguments):
    command = [sys.executable, "-m", "dart_jax.audit", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_error_is_a_message(tmp_path):
    done = run("calibrate", "--run", str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path} is no run")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["calibrate", "export-annotations", "import-annotations"])
def test_help_explains_each_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "runs/<name>" in capsys.readouterr().out


def test_help_loads_no_heavy_library():
    code = (
        "import sys\nfrom dart_jax.stages.audit_commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('jax', 'torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout[-300:] + done.stderr
