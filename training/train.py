"""Train stream-vl-tiny.

    python -m training.train --out run1 --minutes 9
    python -m training.train --out run2 --minutes 9 --resume run1 --peak 0.6 --final

Stops by the clock; writes the weights in float32, to resume from, ``weights.safetensors`` (their
average in bfloat16, the checkpoint) and ``log.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import fields
from pathlib import Path

import torch

from stream_vl_ros.world.wordings import SPLITS
from training.batch import to_device
from training.measure import measure, report
from training.recipe import Recipe, rate
from training.source import Source
from training.trainer import Trainer


def main() -> None:
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", default="stream_vl_ros/models/tiny/tokenizer.json")
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole command")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--final", action="store_true", help="let the learning rate fall to zero")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--give-up-ms", type=float, default=0, help="stop where a step takes longer")
    for f in fields(Recipe):
        parser.add_argument(f"--{f.name}", type=type(f.default), default=f.default)
    args = parser.parse_args()
    recipe = Recipe(**{f.name: getattr(args, f.name) for f in fields(Recipe)})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    args.out.mkdir(parents=True, exist_ok=True)
    source = Source(recipe, args.tokenizer, device)
    trainer = Trainer(recipe, args.tokenizer, device, compiled=not args.eager and device.type == "cuda")
    if args.resume:
        trainer.load(args.resume)
    size = sum(p.numel() for p in trainer.model.parameters())
    print(f"{size:,} parameters, set up in {time.perf_counter() - began:.1f} s", flush=True)
    if trainer.flex is not None and not args.eager:
        try:
            trainer.capture(to_device(source.arrived.get(), device))
            print(f"captured at {time.perf_counter() - began:.1f} s", flush=True)
        except RuntimeError as error:
            trainer.graph = None
            print(f"goes on without a graph: {error}", flush=True)
    source.start()
    log = (args.out / "log.jsonl").open("a")
    budget = args.minutes * 60
    # Saving and the closing evaluation need a while.
    stop = budget - min(14.0, 0.1 * budget)
    first = time.perf_counter()
    waited = 0.0
    shown, count = time.perf_counter(), 0
    sync = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    while (now := time.perf_counter() - began) < stop:
        start = first - began
        done = min(1.0, (now - start) / max(1e-6, stop - start))
        if recipe.short > 0:
            source.longest.value = 8 + int(56 * min(1.0, done / recipe.short))
        waiting = time.perf_counter()
        batch = source.ready.get()
        waited += time.perf_counter() - waiting
        helper = recipe.helper * min(1.0, 4 * (1 - done))
        answer, auxiliary = trainer.step(batch, rate(recipe, done, args.final), helper)
        count += 1
        if count == 12:
            sync()
            print(f"first 12 steps done at {time.perf_counter() - began:.1f} s", flush=True)
            first = shown = time.perf_counter()
        if count % 50 == 0:
            sync()
            each = (time.perf_counter() - shown) / (50 if count > 50 else 38)
            entry = {
                "step": trainer.steps, "s": round(time.perf_counter() - began, 1), "loss": round(float(answer), 4),
                "auxiliary": round(float(auxiliary), 4), "rate": round(rate(recipe, done, args.final), 4),
                "ms": round(1e3 * each, 1), "waited": round(20 * waited, 1),
            }  # fmt: skip
            log.write(json.dumps(entry) + "\n")
            log.flush()
            if count % 500 == 0 or count <= 100:
                memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
                print(f"{entry} {memory:.1f} GiB", flush=True)
            shown, waited = time.perf_counter(), 0.0
            if args.give_up_ms and count == 100 and each * 1e3 > args.give_up_ms:
                print("too slow, giving up", flush=True)
                break
    trainer.save(args.out)
    print(f"saved after {count} steps at {time.perf_counter() - began:.1f} s", flush=True)
    trainer.swap()
    for wordings in SPLITS:
        if time.perf_counter() - began > budget:
            break
        found = measure(trainer, args.tokenizer, wordings=wordings, batches=8)
        (args.out / f"measured_{wordings}.json").write_text(json.dumps(found))
        print(f"wordings: {wordings}\n{report(found)}\nat {time.perf_counter() - began:.1f} s", flush=True)
    source.close()
    os._exit(0)


if __name__ == "__main__":
    main()
