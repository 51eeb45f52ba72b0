"""Peers in environments of their own: the protocol, how they are made, what they decode."""

import dataclasses
import sys
import zipfile
from pathlib import Path

import pytest

from dart_jax.bench import ours
from dart_jax.bench.foreign import environments, session
from dart_jax.bench.foreign.environments import NoEnvironment, Recipe
from dart_jax.bench.foreign.protocol import Order, encode
from dart_jax.bench.foreign.session import Program
from dart_jax.bench.jobs import ADAPTED, BASE, DecodeJob, Variant
from dart_jax.bench.prepare import random_adapter
from dart_jax.model.load import open_checkpoint
from tests.tiny_model import write_model

ECHO = """
from dart_jax.bench.foreign.protocol import serve

def load(order):
    print("a library says hello")
    block = b"x" * 50_000_000
    return {"version": "1"}, lambda: {"M0": order.prompts, "adapter": [[len(block)]]}

serve(load)"""


def order():
    counts = {"new_tokens": 3, "rows": 2, "threads": 1, "cache_bytes": 9}
    return Order(
        models={"M0": "m", "adapter": "m"},
        prompts=[[1, 2], [3]],
        stop_ids=[0],
        natural_stops=True,
        dtype="float32",
        shape={"num_layers": 2},
        **counts,
    )


def test_a_program_answers_in_lines_whatever_its_libraries_print(capfd):
    program = Program([sys.executable, "-c", ECHO])
    assert program.ask(encode(order())) == {"version": "1"}
    for _ in range(2):
        reply = program.ask("\n")
        assert reply["tokens"] == {"M0": [[1, 2], [3]], "adapter": [[50_000_000]]}
        assert reply["seconds"] >= 0 and reply["peak_rss_bytes"] > 50_000_000
    assert "a library says hello" in capfd.readouterr().err


def test_a_program_that_ends_is_an_error():
    program = Program([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="program ended with 3"):
        program.ask(encode(order()))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """No environment of any peer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_environment_that_is_missing_says_how_to_make_it(cache):
    assert environments.installed() == []
    with pytest.raises(NoEnvironment, match="bench generate --make-peer ctranslate2"):
        environments.python_of("ctranslate2")


@pytest.mark.slow
def test_an_environment_has_the_peer_without_what_is_left_out(cache, tmp_path, monkeypatch):
    """Made by pip from wheels in a folder; what is left out is nowhere."""
    write_wheel(tmp_path, "engine", "Requires-Dist: needed>=1\n")
    write_wheel(tmp_path, "converter", "Requires-Dist: left-out\n")
    write_wheel(tmp_path, "needed", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    recipe = Recipe("engine==1.0", ("converter",), without=("left-out",))
    monkeypatch.setitem(environments.RECIPES, "vllm", recipe)
    environments.make("vllm")
    assert environments.installed() == ["vllm"]
    found = environments._run([str(environments.python_of("vllm")), "-m", "pip", "list"], "vllm")
    assert {"engine", "converter", "needed"} <= set(found.split()) and "left-out" not in found

    monkeypatch.setitem(environments.RECIPES, "vllm", Recipe("engine==1.0", ("converter",)))
    with pytest.raises(NoEnvironment, match=r"--make-peer vllm: .* ended with"):
        environments.make("vllm")
    assert environments.installed() == [], "half an environment is none"


def write_wheel(folder, name, requirements):
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requirements}"
    files = {
        "METADATA": metadata,
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        for file, text in files.items():
            wheel.writestr(f"{name}-1.0.dist-info/{file}", text)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    pytest.importorskip("torch")
    model, folder = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("adapter")
    write_model(model, head_dim=32)  # the least that vLLM has attention for
    random_adapter(model, folder, 0)
    prompts = {"q0": (9, 8, 7, 11), "q1": (5, 12), "q2": (9, 13, 8, 7, 6, 11)}
    return DecodeJob(str(model), str(folder), prompts, 8, natural_stops=True)


def test_an_order_has_the_base_and_the_merged_model(job, tmp_path):
    found = session.make_order(job, Variant("ctranslate2", "float32", 2), tmp_path)
    embedded = []
    for name in (BASE, ADAPTED):
        _, source = open_checkpoint(Path(found.models[name]))
        embedded.append(source.open("model.layers.0.self_attn.q_proj.weight")[:, :])
    assert (embedded[0] != embedded[1]).any()
    assert found.prompts == [[9, 8, 7, 11], [5, 12], [9, 13, 8, 7, 6, 11]]


@pytest.mark.slow
@pytest.mark.parametrize("peer", list(environments.RECIPES))
@pytest.mark.parametrize("natural", [True, False])
def test_a_peer_decodes_the_same_tokens(peer, natural, job):
    """A peer whose environment is there decodes our tokens, greedily and in float32."""
    if peer not in environments.installed():
        pytest.skip(f"no environment: bench generate --make-peer {peer}")
    job = dataclasses.replace(job, natural_stops=natural)
    found = session.Decoding(job, Variant(peer, "float32", 2)).round(0).result
    # vLLM goes on behind a stop token, which the others and ours suppress.
    if natural or peer != "vllm":
        assert found == ours.Decoding(job, Variant("ours", "float32", 4)).round(0).result
    if not natural:
        assert found.new_tokens == 2 * 3 * 8
        assert found.stops == {BASE: ["length"] * 3, ADAPTED: ["length"] * 3}
