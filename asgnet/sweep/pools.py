"""Where jobs run: on this machine, a few at a time, or on a Slurm cluster."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil
import yaml
from submitit import LocalExecutor, SlurmExecutor
from submitit.core.core import Job
from submitit.core.utils import FailedJobError

from asgnet.errors import UserError
from asgnet.strict import unknown
from asgnet.sweep.job import Command

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
FOREVER = 60 * 24 * 365  # minutes; submitit stops a local job after two unless told otherwise
SLURM_MINUTES = 240  # of a Slurm job, where --slurm names no time
LISTS = ("setup", "teardown", "srun_args")  # Slurm options of submitit that are lists


class Pool(Protocol):
    """What the loop asks of a place where jobs run. ``poll``: seconds between looks."""

    poll: float

    def room(self, cells: int, others: int) -> tuple[int, int]:
        """Of that many cells of matrices and other stages that wait, how many may start now."""

    def start(self, commands: Sequence[Command], cells: bool) -> list[Job]:
        """Start jobs that ``room`` allows, all cells or all others."""

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Kill jobs."""


class Local:
    """This machine: ``workers`` cells at a time (None: one for each ``devices`` GPUs, without GPUs one for each CPU
    core), each with CPU cores (and, where there are several GPUs, ``devices`` of them) of its own; a stage without a
    matrix runs alone, on everything."""

    poll = 0.1

    def __init__(self, folder: Path, workers: int | None, devices: int = 1) -> None:
        self.cores, self.gpus, self.devices = cores(), gpus(), devices
        most = max((len(self.gpus) or len(self.cores)) // devices, 1)
        self.workers = min(most, len(self.cores)) if workers is None else workers
        if not 1 <= self.workers <= len(self.cores):
            raise UserError(f"--workers {workers}: expected 1 to {len(self.cores)}, the CPU cores it may use")
        self.threads = len(self.cores) // self.workers
        self.executor = LocalExecutor(folder)
        self.executor.update_parameters(timeout_min=FOREVER)
        self.executor._throttling = 0.0  # seconds between submissions, for the sake of clusters
        self.slots: list[Job | None] = [None] * self.workers
        self.alone: Job | None = None

    def __str__(self) -> str:
        return f"{self.workers} at a time, {self.threads} thread{'s' * (self.threads > 1)} each"

    def room(self, cells: int, others: int) -> tuple[int, int]:
        self.slots = [None if job is None or job.done() else job for job in self.slots]
        if self.alone and not self.alone.done():
            return 0, 0
        free = self.slots.count(None)
        return min(cells, free), int(others > 0 and not cells and free == self.workers)

    def start(self, commands: Sequence[Command], cells: bool) -> list[Job]:
        return [self._start_cell(c) if cells else self._start_alone(c) for c in commands]

    def _start_cell(self, command: Command) -> Job:
        slot = self.slots.index(None)
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
        if len(self.gpus) > 1:
            own = range(slot * self.devices, slot * self.devices + min(self.devices, len(self.gpus)))
            gpu = ",".join(self.gpus[k % len(self.gpus)] for k in own)
        job = self._submit(command, self.cores[slot * self.threads : (slot + 1) * self.threads], gpu)
        self.slots[slot] = job
        return job

    def _start_alone(self, command: Command) -> Job:
        self.alone = self._submit(command, self.cores, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return self.alone

    def _submit(self, command: Command, own: Sequence[int], gpu: str | None) -> Job:
        # submitit sets CUDA_VISIBLE_DEVICES to nothing for a local job that asks for no GPU.
        environment = command.environment | dict.fromkeys(THREADS, str(len(own))) | {"CUDA_VISIBLE_DEVICES": gpu}
        command = replace(command, environment=environment, cores=tuple(own), sweep=os.getpid())
        old = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the sweep, which then cancels
        try:
            return self.executor.submit(command)
        finally:
            signal.signal(signal.SIGINT, old)

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Kill jobs and wait until they are gone. (submitit's own way gives them one second and prints tracebacks.)"""
        end = time.monotonic() + 20
        while (left := [job for job in jobs if not job.done()]) and time.monotonic() < end:
            for job in left:
                os.kill(int(job.job_id), signal.SIGTERM)  # again and again: while a job starts, it may not hear
            time.sleep(0.2)


class Slurm:
    """A cluster: all that is ready is submitted, several cells as one array. ``settings``: "key=value" of submitit's
    Slurm executor, sbatch's options with underscores; ``devices`` above 1 is gpus_per_node where they do not say it.
    ``retries``: how often a job's time may run out."""

    poll = 2.0

    def __init__(self, folder: Path, settings: Sequence[str], retries: int, devices: int = 1) -> None:
        several = {"gpus_per_node": devices} if devices > 1 else {}
        options = {"job_name": "asgnet", "time": SLURM_MINUTES} | several | self._read(settings)
        if not isinstance(options["time"], int):
            raise UserError(f"--slurm time={options['time']}: expected minutes, a whole number")
        self.threads = options.get("cpus_per_task")
        if self.threads:  # srun no longer takes it from sbatch since Slurm 22.05
            options["srun_args"] = [*options.get("srun_args", []), f"--cpus-per-task={self.threads}"]
        try:
            self.executor = SlurmExecutor(folder, max_num_timeout=retries)
            self.executor.update_parameters(**options)
        except RuntimeError as error:  # no srun
            raise UserError(f"--slurm: {error}") from error

    def __str__(self) -> str:
        return "on Slurm"

    @staticmethod
    def _read(settings: Sequence[str]) -> dict:
        options: dict = {}
        known = SlurmExecutor._valid_parameters()
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals:
                raise UserError(f"--slurm: {setting!r} is not of the form key=value")
            if name not in known:
                raise unknown("--slurm: option", name, known)
            options[name] = int(value) if value.isdigit() else [value] if name in LISTS else value
        return options

    def room(self, cells: int, others: int) -> tuple[int, int]:
        return cells, others

    def start(self, commands: Sequence[Command], cells: bool) -> list[Job]:
        threads = dict.fromkeys(THREADS, str(self.threads)) if self.threads else {}
        try:
            return self.executor.submit_array([replace(c, environment={**c.environment, **threads}) for c in commands])
        except FailedJobError as error:
            raise UserError(f"sbatch refused the jobs: {error}") from error

    def cancel(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.cancel(check=False)


def cancel_left_over(folder: Path) -> None:
    """End the jobs that a sweep left behind which was itself killed, for two jobs would write one cell: take them off
    Slurm's queue, and wait for local ones (which end by themselves once they see that their sweep is gone)."""
    left = [path.name.partition("_")[0] for path in folder.glob("*_submission.sh")]
    if left and shutil.which("scancel"):
        subprocess.run(["scancel", *left], check=False)
    end = time.monotonic() + 20
    while (jobs := _local_jobs(folder)) and time.monotonic() < end:
        for job in jobs:
            with suppress(psutil.Error):
                job.terminate()
        time.sleep(0.2)


def _local_jobs(folder: Path) -> list[psutil.Process]:
    """submitit's processes on this machine that work in ``folder``."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in (p.info["cmdline"] or ())]


def devices_of_a_cell(params: Path = Path("params.yaml")) -> int:
    """``compute.devices`` of the pipeline in the working folder, 1 where it says nothing."""
    try:
        return max(int(yaml.safe_load(params.read_text())["compute"]["devices"]), 1)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return 1


def cores() -> list[int]:
    """The CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        try:
            query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
            named = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return []
    return [name.strip() for name in named.replace("\n", ",").split(",") if name.strip()]
