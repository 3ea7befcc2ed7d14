"""The compute section: precision, compiled layers, what it refuses. Run: pytest tests/test_compute.py"""

import copy
import ctypes
import os
import shutil
import subprocess
import sys

import pytest
import torch
from tiny import tiny_study

from asgnet.config import load_study
from asgnet.decoders import classifier
from asgnet.device import autocast, compile_layers, fast_dtype, use_threads
from asgnet.errors import UserError
from asgnet.rng import torch_generator
from asgnet.sections import ComputeConfig


@pytest.mark.parametrize(("name", "value"), [("threads", -1), ("devices", 0), ("workers", -1)])
def test_numbers_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(UserError, match=rf"compute.{name}: {value} is too small; expected at least"):
        tiny_study(tmp_path, compute={name: value})


def test_threads_at_the_top_level_are_no_longer_read(tmp_path):
    path = tmp_path / "params.yaml"
    tiny_study(tmp_path)
    path.write_text("threads: 1\n" + path.read_text())
    with pytest.raises(UserError, match="'threads' is unknown"):
        load_study(path)


def test_a_precision_is_what_it_says():
    assert ComputeConfig().precision == "auto"
    assert fast_dtype("cpu", "auto") == fast_dtype()
    for name in ("float32", "bfloat16"):
        dtype = fast_dtype("cpu", name)
        assert dtype == getattr(torch, name)
        with autocast("cpu", dtype):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert fast_dtype("cuda", "float16") == torch.float16
    with pytest.raises(UserError, match="float16 needs a CUDA device"):
        fast_dtype("cpu", "float16")


def test_processes_share_the_cores(monkeypatch):
    before = torch.get_num_threads()
    alone = use_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert use_threads() == max(alone // 2, 1)
    assert use_threads(3) == 3
    use_threads(before)


def test_without_a_compiler_compile_is_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"compute.compile: no C\+\+ compiler"):
        compile_layers(classifier(4))


@pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), reason="no C++ compiler"
)
def test_compiled_layers_compute_the_same():
    plain = classifier(4)  # with dropout
    compiled = copy.deepcopy(plain)
    compile_layers(compiled)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 9, 9, generator=torch_generator(0, "compile"))
    results = []
    for layers in (plain, compiled):
        torch.manual_seed(0)
        logits = layers(x)
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in layers.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_the_memory_of_freed_tensors_is_used_again():
    code = """
import resource, torch
from asgnet.device import keep_freed_memory

keep_freed_memory()
for _ in range(50):  # the first ones may lie side by side
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of the 16384 pages that it has
