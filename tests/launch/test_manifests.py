"""The YAML files: what they ask for, and their scripts, run in bash."""

import re
import string
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
JOBSET = (LAUNCH / "gke_jobset.yaml").read_text("utf-8")
VARIABLES = {
    "NAME": "dart-try1",
    "REPO": "repo.git",
    "REF": "main",
    "TPU": "tpu-v5-lite-podslice",
    "TOPOLOGY": "2x4",
    "HOSTS": "2",
    "CHIPS": "4",
    "CLAIM": "dart-runs",
    "TRAIN_ARGS": """--run.name 'a: b' --x "q" --y [1,2] # '""",
}


def sky():
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text("utf-8"))


def job():
    """The JobSet's job template; `string.Template` replaces what envsubst replaces."""
    jobset = yaml.safe_load(string.Template(JOBSET).safe_substitute(VARIABLES))
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]


def container():
    [train] = job()["template"]["spec"]["containers"]
    return train


def run_sky(tree, **variables):
    settings = sky()["envs"] | {"SKYPILOT_NUM_NODES": "1"} | variables
    return tree.run("-c", sky()["run"], **settings)


def test_sky_trains_with_configuration_and_arguments(tree):
    done = run_sky(tree, CONFIG="configs/x y.yaml", TRAIN_ARGS="--run.name 'a b'")
    assert done.returncode == 0, done.stderr
    [(words, environment)] = tree.trainings()
    assert words[2:] == ["--config", "configs/x y.yaml", "--run.name", "a b"]
    assert "DART_JAX_DISTRIBUTED" not in environment


def test_sky_default_configuration_exists():
    assert (LAUNCH.parent / sky()["envs"]["CONFIG"]).exists()


SEVERAL = {
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5",
    "SKYPILOT_NODE_RANK": "1",
}


def test_sky_joins_several_nodes(tree):
    assert run_sky(tree, RUN_ROOT="/shared", **SEVERAL).returncode == 0
    [(words, environment)] = tree.trainings()
    assert words[-2:] == ["--run.root", "/shared"]
    assert environment["DART_JAX_DISTRIBUTED"] == "1"
    assert environment["JAX_COORDINATOR_ADDRESS"] == "10.0.0.4:8482"
    assert (environment["JAX_NUM_PROCESSES"], environment["JAX_PROCESS_ID"]) == ("2", "1")


def test_sky_leaves_the_hosts_of_a_tpu_to_jax(tree):
    assert run_sky(tree, RUN_ROOT="/shared", ACCELERATOR="tpu", **SEVERAL).returncode == 0
    [(_, environment)] = tree.trainings()
    assert environment["DART_JAX_DISTRIBUTED"] == "1"
    assert "JAX_NUM_PROCESSES" not in environment


def test_sky_several_nodes_need_a_shared_folder(tree):
    done = run_sky(tree, **SEVERAL)
    assert done.returncode == 2
    assert "RUN_ROOT is not set" in done.stderr


def test_sky_setup_makes_the_environment(tree):
    done = tree.run("-c", "set -e\n" + sky()["setup"], ACCELERATOR="tpu")
    assert done.returncode == 0, done.stderr
    assert (tree.root / "made_for").read_text() == "tpu"


def test_jobset_names_every_variable_in_its_head():
    head, body = JOBSET.split("apiVersion:")
    assert set(re.findall(r"\$\{?(\w+)", body)) == set(re.findall(r"(\w+)=", head)) & set(VARIABLES)
    assert set(re.findall(r"\$\{?(\w+)", body)) == set(VARIABLES)


def test_jobset_is_one_pod_a_host_that_starts_again_as_a_whole():
    spec = job()
    assert spec["parallelism"] == spec["completions"] == 2
    assert (spec["completionMode"], spec["backoffLimit"]) == ("Indexed", 0)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert container()["resources"]["limits"] == {"google.com/tpu": 4}


def test_jobset_keys_come_from_a_secret():
    train = container()
    assert train["envFrom"] == [{"secretRef": {"name": "dart-jax", "optional": True}}]
    assert {entry["name"] for entry in train["env"]} == {"ACCELERATOR", "RUN_ROOT", "TRAIN_ARGS"}
    assert all(isinstance(entry["value"], str) for entry in train["env"])


def test_jobset_trains_from_a_fresh_clone(tree, tmp_path):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"]):
        subprocess.run([*git, *words], cwd=tree.root, check=True)
    tree.root.rename(tmp_path / "repo.git")
    tree.root.mkdir()  # where the pod starts
    (tree.root / "repo.git").symlink_to(tmp_path / "repo.git")
    train = container()
    variables = {entry["name"]: entry["value"] for entry in train["env"]}
    variables["TRAIN_ARGS"] = variables["TRAIN_ARGS"].removesuffix(" # '")
    done = tree.run(*train["command"][1:], *train["args"], **variables)
    assert done.returncode == 0, done.stderr
    [(words, environment)] = tree.trainings()
    assert words[4:] == ["--run.name", "a: b", "--x", "q", "--y", "[1,2]", "--run.root", "/runs"]
    assert environment["DART_JAX_DISTRIBUTED"] == "1"
    assert (tree.root / "dart_jax/made_for").read_text() == "tpu"


@pytest.mark.parametrize("name", ["skypilot.yaml", "gke_jobset.yaml"])
def test_manifests_hold_no_key(name):
    assert not re.search(r"sk-\w|hf_\w", (LAUNCH / name).read_text("utf-8"))
