"""The sweep: start what is ready, put on record what ran well, until nothing is stale."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.stage import Stage
from submitit.core.core import Job
from tqdm import tqdm

from asgnet.errors import UserError
from asgnet.sweep.job import Command, Outcome, outcome
from asgnet.sweep.plan import plan_lines
from asgnet.sweep.pools import Local, Pool, Slurm, cancel_left_over, cores, devices_of_a_cell
from asgnet.sweep.signals import signals
from asgnet.sweep.tree import Tree, open_tree, split_name

FOLDER = Path(".sweep")  # logs, in the pipeline's folder


def run_sweep(
    targets: Sequence[str], workers: int | None, retries: int, slurm: Sequence[str] | None, plan: bool = False
) -> int:
    """Run the stale stages of the pipeline in the working folder, or those that ``targets`` name and what they depend
    on; ``asgnet sweep --help`` says how. Returns the exit status: 0, or 1 where a stage failed. Raises
    KeyboardInterrupt where a signal stopped it."""
    if retries < 0:
        raise UserError(f"--retries {retries}: expected 0 or more")
    if workers is not None and slurm is not None:
        raise UserError("--workers is for this machine; with Slurm it is --slurm array_parallelism=N")
    if plan:
        with open_tree(targets) as tree:
            print("\n".join(plan_lines(tree, len(cores()) if slurm is None else None)))
        return 0
    folder = FOLDER.absolute() / "jobs"
    devices = devices_of_a_cell()
    pool = Local(folder, workers, devices) if slurm is None else Slurm(folder, slurm, retries, devices)
    with signals() as caught, open_tree(targets) as tree:
        cancel_left_over(folder)
        shutil.rmtree(folder, ignore_errors=True)
        sweep = Sweep(tree, pool, retries, caught)
        sweep.run()
        if caught:
            raise KeyboardInterrupt
        if not sweep.failed:
            shutil.rmtree(folder, ignore_errors=True)
    return sweep.report()


@dataclass(eq=False)
class Task:
    """A stale stage on its way. before: what its dependencies were when it was first made ready to run."""

    stage: Stage
    log: Path
    attempt: int = 1
    before: list | None = None
    job: Job = field(init=False)  # once it runs

    @property
    def cell(self) -> bool:
        """Whether it is one of a matrix."""
        return "@" in self.stage.addressing


class Sweep:
    """One run of the loop. A stage goes from ``waiting`` (for what it depends on) over ``ready``, ``running`` and
    ``finished`` (not recorded yet) to ``fresh``, or there at once if it is not stale, or to ``failed`` or
    ``blocked``. ``caught``: grows when a signal asks to stop."""

    def __init__(self, tree: Tree, pool: Pool, retries: int, caught: list[int]) -> None:
        self.tree, self.pool, self.retries, self.caught = tree, pool, retries, caught
        self.waiting = list(tree.stages)
        self.ready: list[Task] = []
        self.running: list[Task] = []
        self.finished: list[Task] = []
        self.fresh: set[Stage] = set()
        self.failed: dict[Stage, str] = {}
        self.blocked: set[Stage] = set()
        self.ran = 0
        self.next_record = 0.0
        self.bar = tqdm(total=len(self.waiting), unit="stage", disable=not sys.stderr.isatty())

    def run(self) -> None:
        """Go on until nothing is left or a signal is caught; in that case the jobs are killed. What finished is
        recorded either way."""
        print(f"sweep: {len(self.waiting)} stages, {self.pool}", flush=True)
        try:
            while not self.caught and (self.waiting or self.ready or self.running or self.finished):
                self.look()
                self.launch()
                self.collect()
                if self.finished and self.time_to_record():
                    self.record()
                elif self.running:
                    time.sleep(self.pool.poll)
        finally:
            self.pool.cancel([task.job for task in self.running])
            self.collect(stopping=True)
            self.record()
            self.bar.close()

    def look(self) -> None:
        """Move the stages that need not wait any longer."""
        for stage in list(self.waiting):
            upstream = self.tree.upstream(stage)
            if self.caught:
                return
            if any(up in self.failed or up in self.blocked for up in upstream):
                self.blocked.add(stage)
            elif all(up in self.fresh for up in upstream):
                with self.blaming(stage):
                    self.judge(stage)
            else:
                continue
            self.waiting.remove(stage)

    def judge(self, stage: Stage) -> None:
        """Is a stage stale whose dependencies are not?"""
        if not self.tree.stale(stage):
            self.settle(stage)
        elif stage.cmd is None or stage.frozen:
            self.tree.reproduce(stage)
            self.settle(stage)
        else:
            group, cell = split_name(stage)
            self.ready.append(Task(stage, FOLDER / group / f"{cell or group}.log"))

    def launch(self) -> None:
        """Start what there is room for."""
        cells, others = ([task for task in self.ready if task.cell is cell] for cell in (True, False))
        for tasks, room in zip((cells, others), self.pool.room(len(cells), len(others)), strict=True):
            starting = [task for task in tasks[:room] if self.prepare(task)]
            if starting:
                jobs = self.pool.start([self.command(task) for task in starting], starting[0].cell)
                for task, job in zip(starting, jobs, strict=True):
                    task.job = job
                    self.running.append(task)

    def prepare(self, task: Task) -> bool:
        """Make a task ready to run; whether it must: DVC's run cache may know the result."""
        self.ready.remove(task)
        with self.blaming(task.stage):
            if task.attempt > 1:
                self.tree.clear(task.stage)
                return True
            task.before = self.tree.prepare(task.stage)
            if task.before is not None:
                return True
            self.finished.append(task)
        return False

    def command(self, task: Task) -> Command:
        """The task's job; its log begins with what runs."""
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("w" if task.attempt == 1 else "a") as log:
            log.write(f"> {task.stage.cmd}\n")
        environment = self.tree.environment(task.stage)
        return Command(self.tree.commands(task.stage), task.stage.wdir, str(task.log.absolute()), environment)

    def collect(self, stopping: bool = False) -> None:
        """Sort out the jobs that have ended."""
        for task in list(self.running):
            ended = outcome(task.job)
            if ended is None:
                continue
            self.running.remove(task)
            name = task.stage.addressing
            if ended.status == 0:
                self.ran += 1
                self.finished.append(task)
                if self.bar.disable:  # no terminal
                    self.say(f"{name}: {ended.seconds:.1f} s")
            elif stopping:
                continue
            elif ended.outside and task.attempt <= self.retries:
                self.say(f"{name}: {ended}; requeued ({task.attempt} of {self.retries})")
                task.attempt += 1
                self.ready.insert(0, task)
            else:
                self.fail(task.stage, f"{ended}; see {self.log_of(task, ended)}")

    @staticmethod
    def log_of(task: Task, ended: Outcome) -> str:
        """Where to read why: in the command's output, or in submitit's where the command could not end."""
        return str(task.log) if ended.status else os.path.relpath(task.job.paths.stderr)

    def time_to_record(self) -> bool:
        """Recording reads what a stage depends on and wrote, and writes all of dvc.lock: wait until that is a thirtieth
        of the time, or work waits."""
        idle = not self.running or (not self.ready and self.pool.room(1, 0)[0])
        return bool(idle) or time.monotonic() > self.next_record

    def record(self) -> None:
        """Record what has finished."""
        tasks, self.finished = self.finished, []
        if not tasks:
            return
        start = time.monotonic()
        refused = self.tree.record({task.stage: task.before for task in tasks})
        self.next_record = time.monotonic() + 30 * (time.monotonic() - start)
        for task in tasks:
            if task.stage in refused:
                self.fail(task.stage, refused[task.stage])
            else:
                self.settle(task.stage)

    @contextmanager
    def blaming(self, stage: Stage) -> Iterator[None]:
        """What DVC cannot do in the block is the stage's failure."""
        try:
            yield
        except DvcException as error:
            self.fail(stage, str(error))

    def settle(self, stage: Stage) -> None:
        self.fresh.add(stage)
        self.bar.update()

    def fail(self, stage: Stage, why: str) -> None:
        self.failed[stage] = why
        self.say(f"{stage.addressing}: {why}")

    def say(self, line: str) -> None:
        """One line of progress, above the bar where there is one."""
        with tqdm.external_write_mode(file=sys.stdout):
            print(line, flush=True)

    def report(self) -> int:
        """The last lines. Returns the exit status."""
        print(f"sweep: {self.ran} ran, {len(self.failed)} failed, {len(self.blocked)} wait for those", flush=True)
        for stage, why in self.failed.items():
            print(f"asgnet: {stage.addressing} failed: {why}", file=sys.stderr)
        return 1 if self.failed else 0
