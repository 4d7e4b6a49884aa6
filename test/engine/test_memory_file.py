"""A memory on disk: a stream that is resumed in a new process goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stream_vl_ros.engine import StreamConfig, VideoStream, load_memory, load_model, save_memory
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.engine.saved import tensor_file
from stream_vl_ros.engine.saved.document import sealed
from stream_vl_ros.engine.saved.identity import weights_checksum
from stream_vl_ros.errors import ConfigError, RequestError, SavedMemoryError

sys.path.append(str(Path(__file__).parent))
from resumed import STORIES, goes_on, pictures, resumed, watch

BUDGET = {"budget_tokens": 120}
# Settings, and what the stream has seen; all but the first are of noise at 2 frames per second.
CASES: dict[str, tuple[dict[str, object], str]] = {
    "plain": ({}, "plain"),
    "frames that wait, an odd one too": ({"chunk_frames": 6}, "odd"),
    "nothing but frames that wait": ({}, "waiting_only"),
    "every frame": ({"target_fps": 0, "chunk_frames": 3}, "odd"),
    "window": ({"eviction": "window", **BUDGET}, "long"),
    "window with a sink": ({"eviction": "window", "sink_frames": 4, **BUDGET}, "long"),
    "importance": ({"eviction": "importance", **BUDGET}, "long"),
    "importance with a sink and jumps": ({"eviction": "importance", "sink_frames": 6, **BUDGET}, "marked"),
    "positions moved back": ({"eviction": "window", "max_position": 150, **BUDGET}, "long"),
    "survivors moved back": ({"eviction": "importance", "max_position": 150, **BUDGET}, "long"),
    "several spans": ({}, "marked"),
    "a jump between waiting frames": ({"chunk_frames": 8}, "marked_between_waiting"),
    "a turn at the end": ({}, "remembered"),
    "a turn in between": ({}, "remembered_and_more"),
    "text where transformers puts it": ({"text_base": "transformers"}, "remembered_and_more"),
    "still pieces left out": ({"still_threshold": 85.3, "eviction": "importance", **BUDGET}, "long"),
    "a system prompt": ({"system_prompt": "You watch «a door»."}, "plain"),
    "gone back before": ({}, "gone_back"),
    "a budget without a rule": ({"budget_mib": 1.0}, "odd"),
}
FEWER = ("frames that wait, an odd one too", "window with a sink", "survivors moved back", "several spans")
RUNS = [("qwen2_5_vl", "float32", case) for case in CASES] + [
    (*model, case) for model in (("qwen2_5_vl", "bfloat16"), ("qwen2_vl", "float32")) for case in FEWER
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[tuple[str, str, str], tuple[list, list]]:
    """What streams did after they were saved, here and in a process that knows the files alone."""
    root = tmp_path_factory.mktemp("memories")
    jobs, here, models = [], [], {}
    for number, (family, dtype, case) in enumerate(RUNS):
        checkpoint = str(random_checkpoint(5, model_type=family, folder=root / "checkpoints"))
        if (family, dtype) not in models:
            models[family, dtype] = load_model(checkpoint, device="cpu", dtype=dtype)
        settings, story = CASES[case]
        config = {"target_fps": 2.0, **settings}
        stream = VideoStream(models[family, dtype], StreamConfig(**config))
        STORIES[story](stream)
        folder = str(root / str(number))
        before = stream.signature(), stream.pending
        save_memory(stream, folder)
        assert (stream.signature(), stream.pending) == before, "saving leaves no trace"
        here.append(goes_on(stream))
        jobs.append({"model": checkpoint, "dtype": dtype, "folder": folder, "config": config})
    listed = root / "jobs.json"
    listed.write_text(json.dumps(jobs))
    process = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "resumed.py"), str(listed)],
        capture_output=True, text=True, timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    there = json.loads(process.stdout.split("RESULTS ")[1])
    return {run: pair for run, *pair in zip(RUNS, here, there, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_a_new_process_goes_on_bit_for_bit(saved, run):
    here, there = saved[run]
    assert len(here) == 4
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        assert other == one, f"part {number}"
    assert all(part["bytes_within_budget"] for part in there)
    assert len({str(part["answers"]) for part in here}) > 1, "answers that cannot differ prove nothing"


@pytest.fixture
def stream(loaded) -> VideoStream:
    stream = VideoStream(loaded)
    watch(stream, 0, 19)
    return stream


def test_the_files_are_safetensors_and_json(stream, tmp_path):
    told = save_memory(stream, tmp_path / "kitchen")
    names = sorted(p.name for p in (tmp_path / "kitchen").iterdir())
    assert names[0] == "memory.json" and len(names) == 2
    tensors = tmp_path / "kitchen" / names[1]
    assert told.bytes == sum(p.stat().st_size for p in (tmp_path / "kitchen").iterdir())
    assert (told.tokens, told.frames) == (stream.cache.length, stream.frames)
    loaded = load_file(tensors)  # as the library itself reads it
    for layer in range(4):
        keys, values = stream.cache.layer_tokens(layer)
        assert torch.equal(loaded[f"cache.0.{layer}.keys"], keys)
        assert torch.equal(loaded[f"cache.0.{layer}.values"], values)
    assert [tuple(loaded[f"waiting.{i}"].shape) for i in range(3)] == [(56, 84, 3)] * 3
    document = json.loads((tmp_path / "kitchen" / "memory.json").read_text())
    assert document["memory"]["settings"]["target_fps"] == 2.0
    assert document["memory"]["state"]["segment"]["patches"] == 8
    assert not zipfile.is_zipfile(tensors)
    with pytest.raises(ValueError, match=r".+"):
        list(pickletools.genops(tensors.read_bytes()))


def test_there_is_no_pickle_in_the_engine():
    import stream_vl_ros

    for file in Path(stream_vl_ros.__file__).parent.rglob("*.py"):
        source = file.read_text()
        assert not any(word in source for word in ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True"))


def test_a_memory_is_replaced_and_its_old_tensors_are_gone(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    watch(stream, 19, 40)
    save_memory(stream, tmp_path / "kitchen")
    assert len(list((tmp_path / "kitchen").iterdir())) == 2
    assert resumed(stream.model, str(tmp_path / "kitchen"), stream.config).signature() == stream.signature()


def test_the_next_frame_may_have_any_stamp(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    for policy in ("mark", "reset", "continue"):
        for at in (1e6, -9.5 + 1e-3):
            one = resumed(stream.model, str(tmp_path / "kitchen"), StreamConfig(on_time_jump=policy))
            watch(one, 19, 27, at=at)
            one.flush()
            assert one.frames + len(one.pending) == 27
            assert (one.jumps.back, one.jumps.gaps) == (0, 0), "it is no jump of the clock"


def test_pictures_that_wait_are_saved_whatever_their_memory_is_like(loaded, tmp_path):
    """Read-only as the bytes of a message, reversed as BGR seen as RGB, every second pixel of another."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, chunk_frames=16))
    whole = pictures()[:3]
    read_only = np.frombuffer(whole[0].tobytes(), np.uint8).reshape(whole[0].shape)
    seen = [read_only, whole[1][:, :, ::-1], whole[2][::-2, ::2]]
    for number, picture in enumerate(seen):
        stream.offer(picture, number * 500_000_000)
    save_memory(stream, tmp_path / "kitchen")
    other = resumed(loaded, str(tmp_path / "kitchen"), stream.config)
    for frame, picture in zip(other.pending, seen, strict=True):
        assert np.array_equal(frame.pixels, picture)
    assert other.ask("What is it?", max_new_tokens=4).token_ids == stream.ask("What is it?", max_new_tokens=4).token_ids


