"""Wherever `train_step` is compiled, it is compiled as the training loop compiles it."""

import ast
from pathlib import Path

import dart_jax
from dart_jax.sft import loop

PACKAGE = Path(dart_jax.__file__).parent


def compilations(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(function, keyword arguments) of each `jax.jit` of `train_step` in a file.

    The mesh whose compiler options are taken has another name in each.
    """
    found = []
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "jax.jit":
                continue
            if "train_step" in ast.unparse(call.args[0]):
                keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
                keywords["compiler_options"] = keywords["compiler_options"].partition("(")[0]
                found.append((function.name, {"": ast.unparse(call.args[0]), **keywords}))
    return found


def test_train_holds_the_one_jit_of_the_loop():
    ((function, keywords),) = compilations(Path(loop.__file__))
    assert function == "train"
    assert {"in_shardings", "out_shardings", "donate_argnames"} <= keywords.keys()


def test_what_compiles_single_steps_compiles_the_same_program():
    """The benchmark, the compile command and the tests of a step share `jit_step`."""
    by_file = {path.name: compilations(path) for path in PACKAGE.rglob("*.py")}
    compiling = {name: calls for name, calls in by_file.items() if calls}
    assert compiling.keys() == {"loop.py", "jitted_step.py"}
    ((_, loops),), ((_, shared),) = compiling.values()
    assert loops == shared
