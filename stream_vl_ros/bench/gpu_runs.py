"""What `bench.gpu` measures: native inference, plain streaming with transformers' own cache, and this engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import DecodeBatch, LoadedModel, Question, StreamConfig, VideoStream
from stream_vl_ros.engine.frames import to_patches
from stream_vl_ros.engine.positions import VideoSegment, text_positions
from stream_vl_ros.engine.units import NANOSECONDS

# 31 tokens of the byte tokenizer.
QUESTION = "What did the robot arm pick up?"
CHUNK = 4
FPS = 2.0


@dataclass(slots=True)
class Samples:
    """Measured values of one kind, in milliseconds unless the name says otherwise."""

    system: str
    what: str
    context: int
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.values, 99))


@dataclass(frozen=True, slots=True)
class Task:
    """Of one run: contexts in chunks, how often things are measured, and pictures."""

    chunks: tuple[int, ...]
    repeats: int
    tokens: int
    size: tuple[int, int]  # height and width of the camera's pictures
    max_pixels: int

    def frames(self, count: int, seed: int = 0) -> np.ndarray:
        """uint8 noise: nothing in it compresses, and no value repeats."""
        return np.random.default_rng(seed).integers(0, 256, (count, *self.size, 3), dtype=np.uint8)

    def config(self, tokens: int) -> StreamConfig:
        """Of a stream with room for so many tokens."""
        return StreamConfig(target_fps=0, chunk_frames=CHUNK, max_pixels=self.max_pixels, initial_capacity=tokens)


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(action: Callable[[], object], device: torch.device) -> float:
    """How long an action takes until the device is done with it."""
    sync(device)
    started = time.perf_counter()
    action()
    sync(device)
    return 1e3 * (time.perf_counter() - started)


def peak_gigabytes(device: torch.device) -> float:
    """Of memory that was allocated at once since the last `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def peaks(system: str, context: int, device: torch.device) -> Iterator[Samples]:
    """Memory at its peak since the last `reset_peak`: of tensors, and what captured graphs keep besides."""
    kept = 0
    if device.type == "cuda":
        pools = [s for s in torch.cuda.memory_snapshot() if tuple(s["segment_pool_id"]) != (0, 0)]
        kept = sum(s["total_size"] - s["allocated_size"] for s in pools)
    yield Samples(system, "peak memory, GB", context, [peak_gigabytes(device) + kept / 1e9])
    yield Samples(system, "of it inside of graphs, GB", context, [kept / 1e9])


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


# --- native -------------------------------------------------------------------------------------------------


class TokenClock:
    """A streamer of transformers' that notes when each token came."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self._prompted = False
        self._before = time.perf_counter()

    def put(self, value: Tensor) -> None:
        """The prompt first, which is there from the beginning; then each token, on the CPU."""
        if not self._prompted:
            self._prompted = True
            return
        now = time.perf_counter()
        self.milliseconds.append(1e3 * (now - self._before))
        self._before = now

    def end(self) -> None:
        """Nothing more comes."""


def native(model: NativeModel, task: Task) -> Iterator[Samples]:
    """One-shot inference over all frames; from prepared inputs, without the time to make them."""
    device = model.model.device
    for chunks in task.chunks:
        if not chunks:
            continue
        reset_peak(device)
        prompt = model.prompt([user_turn(QUESTION)])
        inputs = model.inputs(prompt, [task.frames(CHUNK * chunks)], FPS)
        context = int(inputs["input_ids"].shape[1])
        first = Samples("native", "first token", context)
        token = Samples("native", "token", context)
        for _ in range(max(1, min(3, task.repeats // 8 if chunks > 12 else task.repeats))):
            clock = TokenClock()
            model.generate(inputs, 1 + min(16, task.tokens), streamer=clock)
            first.values.append(clock.milliseconds[0])
            token.values += clock.milliseconds[1:]
        yield from (first, token, *peaks("native", context, device))
        whole = Samples("native", f"answer of {task.tokens} tokens", context)
        for _ in range(min(2, task.repeats)):
            whole.values.append(milliseconds(partial(model.generate, inputs, task.tokens), device))
        yield whole


# --- plain streaming ----------------------------------------------------------------------------------------


class PlainStream:
    """Chunks into a `DynamicCache`, questions by forward and crop: what transformers offers without an engine."""

    def __init__(self, loaded: LoadedModel, task: Task) -> None:
        from transformers import DynamicCache

        self._model, self._loaded, self._task = loaded.native, loaded, task
        self.cache = DynamicCache()
        self.device = loaded.adapter.device
        self._size = loaded.adapter.geometry.frame_size(*task.size, task.max_pixels)
        self._segment = VideoSegment(0, loaded.adapter.geometry.grid(*self._size), loaded.adapter.tokens_per_second)
        self._frames = 0

    @torch.inference_mode()
    def append(self, frames: np.ndarray) -> None:
        patches, grid = to_patches(list(frames), self._size, self._loaded.adapter.geometry, self.device)
        features = self._model.model.get_video_features(patches, grid.to(self.device), return_dict=True)
        embeds = torch.cat(list(features.pooler_output)).to(self._model.dtype)
        times = [round((self._frames + i) / FPS * NANOSECONDS) for i in range(0, len(frames), 2)]
        self._segment, positions = self._segment.extend(times)
        self._frames += len(frames)
        self._forward(embeds[None], positions[:, None])

    @torch.inference_mode()
    def ask(self, ids: Sequence[int], tokens: int) -> list[float]:
        """Seconds to each token of an answer; the cache is as before afterwards."""
        length, started, times = self.cache.get_seq_length(), time.perf_counter(), []
        new, position = torch.tensor([list(ids)], device=self.device), self._segment.text_start(True)
        for _ in range(tokens):
            embeds = self._model.get_input_embeddings()(new)
            hidden = self._forward(embeds, text_positions(position, new.shape[1])[:, None])
            position += new.shape[1]
            new = self._model.lm_head(hidden[:, -1:]).float().argmax(-1)
            int(new)
            times.append(time.perf_counter() - started)
        self.cache.crop(length - self.cache.get_seq_length())
        return times

    def _forward(self, embeds: Tensor, positions: Tensor) -> Tensor:
        output = self._model.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions.to(self.device),
            attention_mask=None,
            past_key_values=self.cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def plain(loaded: LoadedModel, task: Task) -> Iterator[Samples]:
    """Streaming with transformers alone."""
    stream = PlainStream(loaded, task)
    device = stream.device
    ids = list(loaded.tokenizer(QUESTION)["input_ids"])
    frames = task.frames(CHUNK)
    stream.append(frames)
    stream.ask(ids, 2)
    stream = PlainStream(loaded, task)
    reset_peak(device)
    for at in range(max(task.chunks) + 1):
        if at in task.chunks:
            context = stream.cache.get_seq_length()
            chunk = Samples("plain streaming", "chunk", context)
            for _ in range(max(3, task.repeats // 4)):
                length = stream.cache.get_seq_length()
                chunk.values.append(milliseconds(lambda: stream.append(frames), device))
                stream.cache.crop(length - stream.cache.get_seq_length())
            yield chunk
            if at:
                runs = [stream.ask(ids, 1 + task.tokens // 4) for _ in range(max(2, task.repeats // 4))]
                yield Samples("plain streaming", "first token", context, [1e3 * r[0] for r in runs[1:]])
                steps = [1e3 * (b - a) for r in runs for a, b in itertools.pairwise(r)]
                yield Samples("plain streaming", "token", context, steps)
            yield from peaks("plain streaming", context, device)
        if at < max(task.chunks):
            stream.append(frames)


# --- the engine ---------------------------------------------------------------------------------------------


def append(stream: VideoStream, frames: np.ndarray, at: int) -> None:
    """Decoded frames into the cache, as the node does it."""
    for i, frame in enumerate(frames):
        stream.offer(frame, round((at * CHUNK + i) / FPS * NANOSECONDS))
    assert stream.encode_chunk() is not None


def engine(loaded: LoadedModel, task: Task, name: str = "engine") -> Iterator[Samples]:
    """The same through the public API."""
    device = loaded.adapter.device
    frames = task.frames(CHUNK)
    per_chunk = CHUNK // 2 * int(np.prod(loaded.adapter.geometry.grid(*_size(loaded, task))))
    stream = VideoStream(loaded, task.config((max(task.chunks) + 1) * per_chunk + 256))
    for at, what in enumerate(("first chunk of all", "second chunk")):
        took = milliseconds(partial(append, stream, frames, at), device)
        yield Samples(name, what, stream.cache.length, [took])
    stream.ask(QUESTION, max_new_tokens=2)
    stream.reset()
    for at in range(max(task.chunks) + 1):
        if at in task.chunks:
            context = stream.cache.length
            moment = stream.snapshot()
            chunk = Samples(name, "chunk", context)
            for _ in range(task.repeats):
                chunk.values.append(milliseconds(partial(append, stream, frames, at), device))
                stream.restore(moment)
            yield chunk
            if at:
                yield from _answers(loaded, stream, task, name)
        if at < max(task.chunks):
            append(stream, frames, at)


def engine_memory(loaded: LoadedModel, task: Task, name: str = "engine") -> Iterator[Samples]:
    """Of a stream with room for one context, which is filled, asked about, and let go."""
    device, frames = loaded.adapter.device, task.frames(CHUNK)
    per_chunk = CHUNK // 2 * int(np.prod(loaded.adapter.geometry.grid(*_size(loaded, task))))
    for chunks in task.chunks:
        reset_peak(device)
        stream = VideoStream(loaded, task.config(chunks * per_chunk + 64))
        for at in range(chunks):
            append(stream, frames, at)
        if chunks:
            stream.ask(QUESTION, max_new_tokens=task.tokens)
        yield from peaks(name, stream.cache.length, device)
        del stream


def _answers(loaded: LoadedModel, stream: VideoStream, task: Task, name: str) -> Iterator[Samples]:
    device, context = loaded.adapter.device, stream.cache.length
    stream.ask(QUESTION, max_new_tokens=2)
    first = Samples(name, "first token", context)
    whole = Samples(name, f"answer of {task.tokens} tokens", context)
    for _ in range(task.repeats):
        first.values.append(milliseconds(lambda: stream.ask(QUESTION, max_new_tokens=1), device))
    for _ in range(max(2, task.repeats // 4)):
        whole.values.append(milliseconds(lambda: stream.ask(QUESTION, max_new_tokens=task.tokens), device))
    yield from (first, whole)
    for questions in (1, 16):
        batch = DecodeBatch(loaded)
        for i in range(questions):
            generation = stream.start(Question(f"{QUESTION}{'?' * i}", max_new_tokens=10**6))
            generation.prefill()
            batch.add(generation)
        what = "token" if questions == 1 else f"token of each of {questions}"
        steps = Samples(name, what, context, [milliseconds(batch.step, device) for _ in range(4 + task.tokens)])
        steps.values = steps.values[4:]
        yield steps


def _size(loaded: LoadedModel, task: Task) -> tuple[int, int]:
    return loaded.adapter.geometry.frame_size(*task.size, task.max_pixels)