def test_nothing_is_saved_before_the_first_frame(loaded, tmp_path):
    with pytest.raises(RequestError, match="nothing to save"):
        save_memory(VideoStream(loaded), tmp_path / "kitchen")
    assert not list(tmp_path.iterdir())


def refused(model, folder, reason: str, match: str) -> None:
    with pytest.raises(SavedMemoryError, match=match) as caught:
        load_memory(model, folder)
    assert caught.value.reason == reason


def test_another_model_is_refused(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    cases = [("qwen2_5_vl", 77, "other weights"), ("qwen2_vl", 0, "another configuration")]
    for family, seed, match in cases:
        other = load_model(str(random_checkpoint(seed, model_type=family, folder=tmp_path)), device="cpu")
        refused(other, tmp_path / "kitchen", "model", match)


def test_one_weight_is_another_model(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    folder = random_checkpoint(folder=tmp_path / "checkpoint")
    other = load_model(str(folder), device="cpu", dtype="float32")
    load_memory(other, tmp_path / "kitchen")  # the same weights
    third = load_model(str(folder), device="cpu", dtype="float32")
    with torch.no_grad():
        third.native.model.language_model.layers[1].mlp.up_proj.weight[7, 9] += 1e-3
    refused(third, tmp_path / "kitchen", "model", "other weights")


def test_every_weight_of_a_large_model_counts():
    """Also where not each of them goes into the checksum by itself."""
    torch.manual_seed(0)
    weights = {"a": torch.randn(300, 700).bfloat16(), "b": torch.randn(5), "c": torch.randn(1).half()}
    known = {weights_checksum(weights), weights_checksum(weights, whole=0)}
    assert len(known) == 2 and weights_checksum(weights, whole=0) in known
    changes = [("a", (0, 1)), ("a", (299, 699)), ("a", (150, 3)), ("b", (4,)), ("c", (0,))]
    for name, place in changes:
        other = {k: v.clone() for k, v in weights.items()}
        other[name][place] *= 1.01
        known.add(weights_checksum(other, whole=0))
    for other in (
        {**weights, "a": weights["a"].view(700, 300)},
        {**weights, "a": weights["a"].flip(0)},
        {**weights, "b": weights["b"].double()},
        {"a": weights["a"], "b": weights["b"], "d": weights["c"]},
    ):
        known.add(weights_checksum(other, whole=0))
    assert len(known) == 2 + 5 + 4


def test_another_dtype_is_refused(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    other = load_model(str(random_checkpoint(folder=tmp_path)), device="cpu", dtype="bfloat16")
    refused(
        other, tmp_path / "kitchen", "dtype", "saved in float32, and the model runs in bfloat16: set dtype to float"
    )


def test_another_template_is_refused(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    other = load_model(str(random_checkpoint(folder=tmp_path)), device="cpu", dtype="float32")
    other.processor.chat_template = other.processor.chat_template.replace("}}\\n", "}}\\n\\n").replace("\n", "\n\n")
    refused(other, tmp_path / "kitchen", "prompt", "chat template")


@pytest.mark.parametrize(("name", "value"), [("image_mean", [0.5, 0.5, 0.5]), ("image_std", [0.5, 0.5, 0.5])])
def test_other_colours_are_another_model(stream, tmp_path, name, value):
    """Pictures that the processor scales in another way would be other tokens."""
    save_memory(stream, tmp_path / "kitchen")
    folder = random_checkpoint(folder=tmp_path / "checkpoint")
    load_memory(load_model(str(folder), device="cpu", dtype="float32"), tmp_path / "kitchen")  # as it was
    changed = 0
    for file in folder.glob("*.json"):
        told = json.loads(file.read_text())
        for part in (told, *(inner for inner in told.values() if isinstance(inner, dict))):
            if name in part:
                part[name], changed = value, changed + 1
        file.write_text(json.dumps(told))
    assert changed
    other = load_model(str(folder), device="cpu", dtype="float32")
    refused(other, tmp_path / "kitchen", "model", "another configuration")


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
def test_another_place_of_text_is_refused(loaded, tmp_path, text_base):
    """As if a release of transformers had saved it that places text after video elsewhere."""
    stream = VideoStream(loaded, StreamConfig(text_base=text_base))
    watch(stream, 0, 19)
    save_memory(stream, tmp_path / "kitchen")
    path = tmp_path / "kitchen" / "memory.json"
    told = json.loads(path.read_text())["memory"]
    told["prompt"]["text_after_maximum"] = not told["prompt"]["text_after_maximum"]
    path.write_bytes(sealed(told))
    refused(loaded, tmp_path / "kitchen", "prompt", "another position of text after video in this release")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"system_prompt": "You are a dog."}, "system_prompt='You are a dog.': this memory was kept with 'You are a h"),
        ({"text_base": "transformers"}, "text_base='transformers': this memory was kept with 'trained'"),
        ({"budget_tokens": 20}, "cannot be gone back to.*20 tokens.*raise the budget"),
    ],
)
def test_settings_that_it_cannot_work_with_change_nothing(stream, tmp_path, settings, match):
    save_memory(stream, tmp_path / "kitchen")
    other = VideoStream(stream.model, StreamConfig(**settings))
    with pytest.raises(ConfigError, match=match):
        other.restore(load_memory(stream.model, tmp_path / "kitchen"))
    assert other.signature() == VideoStream(stream.model, other.config).signature()


