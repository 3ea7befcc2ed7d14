"""What the machine can do, and what a case needs at least."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from asgnet.device import fast_dtype
from benchmarks.case import Case

CONVOLUTION = (4, 256, 60)  # batch, channels in and out, cells a side: those of the decoder
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
BANDWIDTH = "bandwidth"


class Peaks:
    """The best rates seen: `measure` is called again and again over a run, since a busy machine is slow now and then.

    ``best``: "matrix fp32", "convolution fp32" and the same in bf16, in operations a second; "bandwidth", in bytes a
    second that are read or written, by adding two arrays far larger than the caches. bf16 is left out where the CPU has
    no instructions for it: nothing runs in it then."""

    def __init__(self, side: int) -> None:
        """``side``: of the square matrices."""
        self.best: dict[str, float] = {}
        self.side = side

    @torch.inference_mode()
    def measure(self, tries: int = 3) -> None:
        """Keep the best of a few tries of each."""
        for dtype in dict.fromkeys((torch.float32, fast_dtype())):
            a, b = torch.randn(2, self.side, self.side).to(dtype)
            self._keep(f"matrix {NAMES[dtype]}", 2 * self.side**3, lambda a=a, b=b: a @ b, tries)
            batch, channels, cells = CONVOLUTION[0], min(CONVOLUTION[1], self.side), CONVOLUTION[2]
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype, memory_format=torch.channels_last)
            x = torch.randn(batch, channels, cells, cells).to(dtype, memory_format=torch.channels_last)
            work = 2 * 9 * channels**2 * x[:, 0].numel()
            self._keep(f"convolution {NAMES[dtype]}", work, lambda x=x, conv=conv: conv(x), tries)
        x, y = torch.ones(2, 64 * self.side**2 // 4)  # 64 MB each for a side of 1024
        self._keep(BANDWIDTH, 3 * x.nbytes, lambda: torch.add(x, y, out=x), tries)

    def _keep(self, name: str, work: float, function: Callable[[], Any], tries: int) -> None:
        function()
        for _ in range(tries):
            start = time.perf_counter()
            function()
            self.best[name] = max(self.best.get(name, 0.0), work / (time.perf_counter() - start))


def operations(function: Callable[[], Any]) -> dict[str, int]:
    """Operations that one call does in matrix products, convolutions and attention: matrix, convolution."""
    with FlopCounterMode(display=False) as counter:
        function()
    totals = {"matrix": 0, "convolution": 0}
    for packet, count in counter.get_flop_counts().get("Global", {}).items():
        totals["convolution" if "convolution" in str(packet) else "matrix"] += count
    return totals


def bytes_at_least(case: Case, result: Any) -> int:
    """What has to pass through memory however a case is computed: inputs and weights read, results written."""
    parts = [tree_leaves([list(i.parameters()), list(i.buffers())] if isinstance(i, nn.Module) else i)
             for i in (*case.inputs, list(tree_leaves(result)))]  # fmt: skip
    return sum(leaf.nbytes for part in parts for leaf in part if isinstance(leaf, Tensor))


def floor_seconds(peaks: dict[str, float], counted: dict[str, int], moved: int, precision: torch.dtype) -> float:
    """The least seconds that the machine could take: computing at its peaks or moving bytes, whichever is longer."""
    name = NAMES[precision]
    computing = sum(count / peaks[f"{kind} {name}"] for kind, count in counted.items())
    return max(computing, moved / peaks[BANDWIDTH])
