"""Memory that runs out: made room for, tried once more, then refused with the numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from stream_vl_ros.engine.out_of_memory import device_memory, is_out_of_memory, memory_use, with_room
from stream_vl_ros.errors import MemoryFullError


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_tried_once_more_after_making_room():
    calls = []

    def action() -> str:
        calls.append("try")
        if len(calls) == 1:
            raise MemoryError
        return "done"

    assert with_room(action, lambda: calls.append("room"), str) == "done"
    assert calls == ["try", "room", "try"]


def test_refused_with_the_numbers():
    calls = []

    def action() -> None:
        calls.append("try")
        raise MemoryError("cannot allocate 5 MiB\nand a long trace")

    with pytest.raises(MemoryFullError, match=r"^out of memory, the video takes 7 MiB; cannot allocate 5 MiB$"):
        with_room(action, lambda: calls.append("room"), lambda: "the video takes 7 MiB")
    assert calls == ["try", "room", "try"]


def test_other_errors_are_not_tried_again():
    calls = []

    def action() -> None:
        calls.append("try")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        with_room(action, lambda: calls.append("room"), str)
    assert calls == ["try"]


def test_memory_in_words():
    assert "MiB available" in device_memory(torch.device("cpu"))
    used, total = memory_use(torch.device("cpu"))
    assert 0 < used < total


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_of_a_gpu_in_words():
    assert "MiB free" in device_memory(torch.device("cuda"))


# A process of its own, whose address space is really limited; its allocator really fails.
LIMITED = """
import json, resource, sys
import numpy as np
from stream_vl_ros.engine import EngineRunner, Question, StreamConfig, VideoStream, load_model

def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

def limit(room):
    resource.setrlimit(resource.RLIMIT_AS, (used() + room if room else resource.RLIM_INFINITY, resource.RLIM_INFINITY))

model = load_model("embedded", device="cpu", dtype="float32")
frames = np.random.default_rng(1).integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)
report = {}
# Room for 40,000 tokens the first time it grows: 640 MiB and more.
stream = VideoStream(model, StreamConfig(target_fps=0, initial_capacity=64))
with EngineRunner(stream) as runner:
    def settle():
        runner.call(lambda s: s.flush()).result(60)
        return runner.status()
    for i in range(4):
        runner.push(frames[i], int(i * 5e8))
    settle()
    before = runner.ask(Question("What is visible now?")).result(60)
    stream.cache._max_capacity = None
    stream.cache._initial_capacity = 40_000
    limit(100 * 2**20)
    for i in range(4, 8):
        runner.push(frames[i], int(i * 5e8))
    status = settle()
    limit(0)
    report["drops"], report["problem"] = dict(status.frames.drops), status.problem
    report["balanced"] = status.frames.balanced
    after = runner.ask(Question("What is visible now?")).result(60)
    report["same"] = before.token_ids == after.token_ids
    limit(2**20)
    try:
        # Some 2,000 tokens of options, scored at once.
        runner.ask(Question("x" * 1500, choices=tuple("y" * 25 + str(i) for i in range(60)))).result(60)
        report["refused"] = ""
    except Exception as error:
        report["refused"] = f"{type(error).__name__}: {error}"
    limit(0)
    report["again"] = runner.ask(Question("What is visible now?")).result(60).token_ids == before.token_ids
    report["refusals"] = dict(runner.status().questions.refusals)
print(json.dumps(report))
"""


def test_a_process_that_runs_out_of_memory_goes_on():
    # glibc would serve the question from what it keeps in reserve.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["drops"] == {"out_of_memory": 4}, report
    assert "the video takes" in report["problem"]
    assert "MiB available" in report["problem"]
    assert report["balanced"]
    assert report["same"]
    assert report["refused"].startswith("MemoryFullError: out of memory, the video takes"), report
    assert report["again"]
    assert report["refusals"] == {"out_of_memory": 1}
