"""What a fork costs, by the length of the video before it, and what many questions at once cost.

python -m stream_vl_ros.bench.forks
python -m stream_vl_ros.bench.forks --device cuda --dtype bfloat16 --json forks.json --plot forks.png

The cache is filled to the length with random keys and values: neither forks nor steps depend on what they say.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench.arguments import as_command, count
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine import DecodeBatch, LoadedModel, Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.loader import EMBEDDED
from stream_vl_ros.engine.units import MIB

FORKS = 200
WARM_UP = 4
# Steps of a round, and rounds over all lengths: what else the machine does changes from second to second.
STEPS, ROUNDS = 8, 4
QUESTION = "What is visible now?"


@dataclass(frozen=True, slots=True)
class ForkCost:
    """Forks of a cache of `tokens`.

    Attributes:
        cache_mib: of the tokens that are shared.
        fork_us: microseconds to take a fork and give it up again, median.
        fork_bytes: bytes that a fork allocates.
        clone_ms: milliseconds to copy the cache instead.
    """

    tokens: int
    cache_mib: float
    fork_us: float
    fork_bytes: int
    clone_ms: float


@dataclass(frozen=True, slots=True)
class StepCost:
    """One step of `questions` answers over a cache of `tokens`: milliseconds, median, side by side and in turn."""

    tokens: int
    questions: int
    together_ms: float
    in_turn_ms: float


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--lengths", nargs="+", type=count, default=[2**i for i in range(10, 17)], help="tokens")
    parser.add_argument("--questions", nargs="+", type=count, default=[1, 4, 16], help="at once")
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    return parser.parse_args(argv)


@torch.inference_mode()
def filled(model: LoadedModel, tokens: int) -> VideoStream:
    """A stream whose cache holds so many tokens."""
    stream = VideoStream(model, StreamConfig(target_fps=0, initial_capacity=tokens))
    stream.append(np.zeros((4, 112, 112, 3), np.uint8), [0, 0.5, 1, 1.5])
    shape, missing = model.adapter.cache_shape, tokens - stream.cache.length
    size = (1, shape.kv_heads, missing, shape.head_dim)
    make = partial(torch.randn, size, dtype=shape.dtype, device=shape.device)
    stream.cache.append([(make(), make()) for _ in range(shape.layers)])
    return stream


def fork_cost(stream: VideoStream, sync: Callable[[], None]) -> ForkCost:
    tokens = stream.cache.length

    def fork() -> None:
        stream.fork().close()

    with stream.fork() as one:
        allocated = one.cache.own_bytes
    fork_seconds = statistics.median(timed(fork, sync, FORKS))
    clone_seconds = statistics.median(timed(lambda: stream.cache.clone().discard(), sync, 5))
    return ForkCost(tokens, stream.cache.memory_bytes / MIB, 1e6 * fork_seconds, allocated, 1e3 * clone_seconds)


class Steps:
    """Answers that do not end, all about the present moment of a stream, side by side and each alone."""

    def __init__(self, stream: VideoStream, questions: int, sync: Callable[[], None]) -> None:
        self._stream, self._questions, self._sync = stream, questions, sync
        self._together = DecodeBatch(stream.model)
        self._alone = [DecodeBatch(stream.model) for _ in range(questions)]
        for i, batch in enumerate(self._alone):
            for joined in (self._together, batch):
                generation = stream.start(Question(f"{QUESTION} {'x' * i}", max_new_tokens=10**6))
                generation.prefill()
                joined.add(generation)
        self._seconds: tuple[list[float], list[float]] = [], []

    def measure(self) -> None:
        """One round."""
        for action, seconds in zip((self._together.step, self._in_turn), self._seconds, strict=True):
            seconds += timed(action, self._sync, STEPS, WARM_UP)

    def _in_turn(self) -> None:
        for batch in self._alone:
            batch.step()

    @property
    def cost(self) -> StepCost:
        together, in_turn = (1e3 * statistics.median(s) for s in self._seconds)
        return StepCost(self._stream.cache.length, self._questions, together, in_turn)


def timed(action: Callable[[], object], sync: Callable[[], None], times: int, warm_up: int = 2) -> list[float]:
    """Seconds that an action took, each time."""
    seconds = []
    for _ in range(warm_up + times):
        sync()
        started = time.perf_counter()
        action()
        sync()
        seconds.append(time.perf_counter() - started)
    return seconds[warm_up:]


def tables(forks: Sequence[ForkCost], steps: Sequence[StepCost]) -> list[Table]:
    first = Table(title="A fork", title_justify="left")
    for name in ("tokens", "cache, MiB", "fork, us", "bytes of a fork", "a copy instead, ms"):
        first.add_column(name, justify="right")
    for f in forks:
        first.add_row(str(f.tokens), f"{f.cache_mib:.0f}", f"{f.fork_us:.0f}", str(f.fork_bytes), f"{f.clone_ms:.1f}")
    second = Table(title="One token of every answer", title_justify="left")
    for name in ("tokens", "questions", "side by side, ms", "in turn, ms", "gain", "against one question"):
        second.add_column(name, justify="right")
    alone = {s.tokens: s.together_ms for s in steps if s.questions == 1}
    for s in steps:
        ratio = f"{s.together_ms / alone[s.tokens]:.2f}" if s.tokens in alone else "-"
        second.add_row(
            str(s.tokens),
            str(s.questions),
            f"{s.together_ms:.1f}",
            f"{s.in_turn_ms:.1f}",
            f"{s.in_turn_ms / s.together_ms:.1f}x",
            ratio,
        )
    return [first, second]


def plot(path: Path, forks: Sequence[ForkCost], steps: Sequence[StepCost], subtitle: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    tokens = [f.tokens for f in forks]
    left.loglog(tokens, [f.fork_us / 1e3 for f in forks], "o-", label="fork")
    left.loglog(tokens, [f.clone_ms for f in forks], "s--", color="0.5", label="a copy of the cache instead")
    left.set(xlabel="tokens in the cache", ylabel="milliseconds", title="What a fork costs")
    for questions in sorted({s.questions for s in steps}):
        some = [s for s in steps if s.questions == questions]
        (line,) = right.loglog([s.tokens for s in some], [s.together_ms for s in some], "o-", label=f"{questions}")
        if questions > 1:
            right.loglog([s.tokens for s in some], [s.in_turn_ms for s in some], "s--", color=line.get_color())
    right.set(xlabel="tokens in the cache", ylabel="milliseconds", title="One token of each of so many answers")
    right.legend(title="side by side (dashed: in turn)", fontsize=8)
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
    figure.suptitle(subtitle, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    # Answers that do not end: every step has all rows.
    model = replace(load_model(args.model, device=args.device, dtype=args.dtype), eos_ids=frozenset())
    sync = torch.cuda.synchronize if model.adapter.device.type == "cuda" else (lambda: None)
    record = environment(args, args.device)
    print_environment(console, record)
    forks, running = [], []
    with progress(console) as bar:
        task = bar.add_task("forks", total=len(args.lengths))
        for tokens in args.lengths:
            stream = filled(model, tokens)
            forks.append(fork_cost(stream, sync))
            running += [Steps(stream, questions, sync) for questions in args.questions]
            bar.advance(task)
        task = bar.add_task("steps", total=ROUNDS * len(running))
        for _ in range(ROUNDS):
            for each in running:
                each.measure()
                bar.advance(task)
    steps = [r.cost for r in running]
    for table in tables(forks, steps):
        console.print(table)
    if args.json:
        write_json(args.json, record, {"forks": [asdict(f) for f in forks], "steps": [asdict(s) for s in steps]})
    if args.plot:
        plot(args.plot, forks, steps, f"{args.model}, {args.dtype}, {record['device']}")
        console.print(f"curves: {args.plot}")


if __name__ == "__main__":
    as_command(main)
