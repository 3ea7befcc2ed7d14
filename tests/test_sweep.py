"""`asgnet sweep` on a toy pipeline: DVC agrees with what it ran, and what goes wrong is said and mended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, loads_yaml
from nbclient.exceptions import DeadKernelError

from asgnet.cli import main
from asgnet.errors import UserError
from asgnet.sweep import pools
from asgnet.sweep.job import Command, Outcome, outcome
from asgnet.sweep.tree import spliced

PIPELINE = """
stages:
  prepare: {cmd: echo data > data.txt, outs: [data.txt]}
  cell:
    matrix: {arm: "${arms}", fold: "${folds}"}
    cmd: sh cell.sh ${item.arm} ${item.fold}
    deps: [cell.sh, data.txt, extra.txt]
    params: ["arms.${item.arm}"]
    outs:
      - out/${item.arm}/fold${item.fold}/seed0/value.txt
      - out/${item.arm}/fold${item.fold}/seed0/kept.txt: {persist: true}
      - receipts/${item.arm}-${item.fold}.txt: {cache: false}
  collect: {cmd: cat receipts/* > summary.txt, deps: [receipts], outs: [summary.txt: {cache: false}]}
"""
# A cell tells ran.txt that it runs, and does what a test put into the folder `do`.
CELL = """
set -e
folder=out/$1/fold$2/seed0
echo $1-$2 >> ran.txt
mkdir -p $folder receipts
[ ! -e do/$1-$2 ] || . do/$1-$2
[ ! -e $folder/value.txt ]
sed -n "s/^  $1: //p" params.yaml > $folder/value.txt
echo once >> $folder/kept.txt
cat $folder/value.txt data.txt > receipts/$1-$2.txt
"""
CELLS = ["a-0", "a-1", "b-0", "b-1"]
KILLED_ONCE = "rm do/$1-$2; echo dying; kill -9 $$"
PARAMS = "folds: [0, 1]\narms:\n  a: 1\n  b: 2\n"


def write_project(folder: Path, pipeline: str = PIPELINE) -> None:
    files = {"dvc.yaml": pipeline, "cell.sh": CELL, "extra.txt": "", "ran.txt": "", "params.yaml": PARAMS}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "do").mkdir()
    Repo.init(folder, no_scm=True).close()


def ran() -> list[str]:
    """The cells that ran since it was last asked."""
    names = Path("ran.txt").read_text().split()
    Path("ran.txt").write_text("")
    return sorted(names)


def repro() -> list:
    """`dvc repro`: the stages that it ran."""
    with Repo() as repo:
        return repo.reproduce()


def lock() -> dict:
    return yaml.safe_load(Path("dvc.lock").read_text())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A project that one sweep made."""
    folder = tmp_path_factory.mktemp("swept")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep"]) == 0
    return folder


@pytest.fixture
def project(swept, tmp_path, monkeypatch):
    """A copy of it, the working folder."""
    shutil.copytree(swept, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    ran()
    return tmp_path / "copy"


def test_dvc_would_have_written_the_same(swept, tmp_path, monkeypatch):
    assert sorted((swept / "ran.txt").read_text().split()) == CELLS
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    assert len(repro()) == 6
    mine, theirs = ({str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} for f in (swept, tmp_path))
    temporary = (".dvc/tmp", ".sweep")
    assert {p for p in mine if not p.startswith(temporary)} == {p for p in theirs if not p.startswith(temporary)}
    assert yaml.safe_load((swept / "dvc.lock").read_text()) == lock()


def test_nothing_is_left_to_do(project):
    assert repro() == []
    before = Path("dvc.lock").read_bytes()
    assert main(["sweep"]) == 0
    assert ran() == []
    assert Path("dvc.lock").read_bytes() == before
    assert not Path(".sweep/jobs").exists()


@pytest.mark.parametrize("comment", ["", "# kept\n"])
def test_the_lock_reads_as_dvc_writes_it(project, comment):
    lock = Path("dvc.lock")
    lock.write_text(comment + lock.read_text())  # a line that DVC did not write
    Path("params.yaml").write_text(PARAMS.replace("b: 2", "b: 3"))
    assert main(["sweep", "cell"]) == 0
    written = lock.read_text()
    assert ran() == ["b-0", "b-1"]
    assert written.startswith(comment)
    assert written == dumps_yaml(loads_yaml(written, typ="rt"))
    assert repro() != []  # the summary
    assert main(["sweep"]) == 0
    assert ran() == []


def test_a_lock_with_anchors_is_left_to_dvc():
    lock = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n"
    assert spliced(lock, lock) == lock
    assert spliced(lock, lock.replace("cmd: x", "folds: &id001")) is None


def test_a_parameter_reruns_its_cells_and_what_follows(project, monkeypatch):
    Path("params.yaml").write_text(PARAMS.replace("b: 2", "b: 3"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    Path("do/b-0").write_text("echo $DVC_STAGE ${CUDA_VISIBLE_DEVICES-all}")
    assert main(["sweep"]) == 0
    assert ran() == ["b-0", "b-1"]
    if len(pools.gpus()) < 2:  # submitit would have hidden them
        assert Path(".sweep/cell/b-0.log").read_text() == "> sh cell.sh b 0\ncell@b-0 all\n"
    assert Path("summary.txt").read_text().split() == ["1", "data", "1", "data", "3", "data", "3", "data"]
    assert Path("out/b/fold0/seed0/kept.txt").read_text() == "once\nonce\n"  # persists, value.txt does not
    assert Path("out/a/fold0/seed0/kept.txt").read_text() == "once\n"
    assert repro() == []


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(["cell@b-0"], ["b-0"]), (["c*@*-1", "prepare"], ["a-1", "b-1"]), (["cell"], CELLS), (["collect"], CELLS)],
)
def test_targets_and_what_they_depend_on_are_all_that_runs(project, targets, expected):
    Path("params.yaml").write_text(PARAMS.replace("a: 1", "a: 5").replace("b: 2", "b: 6"))
    assert main(["sweep", *targets]) == 0
    assert ran() == expected
    assert main(["sweep"]) == 0
    assert ran() == sorted(set(CELLS) - set(expected))
    assert repro() == []


def test_a_target_that_names_nothing_is_refused(project, capsys):
    assert main(["sweep", "trian"]) == 2
    assert capsys.readouterr().err == (
        "asgnet: no stage 'trian' in dvc.yaml: expected a stage, a cell or a pattern of cell, collect, prepare\n"
    )


def test_a_killed_cell_is_requeued(project, capsys):
    shutil.rmtree("out/a/fold1")
    Path("do/a-1").write_text(KILLED_ONCE)
    assert main(["sweep"]) == 0
    assert "cell@a-1: killed by SIGKILL; requeued (1 of 2)" in capsys.readouterr().out
    assert ran() == ["a-1", "a-1"]
    log = Path(".sweep/cell/a-1.log").read_text()
    assert log.count("> sh cell.sh a 1") == 2
    assert "dying" in log
    assert repro() == []


def test_retries_are_limited(project, capsys):
    shutil.rmtree("out/a/fold1")
    Path("do/a-1").write_text(KILLED_ONCE)
    assert main(["sweep", "--retries", "0"]) == 1
    assert "cell@a-1 failed: killed by SIGKILL; see .sweep/cell/a-1.log" in capsys.readouterr().err


def test_a_cell_that_fails_is_not_tried_again_and_does_not_stop_the_others(project, capsys):
    Path("params.yaml").write_text(PARAMS.replace("a: 1", "a: 9"))
    Path("do/a-0").write_text("echo the reason; exit 2")
    assert main(["sweep"]) == 1
    assert ran() == ["a-0", "a-1"]
    out, err = capsys.readouterr()
    assert err.splitlines() == ["asgnet: cell@a-0 failed: exit status 2; see .sweep/cell/a-0.log"]
    assert "1 ran, 1 failed, 1 wait for those" in out
    assert "the reason" in Path(".sweep/cell/a-0.log").read_text()
    Path("do/a-0").unlink()
    assert main(["sweep"]) == 0
    assert ran() == ["a-0"]
    assert repro() == []


def test_an_output_that_was_not_written_and_a_dependency_that_changed_are_failures(project, capsys):
    shutil.rmtree("out/a/fold0")
    Path("do/a-0").write_text("exit 0")
    assert main(["sweep"]) == 1
    assert "cell@a-0 failed: output 'out/a/fold0/seed0/value.txt' does not exist" in capsys.readouterr().err
    Path("do/a-0").unlink()
    shutil.rmtree("out/a/fold1")
    Path("do/a-1").write_text("echo edited >> extra.txt")
    assert main(["sweep"]) == 1
    assert "cell@a-1 failed: extra.txt changed while it ran; sweep again" in capsys.readouterr().err
    with Repo() as repo:
        assert {"cell@a-1", "cell@b-0", "cell@b-1"} <= set(repo.status())


def test_a_plan_runs_nothing(project, capsys):
    Path("params.yaml").write_text("folds: [0, 1, 2]\narms:\n  a: 1\n  b: 3\n")
    for arm, seconds in (("a", 1800), ("c", 5400)):
        folder = Path(f"results/{arm}/fold0/seed0")
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"train": {"seconds": seconds, "threads": 2}}))
    pipeline = Path("dvc.yaml")
    pipeline.write_text(pipeline.read_text().replace("  cell:", "  train:"))
    before = Path("dvc.lock").read_bytes()
    assert main(["sweep", "--plan"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[:3] == [
        ["train", "6", "9.00"],
        ["a", "3", "3.00", "0", "1", "2"],
        ["b", "3", "6.00*", "0", "1", "2"],
    ]
    assert rows[3] == ["collect", "1"]
    assert " ".join(rows[4]).startswith("7 to run, at most: about 9.00 core-hours")
    assert ran() == []
    assert Path("dvc.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], "--workers 0: expected 1 to"),
        (["--workers", "9999"], "--workers 9999: expected 1 to"),
        (["--retries", "-1"], "--retries -1: expected 0 or more"),
        (["--workers", "1", "--slurm"], "--slurm array_parallelism=N"),
        (["--slurm", "partitoin=gpu"], "did you mean 'partition'"),
        (["--slurm", "gpu"], "not of the form key=value"),
        (["--slurm", "time=1:00:00"], "expected minutes"),
        ([], "no dvc.yaml here"),
    ],
)
def test_bad_options_are_refused(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_second_sweep_is_refused_and_the_first_can_be_stopped(project, capsys):
    Path("params.yaml").write_text(PARAMS.replace("a: 1", "a: 5"))
    Path("do/a-1").write_text("sleep 300 & echo $! > sleeper.txt; wait")
    first = subprocess.Popen([sys.executable, "-m", "asgnet", "sweep"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: Path("sleeper.txt").exists() and "a-0" in Path("ran.txt").read_text(), first)
        assert main(["sweep"]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert f"process {first.pid}" in err
        sleeper = int(Path("sleeper.txt").read_text())
        wait_for(lambda: Path("receipts/a-0.txt").exists(), first)
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=30) == 130
        assert "interrupted" in first.stderr.read()
    finally:
        first.kill()
        first.stderr.close()
    end = time.monotonic() + 10
    while psutil.pid_exists(sleeper) and psutil.Process(sleeper).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the job outlived the sweep"
        time.sleep(0.05)
    done = lock()["stages"]
    assert done["cell@a-0"]["params"]["params.yaml"] == {"arms.a": 5}
    assert done["cell@a-1"]["params"]["params.yaml"] == {"arms.a": 1}


def wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def test_a_stage_under_dvc_repro_is_respected(project, capsys):
    held = {"write": {"/x": {"pid": os.getppid(), "cmd": "dvc repro"}}, "read": {}}
    Path(".dvc/tmp/rwlock").write_text(json.dumps(held))
    assert main(["sweep"]) == 2
    assert f"process {os.getppid()} (dvc repro) is at work" in capsys.readouterr().err


def test_what_the_run_cache_knows_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = {"cmd": "echo $(cat params.yaml) >> ran.txt; cp params.yaml out.txt", "params": ["folds"]}
    write_project(tmp_path, yaml.safe_dump({"stages": {"one": stage | {"outs": ["out.txt"]}}}))
    for fold in (1, 2, 1):
        Path("params.yaml").write_text(f"folds: {fold}\n")
        assert main(["sweep"]) == 0
        assert Path("out.txt").read_text() == f"folds: {fold}\n"
    assert ran() == ["1", "2", "folds:", "folds:"]


class Kept:
    """An executor that keeps what it is given."""

    def submit(self, command):
        self.command = command
        return self

    def done(self):
        return False


def test_each_worker_has_cores_and_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "cores", lambda: [0, 1, 2, 3, 6])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    pool = pools.Local(tmp_path, 2)
    given = []
    for cells in (True, True, False):
        pool.executor = Kept()
        pool.start([Command([["true"]], ".", "log")], cells)
        command = pool.executor.command
        variables = command.environment
        given.append((command.cores, variables["OMP_NUM_THREADS"], variables["CUDA_VISIBLE_DEVICES"]))
    assert given == [((0, 1), "2", "4"), ((2, 3), "2", "5"), ((0, 1, 2, 3, 6), "5", "4,5")]
    assert pool.room(3, 1) == (0, 0)
    assert pools.Local(tmp_path, None).workers == 2  # one for each GPU
    with pytest.raises(UserError, match="expected 1 to 5"):
        pools.Local(tmp_path, 6)


def test_a_cell_gets_the_gpus_of_its_devices(tmp_path, monkeypatch):
    params = tmp_path / "params.yaml"
    assert pools.devices_of_a_cell(params) == 1
    params.write_text("compute: {devices: 2}")
    monkeypatch.setattr(pools, "cores", lambda: [0, 1, 2, 3, 4, 5])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    pool = pools.Local(tmp_path, None, pools.devices_of_a_cell(params))
    pool.executor, given = Kept(), []
    for _ in range(pool.workers):
        pool.start([Command([["true"]], ".", "log")], True)
        command = pool.executor.command
        given.append((command.cores, command.environment["CUDA_VISIBLE_DEVICES"]))
    assert given == [((0, 1, 2), "0,1"), ((3, 4, 5), "2,3")]


def test_only_outside_reasons_are_worth_another_try():
    tried = {str(o): o.outside for o in map(Outcome, (0, 1, 2, -9, 137, 143, None))}
    assert tried == {
        "exit status 0": False,
        "exit status 1": False,
        "exit status 2": False,
        "killed by SIGKILL": True,
        "killed by SIGTERM": True,
        "the job was lost": True,
    }


def test_a_killed_kernel_counts_as_killed(monkeypatch, capsys):
    def die(*_):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr("asgnet.notebook.run_notebook", die)
    status = main(["notebook", "train.ipynb", "out.ipynb"])
    assert Outcome(status).outside
    assert "train.ipynb: its kernel was killed" in capsys.readouterr().err


def test_a_job_that_cannot_start_its_command_says_why(tmp_path):
    pool = pools.Local(tmp_path / "jobs", 1)
    (job,) = pool.start([Command([["true"]], str(tmp_path / "nowhere"), str(tmp_path / "log"))], True)
    job.wait()
    ended = outcome(job)
    assert "FileNotFoundError" in str(ended)
    assert not ended.outside


FAKE = {
    # Runs every task of the array in the background, each as a cluster would start it.
    "sbatch": """
id=4711; cat $1 >> batch.txt
script=$(mktemp); cp $1 $script  # submitit renames the file as soon as this returns
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' $1)
for i in $(seq 0 ${last:-0}); do
  [ -z "$last" ] && id=4712 || export SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$i
  SLURM_JOB_ID=$id SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_PROCID=0 sh $script > /dev/null 2>&1 &
done
echo Submitted batch job $id""",
    "srun": """
while :; do case $1 in --output|--error) shift 2;; --*) shift;; *) break;; esac; done
exec "$@" """,
    "sacct": "echo 'JobID|State|NodeList'",
    "scancel": 'echo "$@" > cancelled.txt',
}


def test_on_slurm_the_cells_are_one_array(project, monkeypatch):
    folder = project / "bin"
    folder.mkdir()
    for name, text in FAKE.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(pools.Slurm, "poll", 0.1)
    Path("params.yaml").write_text(PARAMS.replace("b: 2", "b: 4"))
    Path("do/b-0").write_text("echo $OMP_NUM_THREADS > threads.txt")
    Path(".sweep/jobs").mkdir(parents=True)
    Path(".sweep/jobs/99_submission.sh").touch()  # of a sweep that was killed
    assert main(["sweep", "--slurm", "partition=gpu", "gpus_per_node=1", "cpus_per_task=3"]) == 0
    assert ran() == ["b-0", "b-1"]
    asked = Path("batch.txt").read_text()
    for option in ("array=0-1%2", "partition=gpu", "gpus-per-node=1", "cpus-per-task=3"):
        assert f"#SBATCH --{option}\n" in asked
    assert "srun --unbuffered" in asked
    assert " --cpus-per-task=3 " in asked
    assert Path("threads.txt").read_text() == "3\n"
    assert Path("cancelled.txt").read_text() == "99\n"
    assert repro() == []
