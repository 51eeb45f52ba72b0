"""The house rules: which floor may import which, what loads lazily, what a file may look like."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dart_jax"

FLOORS = (
    (
        "__init__",
        "append_only",
        "backend",
        "changes",
        "cli",
        "command_line",
        "compiled",
        "csv_table",
        "extras",
        "machine",
        "own_code",
        "processes",
        "records",
        "run_dir",
        "set_aside",
        "settings",
        "strict_json",
        "strict_yaml",
        "suggestions",
        "summaries",
    ),
    ("data", "prompts"),
    ("model",),
    ("sft", "generate"),
    ("chat",),
    ("teach", "audit"),
    ("evaluate",),
    ("report",),
    ("config", "settings_source"),
    ("stages",),
    ("pipeline",),
    ("commands",),
    ("bench",),
    ("train",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Imported inside the functions that use them. Scipy comes with jax; the others may be absent, some
# because no extra of pyproject.toml was asked for.
ABSENT_ON_SOME_MACHINES = {
    "aiolimiter",
    "ctranslate2",
    "datasets",
    "detoxify",
    "krippendorff",
    "matplotlib",
    "openai",
    "openvino",
    "openvino_genai",
    "peft",
    "profanity_check",
    "sklearn",
    "torch",
    "trackio",
    "transformers",
    "vllm",
    "wandb",
}
HEAVY = ABSENT_ON_SOME_MACHINES | {"scipy"}
ACCELERATOR = {"flax", "jax", "jaxlib", "optax", "orbax"}

TOP_LEVEL = {
    "LICENSE",
    "README.md",
    "configs",
    "dart_jax",
    "launch",
    "pyproject.toml",
    "requirements.txt",
    "tests",
}
MADE_BY_TOOLS = {"__pycache__", "build", "dart_jax.egg-info", "runs"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


def module_name(path: Path) -> str:
    """Dotted name of a source file, `dart_jax.model.llama`; a package's ends in `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room_of(module: str) -> str:
    """The folder or file right under dart_jax that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def floor_of(module: str) -> int:
    """The floor of a module's room; what is no room is a name of the package, on the ground."""
    return FLOOR_OF.get(room_of(module), 0)


