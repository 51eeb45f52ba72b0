"""Sweeps of the tiny model."""

import pytest

from dart_jax.commands.sweep.command import main


@pytest.fixture(scope="session")
def sweep(settings):
    """A function: run a sweep's text in a folder, with overrides; the exit status."""

    def run(folder, text, *further, **overrides):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "try.yaml"
        file.write_text(text)
        base = settings(folder, **overrides)
        return main([f"--config={file}", f"--out={folder / 'out'}", *further, *base])

    return run
