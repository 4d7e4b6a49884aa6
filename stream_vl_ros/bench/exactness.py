"""Are the engine's answers the native ones? Questions at moments of streams, against one-shot inference.

python -m stream_vl_ros.bench.exactness
python -m stream_vl_ros.bench.exactness --pairs 1000 --footage street.mp4 bikes.mp4 --json exactness.json
python -m stream_vl_ros.bench.exactness --device cuda --half bfloat16

Each pair is a question at a moment: clips of the toy world and of real footage, at cadences from 0.37 to 30 fps and at
irregular times, in chunks of 1 to 9 frames, with both text bases, questions before, between and after chunks; native
inference by transformers alone, with sdpa and with eager attention. In float32 the tokens have to be the same and
the logits within 1e-4 (1e-3 on a GPU, whose sums are rounded in another order). In half precision no two kernels agree:
there the error against float32 is compared with the error that native inference has itself.
Exit status 1 if anything differs by more.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stream_vl_ros.bench.arguments import as_command, count
from stream_vl_ros.bench.exactness_cases import Case, Pair, compare, first_logits, one_shot, referable, stream_of
from stream_vl_ros.bench.exactness_make import WORLD, cases
from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine import load_model
from stream_vl_ros.engine.loader import EMBEDDED, EMBEDDED_FOLDER
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

MODELS = (EMBEDDED, "random qwen2_5_vl", "random qwen2_vl")
ATTENTIONS = ("sdpa", "eager")
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}
# Of the engine's error in half precision, against the larger one of native's kernels.
NOISE = 1.25


@dataclass(slots=True)
class Agreement:
    """Pairs of one kind.

    Attributes:
        same: pairs with the same tokens.
        largest: largest difference of a logit.
        margin: smallest distance between the two largest logits of native inference.
        mismatches: what differed, in words.
    """

    pairs: int = 0
    same: int = 0
    largest: float = 0.0
    margin: float = math.inf
    mismatches: list[str] = field(default_factory=list)

    def add(self, case: Case, pair: Pair, tolerance: float) -> None:
        self.pairs += 1
        self.same += pair.same
        self.largest = max(self.largest, pair.difference)
        self.margin = min(self.margin, pair.margin)
        if not pair.same or pair.difference >= tolerance:
            self.mismatches.append(
                f"{case}: at {pair.frames} frames: {pair.answer} is not {pair.expected.token_ids}, "
                f"logits {pair.difference:.2g} apart"
            )


@dataclass(slots=True)
class Noise:
    """Errors of half precision against native float32: root mean squares of logits, and changed first tokens."""

    squares: dict[str, list[float]] = field(default_factory=dict)
    flips: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, logits: Tensor, exact: Tensor) -> None:
        self.squares.setdefault(name, []).append(float((logits - exact).square().mean()))
        self.flips[name] = self.flips.get(name, 0) + int(logits.argmax() != exact.argmax())

    def rms(self, name: str) -> float:
        return math.sqrt(sum(self.squares[name]) / len(self.squares[name]))

    @property
    def within(self) -> bool:
        """Whether the engine's error is that of native kernels."""
        return self.rms("engine") <= NOISE * max(self.rms(a) for a in ATTENTIONS)

    def to_json(self) -> dict[str, Any]:
        return {n: {"rms": self.rms(n), "first token changed": self.flips[n]} for n in self.squares}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="also folders and hub ids")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=count, default=540, help="over all models and attentions")
    parser.add_argument("--tokens", type=count, default=12, help="longest answer")
    parser.add_argument("--footage", nargs="+", type=Path, default=[], help="video files")
    parser.add_argument("--half", default="bfloat16", choices=("bfloat16", "float16", "none"), help="compared as well")
    parser.add_argument("--half-clips", type=count, default=8, help="clips per model for that")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--json", type=Path, help="write all results here")
    return parser.parse_args(argv)


def folder_of(name: str, scratch: Path) -> str:
    """Where the checkpoint of a name is; random ones are made."""
    if name == EMBEDDED:
        return str(EMBEDDED_FOLDER)
    if name.startswith("random "):
        return str(random_checkpoint(3, model_type=name.removeprefix("random "), folder=scratch))
    return name


def agreements(
    args: argparse.Namespace, folder: str, attention: str, pairs: int, tick: Callable[[], None]
) -> dict[str, Agreement]:
    """So many pairs, by where the pictures are from."""
    model = load_model(folder, device=args.device, dtype="float32")
    native = NativeModel(folder, attention=attention, device=args.device)
    tolerance = TOLERANCE[torch.device(args.device).type]
    found: dict[str, Agreement] = {}
    done = 0
    for case in cases(f"{args.seed}/{attention}", model.adapter.tokens_per_second, args.footage):
        case = referable(model, case)
        for pair in islice(compare(model, native, case, args.tokens), pairs - done):
            kind = WORLD if case.source == WORLD else "footage"
            found.setdefault(kind, Agreement()).add(case, pair, tolerance)
            done += 1
            tick()
        if done >= pairs:
            return found
    raise AssertionError("there are cases without end")