def imported_modules(tree: ast.AST, importer: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = importer.split(".")[: -node.level] if node.level else []
            base = [*package, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def upward_imports(source: str, importer: str) -> list[str]:
    """Breaches of the floors in one file, as readable lines."""
    breaches = []
    for line, module in imported_modules(ast.parse(source), importer):
        if module.split(".")[0] != "dart_jax":
            continue
        # What is no room is a name in dart_jax/__init__.py, such as __version__: the ground.
        if floor_of(module) > floor_of(importer):
            breaches.append(f"{importer}:{line} ({room_of(importer)}) imports {module}")
    return breaches


def runs_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that importing a module executes: not in functions, not for type checkers."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            child = ast.Module(child.orelse, [])
        yield child
        yield from runs_at_import(child)


def eager_imports(source: str, importer: str, libraries: set[str]) -> list[str]:
    """Imports of these libraries that happen when the module is imported."""
    return [
        f"{importer}:{line} imports {module}"
        for node in runs_at_import(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line, module in imported_modules(node, importer)
        if module.split(".")[0] in libraries
    ]


def broad_excepts(source: str, where: str) -> list[str]:
    """`except:` and `except BaseException` anywhere; `except Exception` without a comment."""
    breaches = []
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "BaseException"
        explained = "#" in lines[node.lineno - 1]
        if re.search(r"\bBaseException\b", caught) or (
            re.search(r"\bException\b", caught) and not explained
        ):
            breaches.append(f"{where}:{node.lineno} catches {caught}")
    return breaches


def import_without(modules: list[str], blocked: set[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh interpreter in which the blocked libraries do not exist."""
    program = f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is absent on this machine", name=name)

sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"{{module}}: {{error}}")
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def importable(paths: list[Path]) -> list[str]:
    """Module names of source files, without the commands that run when imported."""
    names = [module_name(path) for path in paths if path.name != "__main__.py"]
    return [name.removesuffix(".__init__") for name in names]


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module_name(path)) for path in SOURCES}
    assert rooms <= set(FLOOR_OF), "give each new room a floor in FLOORS"


def in_every_file(rule: Callable[[str, str], list[str]]) -> list[str]:
    """What breaks a rule, over all source files."""
    breaches = []
    for path in SOURCES:
        breaches += rule(path.read_text("utf-8"), module_name(path))
    return breaches


def test_imports_never_go_upward() -> None:
    assert in_every_file(upward_imports) == []


@pytest.mark.parametrize(
    "source",
    [
        "import dart_jax.sft.step",
        "from dart_jax.sft import step",
        "from dart_jax import sft",
        "from ..sft.step import train_step",
        "from .. import sft",
        "def late():\n    from dart_jax.train import main",
        "if TYPE_CHECKING:\n    from dart_jax.chat.protocol import ChatModel",
        "from dart_jax.__main__ import command",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    assert upward_imports(source, "dart_jax.model.llama")


@pytest.mark.parametrize(
    "source",
    [
        "import jax",
        "from dart_jax import __version__",
        "from dart_jax.records import Question",
        "from ..data.splits import split",
        "from .rope import rotate",
    ],
)
def test_an_import_downward_or_on_the_same_floor_is_allowed(source: str) -> None:
    assert not upward_imports(source, "dart_jax.model.llama")


def test_heavy_libraries_load_only_where_used() -> None:
    assert in_every_file(partial(eager_imports, libraries=HEAVY)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "from sklearn.pipeline import make_pipeline",
        "try:\n    import torch.nn\nexcept ImportError:\n    pass",
        "class A:\n    import matplotlib.pyplot as plt",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import torch",
    ],
)
def test_an_eager_import_is_found(source: str) -> None:
    assert eager_imports(source, "dart_jax.audit.scorers", HEAVY)


@pytest.mark.parametrize(
    "source",
    ["def f():\n    import torch", "if TYPE_CHECKING:\n    from torch import Tensor"],
)
def test_a_lazy_import_is_allowed(source: str) -> None:
    assert not eager_imports(source, "dart_jax.audit.scorers", HEAVY)


def test_everything_imports_where_heavy_libraries_are_absent() -> None:
    done = import_without(importable(SOURCES), ABSENT_ON_SOME_MACHINES)
    assert done.returncode == 0, done.stderr


def test_settings_import_without_jax() -> None:
    configs = [path for path in SOURCES if path.name == "config.py"]
    done = import_without(importable(configs), HEAVY | ACCELERATOR | {"numpy"})
    assert done.returncode == 0, done.stderr


def test_a_blocked_library_is_really_absent() -> None:
    done = import_without(["jaxtyping", "pydantic"], {"pydantic"})
    assert done.returncode != 0
    assert done.stderr.startswith("pydantic: pydantic is absent")


def test_no_broad_except() -> None:
    assert in_every_file(broad_excepts) == []


@pytest.mark.parametrize(
    ("handler", "breaches"),
    [
        ("except:", 1),
        ("except BaseException:  # even with a reason", 1),
        ("except Exception:", 1),
        ("except (ValueError, Exception) as error:", 1),
        ("except Exception as error:  # the library raises a bare one", 0),
        ("except ValueError:", 0),
    ],
)
def test_a_broad_except_is_found(handler: str, breaches: int) -> None:
    source = f"try:\n    pass\n{handler}\n    pass"
    assert len(broad_excepts(source, "here")) == breaches


def test_files_are_short_and_named_for_what_they_do() -> None:
    paths = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    assert [path for path in paths if path.name == "utils.py"] == []
    assert [path for path in paths if len(path.read_text("utf-8").splitlines()) > 400] == []


def test_top_level_holds_what_the_design_names() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names <= TOP_LEVEL | MADE_BY_TOOLS


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "bash launch/local.sh" in text
    assert "bash launch/test.sh" in text
