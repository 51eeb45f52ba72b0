"""launch/tpu_vm.sh against a gcloud whose workers are folders, where it runs their commands."""

import json
import shutil
import sys

import pytest

TPU_VM = "launch/tpu_vm.sh"
SETTINGS = {"PROJECT": "p", "ZONE": "z", "TPU_NAME": "tiny", "TPU_TYPE": "v5litepod-16"}
AWKWARD = ["--run.name", "it's a  b", "--x", "$HOME `date`", "a\nb", "", "[1,2]"]

GCLOUD = """
import json, os, pathlib, shutil, subprocess, sys

cloud = pathlib.Path(os.environ["RECORD"]) / "cloud"
state = cloud / "state"
words = sys.argv[1:]
with open(os.environ["RECORD"] + "/gcloud.jsonl", "a") as file:
    print(json.dumps(words), file=file)
options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
plain = [word for word in words if not word.startswith("--")]

def homes():
    every = sorted(cloud.glob("w*"))
    return every if options["worker"] == "all" else [every[int(options["worker"])]]

def local(path):
    return homes()[0] / path.removeprefix("tiny:") if path.startswith("tiny:") else path

if plain[0] == "secrets":
    print("value-of-" + options["secret"])
elif plain[3] in ("create", "delete"):
    shutil.rmtree(cloud, ignore_errors=True)
    if plain[3] == "create":
        for worker in range(int(os.environ.get("WORKERS", 2))):
            (cloud / f"w{worker}").mkdir(parents=True)
        state.write_text("READY")
elif plain[3] == "describe":
    sys.exit(1) if not state.exists() else print(state.read_text(), len(homes()), sep="\\t")
elif plain[3] == "scp":
    for home in homes():
        source, target = (str(home / p[5:]) if p.startswith("tiny:") else p for p in plain[4:6])
        subprocess.run(["cp", "-r", source, target], check=True)
elif plain[3] == "ssh":
    failed = 0
    for home in homes():
        environment = os.environ | {"HOME": str(home)}
        command = ["bash", "-c", options["command"]]
        failed |= subprocess.run(command, cwd=home, env=environment).returncode
    sys.exit(failed)
""".replace("len(homes())", 'len(list(cloud.glob("w*")))')


@pytest.fixture
def cloud(tree):
    """A tree with this gcloud in front; the TPU VM is not made yet."""
    tree.python_command("gcloud", GCLOUD)
    return tree


@pytest.fixture
def installed(cloud):
    """Two workers as `create` and `install` leave them."""
    for worker in range(2):
        shutil.copytree(cloud.root, cloud.record / f"cloud/w{worker}/dart_jax")
    (cloud.record / "cloud/state").write_text("READY")
    return cloud


def gcloud_calls(tree):
    path = tree.record / "gcloud.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def workers(tree):
    return sorted((tree.record / "cloud").glob("w*"))


SHARED = {"RUN_ROOT": "/shared/runs"}


def test_create(cloud):
    assert cloud.run(TPU_VM, "create", SPOT="1", **SETTINGS, **SHARED).returncode == 0
    assert gcloud_calls(cloud) == [
        [
            *("compute", "tpus", "tpu-vm", "create", "tiny", "--version=v2-alpha-tpuv5-lite"),
            *("--accelerator-type=v5litepod-16", "--scopes=cloud-platform", "--spot"),
            *("--project=p", "--zone=z"),
        ]
    ]


def test_create_through_a_queue(cloud):
    assert cloud.run(TPU_VM, "create", QUEUED="1", **SETTINGS).returncode == 0
    create, describe = gcloud_calls(cloud)
    assert create[2:6] == ["queued-resources", "create", "tiny", "--node-id=tiny"]
    assert describe[2:5] == ["tpu-vm", "describe", "tiny"]


