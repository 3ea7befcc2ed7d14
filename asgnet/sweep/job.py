"""A job: one stage's command as submitit runs it, and how it ended."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from submitit.core.core import Job
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.helpers import DelayedSubmission
from submitit.local.local import LocalJob

POLL = 0.1  # seconds


@dataclass(frozen=True)
class Command:
    """What a job does: a stage's command lines, one after the other until one fails, their output added to a log.

    environment: added to the job's own; None removes a variable.
    cores: the CPU cores to stay on, where the system can do that; empty for all.
    sweep: the process without which this job must not live on; None on a cluster."""

    lines: list[list[str]]
    folder: str
    log: str
    environment: dict[str, str | None] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    sweep: int | None = None

    def __call__(self) -> tuple[int, float]:
        """Runs in the job. Returns exit status (negative: the signal that killed it) and seconds."""
        start, status = time.perf_counter(), 0
        if self.sweep is not None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # submitit would ignore it
            signal.signal(signal.SIGINT, lambda *_: None)  # as before (see Local), but not for the command
        if self.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)
        together = os.environ | self.environment
        environment = {name: value for name, value in together.items() if value is not None}
        with open(self.log, "ab") as log:
            for line in self.lines:
                status = self._run(line, environment, log)
                if status:
                    break
        return status, time.perf_counter() - start

    def _run(self, line: list[str], environment: dict[str, str], log: BinaryIO) -> int:
        process = subprocess.Popen(
            line, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(POLL)
                if self.sweep is not None:
                    os.kill(self.sweep, 0)  # raises where the sweep is gone
            return process.returncode
        finally:
            if process.returncode is None:  # the job is being stopped; the stage goes on from .resume another time
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues when Slurm preempts the job or its time is up: the same command."""
        return DelayedSubmission(self)


class Outcome(NamedTuple):
    """How a job ended. status: the command's, None where the job was lost before it could say. problem: what
    submitit says where the job itself failed."""

    status: int | None
    seconds: float = 0.0
    problem: str = ""

    @property
    def signal(self) -> int:
        """The signal that killed the command (a shell says 128 + n), 0 for none."""
        status = self.status or 0
        return -status if status < 0 else status - 128 if 128 < status <= 192 else 0

    @property
    def outside(self) -> bool:
        """Whether an outside reason ended it, so that another try may help: a signal, or the loss of the job."""
        return not self.problem and (self.status is None or self.signal > 0)

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if self.status is None:
            return "the job was lost"
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(self.signal, self.signal)}" if self.signal else f"exit status {self.status}"


def outcome(job: Job) -> Outcome | None:
    """How the job ended, None while it has not. submitit's files of a job that could say are removed."""
    if not job.done():
        return None
    if isinstance(job, LocalJob) and not job.paths.result_pickle.exists():  # on a cluster the file may be late
        return Outcome(None)
    try:
        status, seconds = job.result()
    except FailedJobError as error:  # raised within the job: first, for it is an UncompletedJobError too
        said = [line for line in str(error).splitlines() if "Error: " in line]
        return Outcome(None, problem=said[-1] if said else "the job failed")
    except UncompletedJobError:
        return Outcome(None)
    for path in job.paths.folder.glob(f"{job.job_id}_*"):
        path.unlink()
    return Outcome(status, seconds)