def test_a_larger_memory_than_the_budget_is_forgotten_to_fit(loaded, tmp_path):
    stream = VideoStream(loaded)
    watch(stream, 0, 80)
    save_memory(stream, tmp_path / "kitchen")
    small = resumed(loaded, str(tmp_path / "kitchen"), StreamConfig(eviction="importance", budget_tokens=100))
    assert small.cache.length == stream.cache.length > 100
    watch(small, 0, 8, at=40.0)
    assert small.cache.length <= 100
    assert small.cache.memory_bytes == 100 * loaded.adapter.cache_shape.bytes_per_token
    full = resumed(loaded, str(tmp_path / "kitchen"), StreamConfig(budget_tokens=100))
    with pytest.raises(Exception, match="used up"):
        watch(full, 0, 8, at=40.0)


def test_a_loaded_memory_can_be_gone_back_to_more_than_once(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    moment, signature = load_memory(stream.model, tmp_path / "kitchen"), stream.signature()
    first, second = VideoStream(stream.model), VideoStream(stream.model)
    for _ in range(2):
        for one in (first, second):
            one.restore(moment)
            assert one.signature() == signature
            watch(one, 19, 30)
            one.remember("What is it?", "a car")
    assert first.signature() == second.signature() != signature


def test_saving_copies_one_tensor_at_a_time(loaded, tmp_path):
    """Most of the memory that saving takes is not the cache a second time."""
    stream = VideoStream(loaded, StreamConfig(initial_capacity=400_000))
    watch(stream, 0, 80)
    pair = stream.cache.buffers[0][0].nbytes
    stream.cache._length = 399_000  # as if hours had been seen: what is in it does not matter here
    tensors = {f"{i}": t for i, both in enumerate(stream.cache.snapshot().segments[-1].layers) for t in both[:1]}
    file = os.open(tmp_path / "tensors", os.O_CREAT | os.O_WRONLY)
    before = peak()
    tensor_file.write(file, tensors, tensor_file.at_once)
    os.close(file)
    assert (tmp_path / "tensors").stat().st_size > len(tensors) * 0.99 * pair
    assert peak() - before < 1.5 * pair


def peak() -> int:
    """Largest resident memory so far, after it was set back to what is resident now."""
    value = status_bytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    return value
