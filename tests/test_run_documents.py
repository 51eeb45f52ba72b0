"""tests/run_documents.py finds the commands of the documents, and what it knows of them is true."""

import pytest

from tests.run_documents import (
    DESCRIBED,
    EXCEPTIONS,
    READERS_CHOICE,
    ROOT,
    commands,
    filled_in,
    named_files,
    reason_against,
)

DOCUMENT = """Two commands:

    bash launch/local.sh     # makes .venv
    A_TOKEN=... python -m dart_jax.train --config a.yaml \\
        --data.dir /data/suite

or `ACCELERATOR=tpu bash launch/setup.sh`, once. No command: `bash`, and

    # my_pkg.py

```python
# my_pkg.py, in this directory
x = 1
```

    {"id": "pot", "messages": [{"role": "user", "content": "My pot."}], "completion": "Sorry."}
"""


def test_commands_and_files_of_a_document():
    assert commands(DOCUMENT) == [
        "bash launch/local.sh",
        "A_TOKEN=... python -m dart_jax.train --config a.yaml --data.dir /data/suite",
        "ACCELERATOR=tpu bash launch/setup.sh",
    ]
    files = named_files(DOCUMENT)
    assert files["my_pkg.py"] == "# my_pkg.py, in this directory\nx = 1\n"
    first, *others = files["my.jsonl"].splitlines()
    assert len(others) == 9 and '"My pot. It is number 0."' in first and '"pot0"' in first


def test_a_command_without_what_it_needs_is_not_run(tmp_path):
    command = "python -m dart_jax sweep --data.dir .../difference_awareness"
    assert reason_against(command, None) == "no --suite was given"
    assert not reason_against(command, "/suite")
    assert filled_in(command, "/suite", tmp_path) == "python -m dart_jax sweep --data.dir /suite"
    assert reason_against("ACCELERATOR=tpu bash launch/setup.sh", None) == "there is no TPU"


@pytest.mark.parametrize("part", [*EXCEPTIONS, *READERS_CHOICE])
def test_every_exception_and_choice_concerns_a_command(part):
    documents = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("dart_jax/*/README.md")]
    shown = [command for path in documents for command in commands(path.read_text("utf-8"))]
    assert any(part in command for command in [*shown, *DESCRIBED])
