"""launch/slurm.sh: what is submitted, and what the job does when Slurm tells it to end."""

import signal

import pytest

SLURM = "launch/slurm.sh"
NOTE = r"""printf '%s\0' "${0##*/}" "$@" >>"$RECORD/calls"; echo >>"$RECORD/calls" """
# Two tasks, as on two nodes; their numbers are for scancel. SIGTERM at srun would kill them.
SRUN = (
    NOTE
    + r"""
while [[ $1 == --* ]]; do shift; done
trap 'echo killed >"$RECORD/killed"; kill -KILL $(cat "$RECORD"/task-*)' TERM
for task in 0 1; do
    SLURM_PROCID=$task SLURM_NTASKS=2 SLURM_STEP_NODELIST=n[0-1] "$@" &
    echo $! >"$RECORD/task-$task"
    tasks+=($!)
done
worst=0
for task in "${tasks[@]}"; do
    wait "$task" || { status=$?; (( status > worst )) && worst=$status; }
done
exit $worst
"""
)
TELL_TASKS = 'kill -TERM $(cat "$RECORD"/task-*)'


@pytest.fixture
def cluster(tree):
    """A tree with stand-ins for Slurm's commands."""
    tree.command("sbatch", NOTE)
    tree.command("srun", SRUN)
    tree.command("scancel", NOTE + "\n" + TELL_TASKS)
    tree.command("scontrol", NOTE)
    tree.environment |= {"RUN_ROOT": str(tree.root / "runs")}
    return tree


def job(tree, **variables):
    """Start the job as Slurm does, from a copy of the script that is elsewhere."""
    script = tree.record / "slurm_script"
    script.write_text((tree.root / SLURM).read_text())
    words = ("--job", str(tree.root), "--run.name", "it's a")
    return tree.start(script, *words, SLURM_JOB_ID="7", ACCELERATOR="cpu", **variables)


def names(tree):
    return [call[0] for call in tree.calls()]


def test_submission(cluster):
    done = cluster.run(SLURM, "--config", "a b", NODES="2", GPUS="8", CPUS="4")
    assert done.returncode == 0, done.stderr
    [words] = cluster.calls()
    assert words[0] == "sbatch"
    script = str(cluster.root / SLURM)
    assert words[words.index(script) :] == [script, "--job", str(cluster.root), "--config", "a b"]
    options = {"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8", "--cpus-per-task=4"}
    assert options | {"--requeue", "--signal=B:USR1@300"} <= set(words)
    assert (cluster.root / "runs/logs").is_dir()


def test_no_gpus_for_cpu(cluster):
    cluster.run(SLURM, ACCELERATOR="cpu")
    assert not [word for word in cluster.calls()[0] if word.startswith("--gpus")]


def test_job_trains_in_one_task_a_node(cluster):
    process = job(cluster)
    assert process.wait(60) == 0
    assert len(cluster.trainings()) == 2
    for words, environment in cluster.trainings():
        assert words[4:] == ["--run.name", "it's a", "--run.root", str(cluster.root / "runs")]
        assert environment["DART_JAX_DISTRIBUTED"] == "1"
    assert names(cluster) == ["srun"]


def test_near_the_time_limit_the_job_saves_and_is_requeued(cluster, eventually):
    process = job(cluster, HOLD="1")
    eventually(lambda: len(cluster.trainings()) == 2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 143
    assert cluster.calls()[1:] == [["scancel", "--signal=TERM", "7"], ["scontrol", "requeue", "7"]]
    assert not (cluster.record / "killed").exists()


def test_a_cancelled_job_lets_its_tasks_save_and_is_not_requeued(cluster, eventually):
    process = job(cluster, HOLD="1")
    eventually(lambda: len(cluster.trainings()) == 2)
    process.send_signal(signal.SIGTERM)
    cluster.run("-c", TELL_TASKS)
    assert process.wait(60) == 143
    assert names(cluster) == ["srun"]
    assert not (cluster.record / "killed").exists()


def test_an_error_near_the_time_limit_is_not_requeued(cluster, eventually):
    (cluster.root / "launch/worker.sh").write_text(
        'trap "exit 1" TERM; touch "$RECORD/up-$SLURM_PROCID"; while :; do sleep 0.05; done'
    )
    process = job(cluster)
    eventually(lambda: len(list(cluster.record.glob("up-*"))) == 2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 1
    assert names(cluster) == ["srun", "scancel"]


def test_dry_run_prints_submission_and_job_and_calls_nothing(cluster):
    done = cluster.run(SLURM, "--config", "a b", "--dry-run", OPENAI_API_KEY="sk-abc")
    assert done.returncode == 0, done.stderr
    commands = [line.split()[0] for line in done.stdout.splitlines()]
    assert commands == ["mkdir", "sbatch", "bash", "srun", "scancel", "scontrol"]
    assert "'a b'" in done.stdout
    assert "sk-abc" not in done.stdout + done.stderr
    assert not cluster.calls()
    assert not (cluster.root / "runs").exists()