def test_install_puts_this_tree_on_every_worker(cloud):
    cloud.command("python3.12", f'exec {sys.executable} "$@"')
    for subcommand in ("create", "install"):
        done = cloud.run(TPU_VM, subcommand, **SETTINGS)
        assert done.returncode == 0, done.stderr
    assert len(workers(cloud)) == 2
    for home in workers(cloud):
        assert (home / "dart_jax/made_for").read_text() == "tpu"
        assert (home / "dart_jax/launch/worker.sh").exists()
        assert (home / "dart_jax/pyproject.toml").exists()


def test_arguments_reach_training_on_every_worker_as_they_are(installed, eventually):
    done = installed.run(TPU_VM, "run", *AWKWARD, **SETTINGS, **SHARED)
    assert done.returncode == 0, done.stderr
    eventually(lambda: len(installed.trainings()) == 2)
    for words, environment in installed.trainings():
        assert words[4:] == [*AWKWARD, "--run.root", "/shared/runs"]
        assert environment["DART_JAX_DISTRIBUTED"] == "1"


def test_one_run_at_a_time_then_stop_then_again(installed, eventually):
    run = (TPU_VM, "run", "--config", "c")
    assert installed.run(*run, HOLD="1", **SETTINGS, **SHARED).returncode == 0
    eventually(lambda: len(installed.trainings()) == 2)
    again = installed.run(*run, **SETTINGS, **SHARED)
    assert again.returncode == 2
    assert "a run is going on" in again.stderr
    assert installed.run(TPU_VM, "stop", **SETTINGS).returncode == 0
    assert installed.run(*run, **SETTINGS, **SHARED).returncode == 0
    eventually(lambda: len(installed.trainings()) == 4)


def test_follow_ends_with_the_run(installed):
    for home in workers(installed):
        (home / "dart_jax/launch/worker.sh").write_text("echo step 1; sleep 0.5; echo step 2\n")
    assert installed.run(TPU_VM, "run", **SETTINGS, **SHARED).returncode == 0
    assert installed.run(TPU_VM, "follow", **SETTINGS).stdout == "step 1\nstep 2\n"


def test_follow_before_any_run_says_so(installed):
    done = installed.run(TPU_VM, "follow", **SETTINGS)
    assert done.returncode != 0
    assert "no run was started" in done.stderr


def test_a_preempted_machine_is_made_anew(installed, eventually):
    installed.command("python3.12", f'exec {sys.executable} "$@"')
    (installed.record / "cloud/state").write_text("PREEMPTED")
    done = installed.run(TPU_VM, "run", **SETTINGS, **SHARED)
    assert done.returncode == 0, done.stderr
    eventually(lambda: len(installed.trainings()) == 2)
    verbs = [words[3] for words in gcloud_calls(installed)]
    assert verbs[-7:] == ["describe", "delete", "create", "scp", "ssh", "ssh", "ssh"]


def test_a_machine_that_is_not_ready_is_left_alone(installed):
    (installed.record / "cloud/state").write_text("REPAIRING")
    done = installed.run(TPU_VM, "run", **SETTINGS, **SHARED)
    assert done.returncode == 2
    assert "tiny is REPAIRING" in done.stderr
    assert gcloud_calls(installed)[-1][3] == "describe"


def test_run_without_a_machine_says_to_create_one(cloud):
    done = cloud.run(TPU_VM, "run", **SETTINGS)
    assert done.returncode == 2
    assert "tpu_vm.sh create" in done.stderr


def test_several_workers_need_a_shared_folder(installed):
    done = installed.run(TPU_VM, "run", **SETTINGS)
    assert done.returncode == 2
    assert "2 workers" in done.stderr
    assert "SHARED" in done.stderr


def test_the_share_is_mounted_before_training(installed, eventually):
    installed.command("mountpoint", "exit 1")
    installed.command("mount.nfs", "")
    installed.command("sudo", r"""printf '%s\0' "$@" >>"$RECORD/calls"; echo >>"$RECORD/calls" """)
    share = {"SHARED": "10.0.0.2:/share", "RUN_ROOT": str(installed.record)}
    assert installed.run(TPU_VM, "run", **SETTINGS, **share).returncode == 0
    mounts = [call for call in installed.calls() if call[0] == "mount"]
    assert mounts == [["mount", "-t", "nfs", "10.0.0.2:/share", str(installed.record)]] * 2
    eventually(lambda: len(installed.trainings()) == 2)


