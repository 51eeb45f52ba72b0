"""Prints what launch/setup.sh installs for the extras that are named: a requirement a line.

It reads pyproject.toml and needs nothing but Python itself. An extra may name others. On top is the
version of Python, as a comment, so that the same lines stand for the same environment.
"""

import platform
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    """The dependencies of the project, then those of each extra; each once."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    of_ours = f"{project['name']}["

    lines = list(project["dependencies"])
    waiting = list(extras)
    while waiting:
        extra = waiting.pop(0)
        if extra not in optional:
            sys.exit(f"there is no extra {extra}; pyproject.toml has {', '.join(optional)}")
        for line in optional[extra]:
            if line.startswith(of_ours):
                waiting += line.removeprefix(of_ours).removesuffix("]").split(",")
            else:
                lines.append(line)
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    print(f"# Python {platform.python_version()}", *requirements(sys.argv[1:]), sep="\n")
