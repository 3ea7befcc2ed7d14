"""Several processes that work on one run, each with a GPU of its own: torchrun starts them, torch.distributed joins
them. Alone, a process is rank 0 of 1. Only rank 0 writes files and reports.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from asgnet.errors import UserError
from asgnet.files import alone

T = TypeVar("T")
LAUNCHED = "ASGNET_LAUNCHED"  # set for processes that must not outlive the one that started them


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Within the block, the processes of a torchrun are joined: by NCCL on GPUs, by gloo on the CPU. A process of its
    own is left alone. Raises UserError where there are more processes than GPUs.

    A block that raises leaves the others as they are, for they may wait for this process: torchrun ends them."""
    if not under_torchrun():
        yield
        return
    if os.environ.get(LAUNCHED):
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        check_devices(int(os.environ["LOCAL_WORLD_SIZE"]))
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    yield
    dist.destroy_process_group()


def check_devices(count: int) -> None:
    """Raise UserError where this machine has GPUs, but not ``count``."""
    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise UserError(
            f"{count} processes, but {torch.cuda.device_count()} CUDA devices: lower compute.devices (or torchrun's "
            "--nproc_per_node)"
        )


def launch(arguments: Sequence[str], count: int) -> None:
    """Run ``asgnet`` with ``arguments`` in ``count`` processes of this machine, under torchrun, and print what they
    print; they end when this process does. Raises UserError with their reason where they fail."""
    check_devices(count)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m", "asgnet"]
    reasons = []
    with subprocess.Popen(
        [sys.executable, *torchrun, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=os.environ | {LAUNCHED: "1"},
    ) as run:  # fmt: skip
        for line in run.stdout or ():
            reasons += [line.removeprefix("asgnet: ").strip()] if line.startswith("asgnet: ") else []
            print(line, end="", flush=True)
    if run.returncode:
        raise UserError(reasons[0] if reasons else f"asgnet {arguments[0]} failed in {count} processes; see above")


def _end_with_stdin() -> None:
    """End this process when the one at the other end of its stdin does, even by SIGKILL."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def alone_first(folder: Path) -> AbstractContextManager[None]:
    """`asgnet.files.alone` in the first process, which writes for all; nothing in the others."""
    return nullcontext() if rank() else alone(folder)


def share(items: Sequence[T], what: str) -> Sequence[T]:
    """This process's part of ``items``: as many, in order, for each. ``what`` names them in the UserError where they
    cannot be divided evenly."""
    part, rest = divmod(len(items), processes())
    if rest:
        raise UserError(f"{what}: {len(items)} cannot be divided by {processes()} processes; choose a multiple")
    return items[rank() * part : (rank() + 1) * part]


def gather(mine: dict[int, Any]) -> list[Any]:
    """What all processes hold, by number: values under keys 0 .. n - 1, each in one process's ``mine``."""
    parts: list[Any] = [mine] * processes()
    if dist.is_initialized():
        dist.all_gather_object(parts, mine)
    together = {key: value for part in parts for key, value in part.items()}
    return [together[key] for key in range(len(together))]


def deal(items: Sequence[T], work: Callable[[T], Any], across: bool) -> list[Any]:
    """``[work(item) for item in items]``, each a table or the like. Where ``across`` is set, the items are dealt out to
    the processes in turn, all of which must call this, and each gets all results: those of one process to the last
    bit, for what ``work`` sees at a time is the same."""
    if not across or processes() == 1:
        return [work(item) for item in items]
    return gather({k: work(items[k]) for k in range(rank(), len(items), processes())})


def deal_tensors(
    items: Sequence[T], work: Callable[[T], tuple[Tensor, ...]], device: torch.device, across: bool
) -> list[tuple[Tensor, ...]]:
    """`deal` for work that gives tensors on ``device``: they travel as bytes and keep their memory format."""
    if not across or processes() == 1:
        return [work(item) for item in items]
    mine = {k: tuple(t.clone() for t in work(items[k])) for k in range(rank(), len(items), processes())}
    forms = gather({k: [(t.shape, t.stride(), t.dtype) for t in tensors] for k, tensors in mine.items()})
    results = []
    for k, form in enumerate(forms):
        tensors = mine.get(k) or tuple(
            torch.empty_strided(*sizes, dtype=dtype, device=device) for *sizes, dtype in form
        )
        for tensor in tensors:
            flat = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)  # contiguous, whatever the format
            dist.broadcast(flat, src=k % processes())
        results.append(tensors)
    return results


def total(value: Tensor) -> Tensor:
    """The sum of ``value`` over the processes; ``value`` itself is left alone."""
    if not dist.is_initialized():
        return value
    summed = value.clone()
    dist.all_reduce(summed)
    return summed
