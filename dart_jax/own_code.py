"""Functions of the user's own, which settings name as `module.function`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dart_jax.run_dir import hash_path


def import_function(name: str, key: str, built_in: str = "") -> Callable[..., Any]:
    """Import a function of the user's own, from the current directory or what is installed.

    Args:
        name: `module.function`.
        key: The setting that names it, for messages.
        built_in: Names that the setting has besides, for messages.

    Raises:
        ValueError: The name cannot be imported or called; with file and line of the user's code.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        known = f"none of {built_in}, or a" if built_in else "no"
        raise ValueError(f"{key}: {name!r} is {known} function of your own as module.function")

    # Python puts it there for `python -m`, but not for the installed command.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{key}: {name}: cannot import {module}{place(error)}: {error}; modules are looked "
            "for in the current directory and among what is installed"
        ) from error
    except Exception as error:  # a module of the user's own may raise anything
        what = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
        raise ValueError(f"{key}: {name}: cannot import {module}{place(error)}: {what}") from error

    if not callable(function):
        raise ValueError(f"{key}: {name}: module {module} has no function {attribute}")
    return function


def code_file(function: Callable[..., Any]) -> str:
    """Return the file that a function's module was read from; '' where there is none."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    return getattr(module, "__file__", None) or ""


def code_hash(function: Callable[..., Any]) -> str | None:
    """Hash the text of the file that a function is in; what that file imports is not looked at."""
    file = code_file(function)
    return hash_path(Path(file)) if file else None


def place(error: Exception, file: str = "") -> str:
    """` (file, line n)` of the user's code that an error comes from; '' where it never began.

    Args:
        file: Where that code is known to be; '' takes the innermost.
    """
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        is_theirs = frame.filename != __file__ and "importlib" not in frame.filename
        if frame.filename == file or (not file and is_theirs):
            return f" ({frame.filename}, line {frame.lineno})"
    return ""
