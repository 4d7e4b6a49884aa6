"""What standing questions cost per chunk of video, against the chunk itself.

python -m stream_vl_ros.bench.watches
python -m stream_vl_ros.bench.watches --model Qwen/Qwen2.5-VL-3B-Instruct --device cuda --dtype bfloat16 --side 448

Chunks of noise and looks at the watches alternate, so that what else the machine does meets both; medians are shown.
Watches have two options. "One by one" asks each as a question of its own, on a fork each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench.arguments import as_command, count
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine import ChunkReport, LoadedModel, StreamConfig, VideoStream, Watch, Watches, load_model
from stream_vl_ros.engine.loader import EMBEDDED
from stream_vl_ros.engine.watching import Watching
from stream_vl_ros.world.things import COLOURS, SHAPES

WARM_UP = 2


@dataclass(frozen=True, slots=True)
class WatchCost:
    """A look at `watches` after a chunk.

    Attributes:
        cache_tokens: in the stream's cache, in the middle of the run.
        chunk_tokens: of one chunk.
        question_tokens: of all watches with their options, without the padding.
        chunk_ms: milliseconds that a chunk took, median.
        look_ms: milliseconds that asking all watches took, median.
        one_by_one_ms: the same, each asked as a question of its own.
    """

    watches: int
    cache_tokens: int
    chunk_tokens: int
    question_tokens: int
    chunk_ms: float
    look_ms: float
    one_by_one_ms: float

    @property
    def of_a_chunk(self) -> float:
        """How many chunks' time a look takes."""
        return self.look_ms / self.chunk_ms


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--watches", nargs="+", type=count, default=[1, 4, 16])
    parser.add_argument("--chunks", type=count, default=40, help="that are measured, for each number of watches")
    parser.add_argument("--side", type=count, default=112, help="height and width of the frames, pixels")
    parser.add_argument("--chunk-frames", type=count, default=4)
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--json", type=Path, help="write all results here")
    return parser.parse_args(argv)


def watches(count: int) -> list[Watch]:
    """So many questions, of a few lengths."""
    things = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    texts = ("Is there {}?", "Is {} visible now?", "Is {} to be seen anywhere in the picture?")
    return [Watch(f"w{i}", texts[i % len(texts)].format(things[i * 5 % len(things)])) for i in range(count)]


def measure(model: LoadedModel, count: int, args: argparse.Namespace, sync: Callable[[], None]) -> WatchCost:
    asked = watches(count)
    stream = VideoStream(model, StreamConfig(target_fps=0, chunk_frames=args.chunk_frames))
    watching = Watching(
        stream, Watches(asked), make_room=lambda: None, numbers=lambda: "nothing is freed here", problem=_raise
    )
    size = (args.chunk_frames, args.side, args.side, 3)
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    chunks: list[ChunkReport] = []
    cache_tokens: list[int] = []
    look_seconds: list[float] = []
    alone_seconds: list[float] = []

    def one_by_one() -> None:
        for watch in asked:
            stream.ask_choice(watch.question, watch.options, normalise=False)

    for i in range(WARM_UP + args.chunks):
        stamps = [(i * args.chunk_frames + j) / 2 for j in range(args.chunk_frames)]
        sync()
        chunks += stream.append(noise, stamps)
        cache_tokens.append(stream.cache.length)
        look_seconds.append(_seconds(watching.look, sync))
        if i <= WARM_UP or i % 8 == 0:
            alone_seconds.append(_seconds(one_by_one, sync))
    piece, tokenizer = stream.pieces.ask, model.tokenizer
    questions = sum(len(piece.tokens(tokenizer, question=w.question)) + len(w.options) for w in asked)
    chunk_seconds = [c.seconds for c in chunks]
    medians = (1e3 * statistics.median(x[WARM_UP:]) for x in (chunk_seconds, look_seconds, alone_seconds))
    return WatchCost(count, cache_tokens[len(cache_tokens) // 2], chunks[-1].tokens, questions, *medians)


def _seconds(action: Callable[[], object], sync: Callable[[], None]) -> float:
    sync()
    started = time.perf_counter()
    action()
    sync()
    return time.perf_counter() - started


def _raise(problem: str) -> None:
    raise RuntimeError(problem)


def table(costs: Sequence[WatchCost]) -> Table:
    shown = Table(title="Asking all watches after a chunk", title_justify="left")
    for name in (
        "watches",
        "tokens: cache",
        "chunk",
        "watches",
        "chunk, ms",
        "watches, ms",
        "of a chunk",
        "per watch",
        "one by one, ms",
        "gain",
    ):
        shown.add_column(name, justify="right")
    for c in costs:
        shown.add_row(
            str(c.watches),
            str(c.cache_tokens),
            str(c.chunk_tokens),
            str(c.question_tokens),
            f"{c.chunk_ms:.1f}",
            f"{c.look_ms:.1f}",
            f"{c.of_a_chunk:.2f}",
            f"{c.of_a_chunk / c.watches:.2f}",
            f"{c.one_by_one_ms:.1f}",
            f"{c.one_by_one_ms / c.look_ms:.1f}x",
        )
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    sync = torch.cuda.synchronize if model.adapter.device.type == "cuda" else (lambda: None)
    record = environment(args, args.device)
    print_environment(console, record)
    costs = []
    with progress(console) as bar:
        task = bar.add_task("watches", total=len(args.watches))
        for count in args.watches:
            costs.append(measure(model, count, args, sync))
            bar.advance(task)
    console.print(table(costs))
    if args.json:
        results = [asdict(c) | {"of_a_chunk": c.of_a_chunk} for c in costs]
        write_json(args.json, record, {"watches": results})


if __name__ == "__main__":
    as_command(main)
