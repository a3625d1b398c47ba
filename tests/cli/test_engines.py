"""One command under Lightning's processes, torchrun, SLURM and submitit: one folder and the same picks."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
from test_train_command import SMALL, assert_one_line, call

import forked
from ripu_lightning.cli.app import explain
from ripu_lightning.data import Streets
from ripu_lightning.labels import LabelStore

# Weights that do not move and frozen BatchNorm leave the world size as the only difference.
STILL = ["optimizer.lr=1e-30", "batchnorm=frozen"]
QUICK = [*SMALL, *STILL, "budget.rounds=1", "pictures=0", "trainer.enable_progress_bar=false"]
TWO = [*QUICK, "data.batch_size=1"]
TRAIN = [sys.executable, "-m", "ripu_lightning.cli.train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
NODES = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
LIMIT = 240
Started = subprocess.Popen[str]


def start(command: list[str], cwd: Path, anew: bool = False, **environment: str) -> Started:
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **environment}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return (subprocess.Popen if anew else forked.Popen)(command, cwd=cwd, env=settings, **streams)


def ends_well(*processes: Started) -> str:
    printed = [process.communicate(timeout=LIMIT)[0] for process in processes]
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text[-3000:]
    return "".join(printed)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def only_run(folder: Path) -> Path:
    """The one folder of all processes, with all that a run leaves."""
    runs = list((folder / "runs" / "debug").iterdir())
    assert len(runs) == 1
    names = {path.name for path in runs[0].iterdir()}
    files = {"complete", "config.yaml", "curve.png", "data.json", "ledger.json", "result.json", "rounds.csv"}
    assert names == {"checkpoints", "labels", "metrics", *files}
    return runs[0]


def picks(run: Path) -> dict[str, list[list[int]]]:
    store = LabelStore.open(run / "labels")
    answers = {image_id: store.answers(image_id, 1) for image_id in Streets("target", "train", 5).ids}
    return {image_id: answer.centres.tolist() for image_id, answer in answers.items() if answer is not None}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[int]]]:
    """What one process picks."""
    folder = tmp_path_factory.mktemp("alone")
    ends_well(start([*TRAIN, *QUICK], folder))
    found = picks(only_run(folder))
    assert len(found) == 5
    return found


def test_torchrun_on_one_node_has_one_folder_and_picks_what_one_process_picks(
    tmp_path: Path, expected: dict[str, list[list[int]]]
) -> None:
    torchrun = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m"]
    printed = ends_well(start([*torchrun, *TRAIN[2:], *TWO, "trainer.devices=2"], tmp_path, TEST_SPARES="2"))
    run = only_run(tmp_path)
    assert picks(run) == expected
    assert "MEMBER: 2/2" in printed
    assert printed.count("run folder") == 1


def test_torchrun_on_two_nodes_has_one_folder_and_picks_what_one_process_picks(
    tmp_path: Path, expected: dict[str, list[list[int]]]
) -> None:
    nodes, port = [*TWO, "trainer.num_nodes=2"], str(free_port())
    launch = [*TORCHRUN, *NODES, "--master-port", port, "--node-rank"]
    printed = ends_well(*(start([*launch, rank, *TRAIN[1:], *nodes], tmp_path, TEST_SPARES="1") for rank in "01"))
    assert picks(only_run(tmp_path)) == expected
    assert "MEMBER: 2/2" in printed


def srun(rank: int, job: int) -> dict[str, str]:
    """What two tasks on one node find in their environment."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NAME": "ripu",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_LOCALID": str(rank),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "localhost",
    }


def test_slurm_has_one_folder_which_bears_the_name_of_its_step(
    tmp_path: Path, expected: dict[str, list[list[int]]]
) -> None:
    port = str(free_port())  # instead of one made of the job's number, as other tests may use that
    tasks = [srun(rank, 4217) | {"MASTER_PORT": port} for rank in (0, 1)]
    printed = ends_well(*(start([*TRAIN, *TWO, "trainer.devices=2"], tmp_path, **task) for task in tasks))
    run = only_run(tmp_path)
    assert run.name == "slurm_4217.0"
    assert picks(run) == expected
    assert "MEMBER: 2/2" in printed

    checkpoint = f"checkpoint={run / 'checkpoints' / 'last.ckpt'}"
    evaluate = [sys.executable, "-m", "ripu_lightning.cli.evaluate", checkpoint]
    two = ["trainer.accelerator=cpu", "trainer.devices=2"]
    ends_well(*(start([*evaluate, *two], tmp_path, **task) for task in tasks))
    evaluation = tmp_path / "runs" / "evaluate" / "slurm_4217.0"
    assert len(list((evaluation / "predictions").iterdir())) == 3
    assert (evaluation / "result.json").is_file()


