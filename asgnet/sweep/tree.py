"""The pipeline as DVC sees it: what is stale, in which order, and how a stage that ran is put on record."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError, make_lock
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable

from asgnet.errors import UserError
from asgnet.files import alive, atomic_path


class Tree:
    """The stages of the working folder's dvc.yaml, or those of ``targets``, and all that they depend on. Made by
    ``open_tree``.

    ``stages``: wave by wave, so that each stands behind what it depends on; within a wave as in dvc.yaml."""

    def __init__(self, repo: Repo, targets: Sequence[str] = ()) -> None:
        self.repo = repo
        self.graph = get_active_graph(repo.index.graph)
        path = str(Path.cwd() / "dvc.yaml")
        wave: dict[Stage, int] = {}
        for stage in plan_repro(self.graph, chosen([s for s in self.graph if s.path == path], targets)):
            wave[stage] = 1 + max((wave[up] for up in self.upstream(stage)), default=0)
        place = {stage: i for i, stage in enumerate(repo.index.stages)}
        self.stages: list[Stage] = sorted(wave, key=lambda stage: (wave[stage], place[stage]))

    def upstream(self, stage: Stage) -> list[Stage]:
        """The stages that ``stage`` depends on directly."""
        return list(self.graph.successors(stage))

    def stale(self, stage: Stage) -> bool:
        """Whether `dvc repro` would run the stage; true to the end only once ``upstream`` is up to date."""
        return stage.changed()

    def would_run(self) -> list[Stage]:
        """The stale stages and all that follow from them: at most what a sweep runs, for a stage that comes out as it
        was before makes nothing after it stale."""
        found: dict[Stage, None] = {}
        for stage in self.stages:
            if any(up in found for up in self.upstream(stage)) or self.stale(stage):
                found[stage] = None
        return list(found)

    def clear(self, stage: Stage) -> None:
        """Remove the stage's outputs as DVC does before it runs a stage: not those that persist."""
        stage.remove_outs(ignore_remove=False, force=False)

    def prepare(self, stage: Stage) -> list | None:
        """Make the stage ready to run. Returns what its dependencies are now, or None where DVC's run cache held the
        result of this very run and it was checked out."""
        self.clear(stage)
        try:
            self.repo.stage_cache.restore(stage)
        except RunCacheNotFoundError:
            # Not before restore: what the stage knows of its dependencies must still be what dvc.lock says.
            stage.save_deps()
            return [dep.hash_info for dep in stage.deps]
        return None

    def record(self, stages: dict[Stage, list | None]) -> dict[Stage, str]:
        """Write stages that ran well, each with what ``prepare`` returned, to the cache and to dvc.lock: once for all
        of them, for it writes all of dvc.lock. Returns why a stage could not be recorded."""
        refused: dict[Stage, str] = {}
        with self.repo.scm_context:
            for stage, before in stages.items():
                try:
                    refused |= self._save(stage, before)
                except DvcException as error:  # such as an output that the command did not write
                    refused[stage] = str(error)
            good = sorted((s for s in stages if s not in refused), key=lambda s: s.path)
            for _, group in groupby(good, key=lambda s: s.path):
                self._write_lock(list(group))
        return refused

    def _write_lock(self, stages: list[Stage]) -> None:
        """Write stages of one dvc.yaml to its dvc.lock: to a copy first, for a sweep that is killed must not leave half
        of it. DVC takes a quarter of a minute to read and write a long one, so it writes what is new alone."""
        lock = Path(stages[0].path).with_name("dvc.lock")
        with atomic_path(lock) as temporary:
            copy = Lockfile(self.repo, str(temporary))
            copy.dump_stages(stages)
            if lock.exists():
                together = spliced(lock.read_text(), temporary.read_text())
                if together is not None:
                    temporary.write_text(together)
                else:
                    shutil.copyfile(lock, temporary)
                    copy.dump_stages(stages)
        if copy.relpath in self.repo.scm_context.files_to_track:
            self.repo.scm_context.files_to_track.remove(copy.relpath)
            self.repo.scm_context.track_file(os.path.relpath(lock))

    def _save(self, stage: Stage, before: list | None) -> dict[Stage, str]:
        stage.save_deps()
        changed = [str(d) for d, old in zip(stage.deps, before or (), strict=False) if d.hash_info != old]
        if changed:
            return {stage: f"{', '.join(changed)} changed while it ran; sweep again"}
        # As Stage.run decides it. `dvc commit` would put outputs with `cache: false` into the run cache.
        uncached = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
        stage.save(run_cache=not uncached)
        stage.commit()
        return {}

    def reproduce(self, stage: Stage) -> None:
        """`dvc repro -s` in this process: for a stage without a command, such as a file under `dvc add`."""
        self.repo.reproduce(stage.addressing, single_item=True)

    def commands(self, stage: Stage) -> list[list[str]]:
        """The stage's command lines, each as arguments that start the shell which DVC would use."""
        return [_make_cmd(get_executable(), line) for line in _enforce_cmd_list(stage.cmd)]

    def environment(self, stage: Stage) -> dict[str, str | None]:
        """The variables that DVC sets for a stage's command."""
        return {"DVC_ROOT": self.repo.root_dir, "DVC_STAGE": stage.addressing}


