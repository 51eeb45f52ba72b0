"""The tiny model, its judge and its settings, as of tests/stages; and sweeps of them."""

import pytest

from dart_jax.commands.sweep.command import main
from tests.stages.conftest import (  # noqa: F401
    judge,
    retrained,
    settings,
    summary_of,
    tiny_model,
)


@pytest.fixture(scope="session")
def sweep(settings):  # noqa: F811
    """A function: run a sweep's text in a folder, with overrides; the exit status."""

    def run(folder, text, *further, **overrides):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "try.yaml"
        file.write_text(text)
        base = settings(folder, **overrides)
        return main([f"--config={file}", f"--out={folder / 'out'}", *further, *base])

    return run