@pytest.mark.parametrize(
    ("environment", "overrides", "words"),
    [
        ({}, ["trainer.num_nodes=2"], ["output"]),
        (srun(0, 1), [], ["trainer.devices", "SLURM", "2"]),
        (srun(0, 1) | {"SLURM_NNODES": "2"}, ["trainer.devices=2"], ["trainer.num_nodes", "2 nodes"]),
        ({"SLURM_NTASKS": "2"}, ["trainer.devices=2"], ["srun"]),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}, ["output=run"], ["trainer.devices", "torchrun"]),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}, ["trainer.devices=2"], ["output", "torchrun"]),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}, ["-m", "seed=1,2"], ["-m", "torchrun"]),
        (srun(0, 1), ["--multirun", "seed=1,2"], ["-m", "SLURM"]),
        (srun(0, 1), ["sweep=budgets"], ["-m", "SLURM"]),
        (srun(0, 1), ["experiment=demo_source_free", "trainer.devices=2"], ["pretrain", "SLURM", "demo_source_only"]),
        ({}, ["-m", "hydra/launcher=submitit_slurm", "hydra.sweep.dir=sweep"], ["submitit_slurm", "submitit_local"]),
    ],
)
def test_launches_that_cannot_work(
    tmp_path: Path, environment: dict[str, str], overrides: list[str], words: list[str]
) -> None:
    assert_one_line(call("ripu-train", *overrides, *SMALL[3:5], cwd=tmp_path, **environment), *words)
    assert not list(tmp_path.rglob("labels"))


def test_sweep_of_jobs_of_two_processes_each_that_share_their_start(tmp_path: Path) -> None:
    line = ["trainer.devices=2", "strategy=ripu,random", "hydra.job.name=mine"]
    done = call("ripu-train", "-m", *TWO, *line, cwd=tmp_path, TEST_SPARES="2")
    assert done.returncode == 0, done.stderr[-3000:]
    (sweep,) = (tmp_path / "runs" / "debug").iterdir()
    for job, shares in (("strategy-ripu", False), ("strategy-random", True)):
        log = (sweep / job / "log.txt").read_text()
        assert "MEMBER: 2/2" in log
        assert ("starts from step 1, which another run has trained" in log) == shares
        assert (sweep / job / "result.json").is_file()
        assert len(LabelStore.open(sweep / job / "labels").rounds) == 1
    assert sorted(path.name for path in sweep.iterdir()) == ["multirun.yaml", "strategy-random", "strategy-ripu"]
    again = call("ripu-train", "-m", *line[::-1], *TWO, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.splitlines() == [f"sweep of 2 jobs, 2 complete before: {sweep.relative_to(tmp_path)}"]


def test_submitit_runs_a_sweep_over_the_number_of_processes(
    tmp_path: Path, expected: dict[str, list[list[int]]]
) -> None:
    sweep = ["hydra/launcher=submitit_local", "hydra.job.name=mine", "trainer.devices=1,2"]
    # Two of submitit's job controllers, whose one task starts one command each.
    done = call("ripu-train", "-m", *sweep, *TWO, cwd=tmp_path, TEST_SPARES="2,1,1")
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "runs" / "debug").iterdir()
    for devices in (1, 2):
        job = folder / f"trainer.devices-{devices}"
        assert picks(job) == expected
        assert ("MEMBER: 2/2" in (job / "log.txt").read_text()) == (devices == 2)
        assert f"{job.name}: complete" in done.stdout


def test_submitit_tells_of_a_job_that_failed(tmp_path: Path) -> None:
    done = call("ripu-train", "-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep", "seed=-1", cwd=tmp_path)
    assert_one_line(done, "1 of 1 jobs failed", "sweep")
    assert "job: failed" in done.stdout
    assert "seed must be a whole number >= 0, got -1" in done.stdout
    assert "error: seed" in (tmp_path / "sweep" / "job" / "log.txt").read_text()


def test_a_job_of_submitit_that_was_killed_gets_one_line(tmp_path: Path) -> None:
    job: submitit.LocalJob[None] = submitit.LocalJob(tmp_path, "7")
    job._results_timeout_s = 0  # a killed job leaves none
    with pytest.raises(submitit.core.utils.UncompletedJobError) as error:
        job.results()
    line = explain(error.value)
    assert line is not None
    assert f"{tmp_path}/7_0_log.err;" in line
    assert "\n" not in line
    assert explain(ValueError("another")) is None


def test_configs_of_the_user_hold_for_the_jobs_of_a_sweep_too(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: -7\n")
    for where in (["--config-dir=own"], [f"hydra.searchpath=[file://{tmp_path}/own]"]):
        done = call(
            "ripu-train", "-m", *where, "experiment=mine", "hydra.sweep.dir=sweep", cwd=tmp_path, TEST_SPARES="1"
        )
        assert "job: failed" in done.stdout
        assert "seed must be a whole number >= 0, got -7" in done.stdout