def noise(args: argparse.Namespace, folder: str, tick: Callable[[], None]) -> Noise:
    """The first token's logits in half precision, by the engine and by native kernels, against native float32."""
    half = getattr(torch, args.half)
    model = load_model(folder, device=args.device, dtype=args.half)
    exact = NativeModel(folder, device=args.device)
    rivals = {a: NativeModel(folder, attention=a, dtype=half, device=args.device) for a in ATTENTIONS}
    out = Noise()
    for case in islice(
        cases(f"{args.seed}/{args.half}", model.adapter.tokens_per_second, args.footage), args.half_clips
    ):
        stream, shown = stream_of(model, case), 0
        for frames, question in case.moments:
            stream.append(case.pictures[shown:frames], case.stamps[shown:frames])
            shown = frames
            reference = one_shot(exact, case, frames, question, 1).logits
            out.add("engine", first_logits(stream, question), reference)
            for name, rival in rivals.items():
                out.add(name, one_shot(rival, case, frames, question, 1).logits, reference)
        tick()
    return out


def tables(found: dict[str, dict[str, Agreement]], noises: dict[str, Noise], half: str) -> list[Table]:
    exact = Table(title="float32, engine against native", title_justify="left")
    for name in ("model, native attention", "pictures", "pairs", "same tokens", "logits apart", "smallest margin"):
        exact.add_column(name, justify="left" if name in ("model, native attention", "pictures") else "right")
    for run, kinds in found.items():
        for kind, a in kinds.items():
            exact.add_row(run, kind, str(a.pairs), str(a.same), f"{a.largest:.1e}", f"{a.margin:.1e}")
    if not noises:
        return [exact]
    rough = Table(title=f"{half}: error of the first token's logits against native float32", title_justify="left")
    for name in ("model", "pairs", *(f"{n}, rms" for n in ("engine", *ATTENTIONS)), "first tokens changed"):
        rough.add_column(name, justify="left" if name == "model" else "right")
    for model, n in noises.items():
        names = ("engine", *ATTENTIONS)
        flips = ", ".join(f"{name} {n.flips[name]}" for name in names)
        rough.add_row(model, str(len(n.squares["engine"])), *(f"{n.rms(name):.4f}" for name in names), flips)
    return [exact, rough]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    # Otherwise cuDNN rounds what goes into a convolution to 10 bits, and float32 is no reference.
    torch.backends.cudnn.allow_tf32 = False
    console = Console(width=130)
    record = environment(args, args.device)
    print_environment(console, record)
    runs = [(m, a) for m in args.models for a in ATTENTIONS]
    shares = [args.pairs // len(runs) + (i < args.pairs % len(runs)) for i in range(len(runs))]
    found: dict[str, dict[str, Agreement]] = {}
    noises: dict[str, Noise] = {}
    with tempfile.TemporaryDirectory() as scratch, progress(console) as bar:
        folders = {m: folder_of(m, Path(scratch) / str(i)) for i, m in enumerate(args.models)}
        task = bar.add_task("questions", total=args.pairs)
        for (model, attention), pairs in zip(runs, shares, strict=True):
            tick = partial(bar.advance, task)
            found[f"{model}, {attention}"] = agreements(args, folders[model], attention, pairs, tick)
        if args.half != "none":
            task = bar.add_task(f"clips in {args.half}", total=args.half_clips * len(args.models))
            for model in args.models:
                noises[model] = noise(args, folders[model], partial(bar.advance, task))
    for each in tables(found, noises, args.half):
        console.print(each)
    wrong = [m for kinds in found.values() for a in kinds.values() for m in a.mismatches]
    total = sum(a.pairs for kinds in found.values() for a in kinds.values())
    for mismatch in wrong:
        console.print(f"DIFFERS {mismatch}", highlight=False, markup=False)
    console.print(f"{total} pairs, {len(wrong)} mismatches", highlight=False)
    loud = [m for m, n in noises.items() if not n.within]
    for model in loud:
        console.print(f"NOISY {model}: the engine's error is above {NOISE} times native's", highlight=False)
    if args.json:
        results = {
            "pairs": total,
            "mismatches": wrong,
            "float32": {
                run: {k: {"pairs": a.pairs, "same": a.same, "largest": a.largest} for k, a in kinds.items()}
                for run, kinds in found.items()
            },
            args.half: {m: n.to_json() for m, n in noises.items()},
        }
        write_json(args.json, record, results)
    return 1 if wrong or loud else 0


if __name__ == "__main__":
    as_command(main)
