"""A quick look at a model in training; the accuracy bench is what counts."""

from __future__ import annotations

import collections
import random
import re
from functools import partial

from tokenizers import Tokenizer

from stream_vl_ros.world.wordings import SPLITS, Split
from training.batch import Packer, seeded, to_device
from training.episode import Episode, Writer, write
from training.trainer import Trainer

LENGTHS = (4, 8, 16, 32, 48, 64)
NUMBER = re.compile(r"\d+")


def _draw(rng: random.Random, writer: Writer, branches: int, wordings: Split) -> Episode:
    return write(rng, writer, branches=branches, split=wordings, frames=rng.choice(LENGTHS))


def measure(trainer: Trainer, vocabulary: str, *, wordings: Split, batches: int, seed: int = 9) -> dict[str, list[int]]:
    """Exact whole answers by kind and clip length, teacher-forced, as [right, asked].

    An answer all of whose tokens are the greedy choice is the greedy answer, so no decoding is needed.
    """
    recipe = trainer.recipe
    writer = Writer(Tokenizer.from_file(vocabulary))
    packer = Packer(recipe.rows, recipe.length, recipe.pairs, recipe.answers, seed)
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for b in range(batches):
        rng = seeded(-seed, SPLITS.index(wordings), b)
        arrays, episodes = packer.pack(partial(_draw, rng, writer, recipe.branches, wordings))
        batch = to_device(arrays, trainer.device)
        # Gradients stay on: the compiled blocks would be compiled anew without.
        logits, _, _ = trainer.run(batch, trainer.painter(batch))
        chosen = logits.argmax(-1)
        right, said = (chosen == batch.target).cpu(), chosen.cpu().tolist()
        offset = 0
        for e in episodes:
            for q, first, end, now in e.answers:
                ok = bool(right[offset + first : offset + end].all())
                keys = [q.kind, "all", f"size/{e.grid}"]
                if now == e.scene.frames - 1:
                    keys += [f"{q.kind}/{now + 1}", f"all/{now + 1}"]
                for key in keys:
                    found[key][0] += ok
                    found[key][1] += 1
                if q.kind in ("when", "ago"):
                    numbers = [
                        NUMBER.findall(t)
                        for t in (writer.tokenizer.decode(said[offset + first : offset + end]), q.answer)
                    ]
                    opening = writer.tokenizer.decode(said[offset + first : offset + first + 1]).strip()
                    alike = opening[:1].isdigit() == q.answer[0].isdigit()
                    near = (
                        alike and bool(numbers[0] and numbers[1]) and abs(int(numbers[0][0]) - int(numbers[1][0])) <= 1
                    )
                    for key in (f"{q.kind}~1s", f"{q.kind}~1s/{now + 1}"):
                        found[key][0] += near
                        found[key][1] += 1
            offset += len(e.at)
    return dict(found)


def report(found: dict[str, list[int]]) -> str:
    """Percentages by kind, then by clip length."""
    lines = []
    for kind in sorted({k.split("/")[0] for k in found}):
        if kind == "size":
            continue
        right, asked = found[kind]
        row = [
            f"{100 * found[f'{kind}/{n}'][0] / max(1, found[f'{kind}/{n}'][1]):5.1f}"
            if f"{kind}/{n}" in found
            else "    -"
            for n in (4, 8, 16, 32, 48, 64)
        ]
        lines.append(f"{kind:16s} {100 * right / asked:5.1f} {asked:6d} | {' '.join(row)}")
    lines.append(
        "by size " + " ".join(f"{k}={100 * v[0] / v[1]:.1f}" for k, v in sorted(found.items()) if k.startswith("size/"))
    )
    return "\n".join(lines)