def spliced(lock: str, new: str) -> str | None:
    """The text of a dvc.lock with the entries of another one in place of its own, or behind them: what DVC would write.
    None where one of them does not look as DVC writes it: an entry is a line at two spaces, "  name:", and what stands
    deeper below it, with no anchor or alias, whose names are those of one text."""
    if any(re.search(r"^ .*[:-] [&*]", text, flags=re.M) for text in (lock, new)):
        return None
    if not all(re.fullmatch(r"schema: '2\.0'\nstages:\n(  \S+:\n(    .*\n)+)+", text) for text in (lock, new)):
        return None
    old, added = (
        {entry.partition("\n")[0]: entry for entry in re.split(r"^(?=  \S)", text, flags=re.M)} for text in (lock, new)
    )
    return "".join((old | added).values())


def chosen(stages: Sequence[Stage], targets: Sequence[str]) -> list[Stage]:
    """The stages that one of ``targets`` names, all where there are none: a stage ("train": every cell), a cell
    ("train@baseline-1-0") or a pattern ("train*@*-1-0"). Raises UserError for a target that names nothing."""
    groups = {stage: stage.addressing.replace("dvc.yaml:", "").partition("@") for stage in stages}
    found: dict[Stage, None] = {}
    for target in targets:
        named = [stage for stage, (group, at, cell) in groups.items()
                 if fnmatchcase(group, target) or fnmatchcase(group + at + cell, target)]  # fmt: skip
        if not named:
            known = ", ".join(sorted({group for group, _, _ in groups.values()}))
            raise UserError(f"no stage {target!r} in dvc.yaml: expected a stage, a cell or a pattern of {known}")
        found |= dict.fromkeys(named)
    return list(found) if targets else list(stages)


def split_name(stage: Stage) -> tuple[str, str]:
    """Group and cell of a stage, fit for file names: ("train", "baseline-0-1") for train@baseline-0-1, an empty cell
    for a stage without a matrix."""
    group, _, cell = stage.addressing.replace("dvc.yaml:", "").partition("@")
    group, cell = (re.sub(r"[^\w.+-]+", "-", part).strip(".-") for part in (group, cell))
    return group, cell


@contextmanager
def open_tree(targets: Sequence[str] = ()) -> Iterator[Tree]:
    """The tree of the working folder, or of ``targets`` in it, DVC's lock held: until the block ends, another sweep or
    `dvc repro` is refused.

    Raises UserError where there is no pipeline, where it cannot be read, and where another process is at work."""
    if not Path("dvc.yaml").is_file():
        raise UserError("no dvc.yaml here; run `asgnet sweep` in the folder of a pipeline")
    try:
        repo = Repo()
    except NotDvcRepoError:
        raise UserError("not inside a DVC repository; run `git init` and `dvc init` at its root") from None
    logging.getLogger("dvc").setLevel(logging.ERROR)  # its lines and bars would break up the sweep's own
    lock = lock_repo(repo)
    try:
        lock.__enter__()
    except LockError:
        raise UserError(f"{_holder(repo)} is at work in this tree; wait for it or stop it, then sweep again") from None
    try:
        _refuse_if_busy(repo)
        try:
            tree = Tree(repo, targets)
        except DvcException as error:
            raise UserError(f"DVC cannot read the pipeline: {error}") from error
        yield tree
    finally:
        lock.__exit__(None, None, None)
        repo.close()


def _holder(repo: Repo) -> str:
    """Who holds the lock: the lock file says its process."""
    try:
        return f"another sweep or DVC command (process {int(Path(repo.lock.lockfile).read_text())})"
    except (OSError, ValueError):
        return "another sweep or DVC command"


def _refuse_if_busy(repo: Repo) -> None:
    """`dvc repro` lets go of the repository's lock while a stage's command runs; what it reads and writes then stands
    in the file rwlock, with its process. Entries of processes that are gone count for nothing."""
    path = Path(repo.tmp_dir) / "rwlock"
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with make_lock(f"{path}.lock", tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):  # DVC's own, around writing it
        try:
            held = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except ValueError:  # cut off when its writer was killed: DVC would refuse to go on
            path.unlink()
            return
    infos = [*held.get("write", {}).values(), *(info for infos in held.get("read", {}).values() for info in infos)]
    for info in infos:
        if info["pid"] != os.getpid() and alive(info["pid"]):
            raise UserError(
                f"process {info['pid']} ({info['cmd']}) is at work in this tree; wait for it or stop it, then sweep "
                f"again (if there is no such DVC process, remove {os.path.relpath(path)})"
            )
