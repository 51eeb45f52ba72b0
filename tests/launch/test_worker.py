"""What a host makes of its environment before it trains."""

import signal

import pytest

WORKER = "launch/worker.sh"
AWKWARD = ["it's", 'a "b"  c', "$HOME", "`date`", "$(date)", "a\nb", "", "*", "\\"]


def test_arguments_reach_training_as_they_are(tree):
    done = tree.run(WORKER, "--config", "configs/x.yaml", *AWKWARD)
    assert done.returncode == 0, done.stderr
    [(words, _)] = tree.trainings()
    assert words == ["-m", "dart_jax.train", "--config", "configs/x.yaml", *AWKWARD]


def test_same_default_configuration_as_local(tree):
    tree.run(WORKER, "--run.seed", "1")
    tree.run("launch/local.sh", "--run.seed", "1")
    (worker, _), (local, _) = tree.trainings()
    assert worker == local
    assert worker[2:] == ["--config", str(tree.root / "configs/quickstart.yaml"), "--run.seed", "1"]


def test_train_args_are_split_like_a_command_line_and_expand_nothing(tree):
    line = """--run.name 'a b' --x "it's" --y $HOME --z $(touch made) '' ; * """
    assert tree.run(WORKER, "--config", "c", TRAIN_ARGS=line).returncode == 0
    [(words, _)] = tree.trainings()
    named = ["--run.name", "a b", "--x", "it's", "--y", "$HOME"]
    assert words[4:] == [*named, "--z", "$(touch", "made)", "", ";", "*"]
    assert not (tree.root / "made").exists()


def test_train_args_with_an_open_quote_are_refused(tree):
    done = tree.run(WORKER, TRAIN_ARGS="--run.name 'a b")
    assert done.returncode == 2
    assert "TRAIN_ARGS cannot be split" in done.stderr
    assert not tree.trainings()


def test_run_root_is_the_folder_of_all_runs(tree):
    tree.run(WORKER, "--config", "c", RUN_ROOT="/shared/my runs")
    [(words, _)] = tree.trainings()
    assert words[-2:] == ["--run.root", "/shared/my runs"]


@pytest.mark.parametrize("argument", ["--run.root=other", "--run.root"])
def test_two_folders_of_runs_are_refused(tree, argument):
    done = tree.run(WORKER, argument, "other", RUN_ROOT="/shared/runs")
    assert done.returncode == 2
    assert "RUN_ROOT is set" in done.stderr
    assert not tree.trainings()


JOB = {"JAX_COORDINATOR_ADDRESS": "n0:8482", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
STEP = {"SLURM_STEP_NODELIST": "n[0-1]", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("variables", "distributed", "devices"),
    [
        ({}, None, None),
        ({"ACCELERATOR": "cuda"}, None, None),
        ({"ACCELERATOR": "tpu"}, "1", None),
        ({"ACCELERATOR": "tpu", "DART_JAX_DISTRIBUTED": "0"}, "0", None),
        (JOB, "1", None),
        ({"JAX_NUM_PROCESSES": "1"}, None, None),
        (STEP, "1", None),
        (STEP | {"SLURM_GPUS_ON_NODE": "4"}, "1", "0,1,2,3"),
        (STEP | {"SLURM_NTASKS": "1", "SLURM_GPUS_ON_NODE": "4"}, None, None),
        ({"SLURM_NTASKS": "2"}, None, None),  # in a job, but not one of its tasks
    ],
)
def test_hosts_are_joined_where_there_are_several(tree, variables, distributed, devices):
    assert tree.run(WORKER, **variables).returncode == 0
    [(_, environment)] = tree.trainings()
    assert environment.get("DART_JAX_DISTRIBUTED") == distributed
    assert environment.get("JAX_LOCAL_DEVICE_IDS") == devices


@pytest.mark.parametrize("missing", ["JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"])
def test_a_missing_part_of_the_job_is_named(tree, missing):
    done = tree.run(WORKER, **{name: value for name, value in JOB.items() if name != missing})
    assert done.returncode == 2
    assert f"{missing} is not set" in done.stderr


def test_sigterm_reaches_training(tree, eventually):
    worker = tree.start(WORKER, HOLD="1")
    eventually(lambda: bool(tree.trainings()))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 143


@pytest.mark.parametrize(
    ("needed", "setups"), [("", [""]), ("classifiers hub", ["", "classifiers hub"])]
)
def test_what_the_settings_name_is_installed_before_training(tree, needed, setups):
    assert tree.run(WORKER, NEEDED_EXTRAS=needed).returncode == 0
    assert (tree.record / "setups").read_text().splitlines() == setups
    assert len(tree.trainings()) == 1


def test_a_mistake_in_the_settings_ends_it_before_training(tree):
    assert tree.run(WORKER, NEEDED_STATUS="2").returncode == 2
    assert not tree.trainings()