def test_secrets_are_read_on_the_workers(installed, eventually):
    secrets = {"SECRETS": "OPENAI_API_KEY=key-of-openai HF_TOKEN=token"}
    assert installed.run(TPU_VM, "run", **SETTINGS, **SHARED, **secrets).returncode == 0
    eventually(lambda: len(installed.trainings()) == 2)
    for _, environment in installed.trainings():
        assert environment["OPENAI_API_KEY"] == "value-of-key-of-openai"
        assert environment["HF_TOKEN"] == "value-of-token"
    assert "value-of" not in json.dumps(gcloud_calls(installed))


@pytest.mark.parametrize("secrets", ["OPENAI_API_KEY", "KEY=a;b", "OPENAI_API_KEY=sk-abc"])
def test_a_secret_itself_is_refused_and_not_repeated(installed, secrets):
    done = installed.run(TPU_VM, "run", SECRETS=secrets, **SETTINGS, **SHARED)
    assert done.returncode == 2
    assert "Secret Manager" in done.stderr
    assert "sk-abc" not in done.stdout + done.stderr


def test_fetch(installed):
    for home in workers(installed)[:1]:
        (home / "dart_jax/runs/try1").mkdir(parents=True)
        (home / "dart_jax/runs/try1/log.jsonl").write_text("{}")
    assert installed.run(TPU_VM, "fetch", "try1", **SETTINGS).returncode == 0
    assert (installed.root / "runs/try1/log.jsonl").read_text() == "{}"
    assert installed.run(TPU_VM, "fetch", **SETTINGS).returncode == 2


def test_delete_asks(installed):
    assert installed.run(TPU_VM, "delete", **SETTINGS).returncode == 2
    assert workers(installed)
    assert installed.run(TPU_VM, "delete", "--yes", **SETTINGS).returncode == 0
    assert not workers(installed)


@pytest.mark.parametrize("missing", SETTINGS)
def test_a_missing_setting_is_named(cloud, missing):
    given = {name: value for name, value in SETTINGS.items() if name != missing}
    done = cloud.run(TPU_VM, "create", **given)
    assert done.returncode == 2
    assert f"{missing} is not set" in done.stderr


def test_an_unknown_subcommand_is_refused(cloud):
    assert "say what to do" in cloud.run(TPU_VM, "start", **SETTINGS).stderr


DRY = {
    "create": ["tpu-vm create tiny"],
    "install": ["tar ", "tpu-vm scp", "launch/setup.sh"],
    "run": ["tpu-vm describe", "tpu-vm delete", "tpu-vm create", "launch/worker.sh", "my-secret"],
    "follow": ["dart_jax.log"],
    "stop": ["kill -TERM"],
    "fetch": ["tpu-vm scp --recurse tiny:dart_jax/runs/--x runs/"],
    "delete": ["tpu-vm delete tiny"],
}


@pytest.mark.parametrize("subcommand", DRY)
def test_dry_run_prints_and_calls_nothing(cloud, subcommand):
    variables = SETTINGS | {"SECRETS": "OPENAI_API_KEY=my-secret", "OPENAI_API_KEY": "sk-abc"}
    done = cloud.run(TPU_VM, subcommand, "--dry-run", "--x", **variables)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in DRY[subcommand])
    assert "sk-abc" not in done.stdout + done.stderr
    assert not gcloud_calls(cloud)
    assert not (cloud.root / "runs").exists()


def test_what_dry_run_prints_can_be_pasted(installed, eventually):
    printed = installed.run(TPU_VM, "--dry-run", "run", *AWKWARD, **SETTINGS, **SHARED).stdout
    start = printed[printed.rindex("gcloud compute") :]
    assert installed.run("-c", start).returncode == 0
    eventually(lambda: len(installed.trainings()) == 2)
    assert installed.trainings()[0][0][4:-2] == AWKWARD
