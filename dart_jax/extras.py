"""Packages that only some settings and commands use: the extras of pyproject.toml.

They are imported at the place of use, after `need` has found them.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec


class MissingExtra(RuntimeError):
    """A package that a setting or a command needs is not installed; says what to run."""


def need(extra: str, packages: Sequence[str], wanted_by: str) -> None:
    """Check that packages of an extra are installed, before they are imported.

    Args:
        extra: As pyproject.toml names it.
        packages: The top-level names by which they are imported.
        wanted_by: The setting or option that uses them, such as `audit.scorer detoxify`.

    Raises:
        MissingExtra: One of them is not installed.
    """
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        raise MissingExtra(
            f"{wanted_by} needs {' and '.join(absent)}, not installed here: run "
            f"`bash launch/setup.sh {extra}`, or for an environment of your own "
            f"`pip install '.[{extra}]'`, in the folder of this repository"
        )


def without_advice_on_torch() -> None:
    """Keep transformers, when it is imported, from advising to install torch.

    Tokenizers, which the core uses of it, need none; a model that does is asked for by `need`.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
