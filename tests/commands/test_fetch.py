"""The fetch command: a local server in the place of the hub and of the suite's repository."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dart_jax.commands import fetch
from dart_jax.data import public_suite
from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.download import BadDownload, is_published
from dart_jax.settings import BadSetting
from tests.file_server import file_server

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data/difference_awareness/original"
NAME = "someone/tiny-llama"


@pytest.fixture
def server():
    with file_server() as running:
        yield running


@pytest.fixture
def suite(server, monkeypatch):
    """Eight small files in the place of the suite's, with their checksums."""
    import hashlib

    known = {}
    for name in BENCHMARKS:
        content = name.encode() * 1000
        server.files[f"/suite/{name}_1k.pkl"] = content
        known[name] = (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    monkeypatch.setattr(public_suite, "FOLDER_URL", f"{server.url}/suite")
    monkeypatch.setattr(public_suite, "_PUBLISHED", known)
    return server


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {suite: difference_awareness}\naudit: {scorer: profanity}\n", "utf-8")
    return path


def test_the_suite_goes_to_data_dir(suite, config, tmp_path, capsys):
    arguments = ["--config", str(config), "--data.dir", str(tmp_path / "suite")]
    assert fetch.main([*arguments, "--dry-run"]) == 0
    assert not (tmp_path / "suite").exists()
    listed = capsys.readouterr().out
    assert listed.count("_1k.pkl: 0.0 MB") == 8 and "nothing was downloaded" in listed

    assert fetch.main(arguments) == 0
    assert len(list((tmp_path / "suite").glob("??_1k.pkl"))) == 8
    assert f"--data.dir {tmp_path / 'suite'}" in capsys.readouterr().out.splitlines()[-1]

    # Once more: nothing is asked for.
    asked = len(suite.asked)
    assert fetch.main(arguments) == 0
    assert len(suite.asked) == asked and "suite: here" in capsys.readouterr().out


def test_a_file_of_another_content_is_named_and_kept(suite, config, tmp_path):
    (tmp_path / "D3_1k.pkl").write_bytes(b"mine")
    with pytest.raises(BadDownload, match=r"D3_1k.pkl is not the published file.*move it away"):
        fetch.main(["--config", str(config), "--data.dir", str(tmp_path)])
    assert (tmp_path / "D3_1k.pkl").read_bytes() == b"mine"
    assert suite.asked == []


def test_a_run_on_what_is_installed_needs_nothing(capsys):
    assert fetch.main(["--config", str(ROOT / "configs/quickstart.yaml")]) == 0
    assert "nothing to download" in capsys.readouterr().out


def test_the_suite_needs_a_place(config):
    with pytest.raises(BadSetting, match=r"--data.dir DIR, or --to DIR"):
        fetch.main(["--config", str(config)])


@pytest.mark.skipif(not SHARED.exists(), reason="the suite is not here")
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "N1"])
def test_the_checksums_are_those_of_the_public_files(name):
    path = SHARED / f"{name}_1k.pkl"
    assert is_published(path, public_suite.published(name))
    assert path.stat().st_size == public_suite.published(name).size


def test_a_model_goes_to_the_folder_and_is_found_there_offline(server, tmp_path):
    """The hub's own client asks a local server, in a process of its own: it reads its settings
    when it is imported."""
    from safetensors.numpy import save

    weights = save({"model.norm.weight": np.ones(3, np.float32)})
    server.add_model(NAME, {"config.json": b"{}", "model.safetensors": weights, "notes.md": b"-"})
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {{path: {NAME}}}\n", "utf-8")

    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
    for variable in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        environment.pop(variable, None)

    def run(*words, **more):
        return subprocess.run(
            [sys.executable, *words],
            env=environment | more,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )

    command = ("-m", "dart_jax", "fetch", "--config", config, "--to", tmp_path / "all")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert f"model {NAME}: 0.0 MB" in done.stdout
    # Only what a model is loaded from.
    snapshot = next((tmp_path / "all/hub/models--someone--tiny-llama/snapshots").iterdir())
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors"]

    variables = [line.split()[1] for line in done.stdout.splitlines() if "export " in line]
    pairs = [line.replace("$DIR", str(tmp_path / "all")).split("=") for line in variables]
    asked = len(server.asked)
    found = run(
        "-c",
        f"from dart_jax.model.hub import hub_folder; print(hub_folder({NAME!r}))",
        **dict(pairs),
    )
    assert found.stdout.strip() == str(snapshot), found.stderr
    assert len(server.asked) == asked
