"""What every test runs under; set before jax is imported, and inherited by subprocesses.

Eight simulated CPU devices, so that sharding is real; no download.
"""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import config

from tests.compiling import quickly_on

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quickly_on(8)}"
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parents[1]
# Runs of the same tiny model in many files: each program is compiled once for all of them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.mkdtemp(prefix="dart_jax_compiled_")
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if sys.dont_write_bytecode:
        # Then launch/setup.sh's packages have none, and each session would compile all that some
        # thirty processes import: torch and transformers alone take several seconds.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".pytest_cache/bytecode")
if prefix := os.environ.get("PYTHONPYCACHEPREFIX"):
    sys.dont_write_bytecode, sys.pycache_prefix = False, prefix

pytest_plugins = ["tests.finished_run"]
# The tests of these folders share a finished run, and what was traced and compiled for it,
WHOLE_RUNS = ("tests/pipeline/", "tests/stages/", "tests/commands/")
# but for these, which need none or make their own.
ALONE = (
    "tests/pipeline/test_killed.py",
    "tests/commands/sweep/",
    "tests/commands/test_compile.py",
    "tests/commands/test_export.py",
    "tests/commands/test_refusals.py",
)
# What takes longest comes first: begun last, it would leave the other process without work.
LONGEST = (
    *WHOLE_RUNS,
    "tests/sft/test_processes.py",
    "tests/generate/test_decode.py",
    "tests/model/test_quantize.py",
    "tests/bench",
    "tests/sft/test_killed.py",
    "tests/sft",
)


def shares_run(nodeid: str) -> bool:
    """Tell whether a test is one of those that share the finished run."""
    return nodeid.startswith(WHOLE_RUNS) and not nodeid.startswith(ALONE)


def pytest_collection_modifyitems(items):
    """The longest files first; `sort` keeps the order of the rest, and within a file."""

    def place(item):
        starts = [item.nodeid.startswith(start) for start in LONGEST]
        return starts.index(True) if True in starts else len(starts)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """--dist=loadfile, for which the files that share a run are one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "together" if shares_run(nodeid) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Check shapes in tests of functions and in the fixtures' runs, but not in later runs.

    In each variant of a run, the same checks would take a fifth of the time.
    """
    config.update("jaxtyping_disable", item.nodeid.startswith(WHOLE_RUNS))
    try:
        return (yield)
    finally:
        config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps():
    """Drop compiled programs where a process holds very many.

    Each takes some 30 memory maps under jax 0.12, and a process that reaches Linux's default limit
    of 65,530 ends in a segmentation fault, while a program is compiled or written to the cache.
    """
    yield
    maps, jax = Path("/proc/self/maps"), sys.modules.get("jax")
    if jax is not None and maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def run_job(tmp_path_factory):
    """A function: run a program in processes of one jax job; (exit code, output) of each.

    Each process has 4 simulated devices; they meet on a port of this machine.
    """

    def run(program, *args, count=2, timeout=900, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            **os.environ,
            "XLA_FLAGS": quickly_on(4),
            "PYTHONPATH": str(ROOT),
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(count),
            **environment,
        }
        folder = tmp_path_factory.mktemp("job")
        outputs = [folder / f"{index}.txt" for index in range(count)]
        started = [
            subprocess.Popen(
                [sys.executable, program, *map(str, args)],
                env={**common, "JAX_PROCESS_ID": str(index)},
                stdout=output.open("w"),
                stderr=subprocess.STDOUT,
            )
            for index, output in enumerate(outputs)
        ]
        try:
            codes = [process.wait(timeout) for process in started]
        finally:
            for process in started:
                process.kill()
        return [(code, path.read_text()) for code, path in zip(codes, outputs, strict=True)]

    return run


CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def chromium():
    """This machine's Chromium, headless; without one the test is skipped.

    It runs an event loop in this thread, beside which no other can run: for one file's tests only.
    """
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no {' or '.join(CHROMIUM)} on PATH (Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """A function: open a file in a fresh, offline profile; the page, with `problems` and `asked`.

    `problems` are uncaught errors and whatever was written to the console, `asked` the addresses
    that the page wanted.
    """
    contexts = []

    def open_file(path, address="", script=None, **options):
        context = chromium.new_context(offline=True, accept_downloads=True, **options)
        contexts.append(context)
        context.set_default_timeout(30_000)  # a busy machine is no failure
        page = context.new_page()
        page.problems, page.asked = [], []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("dialog", lambda dialog: (page.problems.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(path.resolve().as_uri() + address)
        return page

    yield open_file
    for context in contexts:
        context.close()
