"""Packing episodes into batches of fixed size, in worker processes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

from stream_vl_ros.world import render
from training.episode import MEMORY_OBJECTS, MEMORY_TIMES, Episode, cell_labels, memory_labels
from training.forward import Packed
from training.grids import CELLS, SIZES

Arrays = dict[str, np.ndarray]


class Packer:
    """Fills batches of ``rows`` x ``length`` tokens and ``pairs`` frame pairs with episodes."""

    def __init__(self, rows: int, length: int, pairs: int, answers: int, seed: int) -> None:
        self.rows, self.length, self.pairs, self.answers = rows, length, pairs, answers
        self.noise = np.random.default_rng(seed)
        self.left: Episode | None = None

    def pack(self, draw: Callable[[], Episode]) -> tuple[Arrays, list[Episode]]:
        """One batch; an episode that no longer fits opens the next one."""
        rows, length, pairs = self.rows, self.length, self.pairs
        total = rows * length
        ids = np.zeros(total, np.int16)
        positions = np.zeros((3, total), np.int16)
        home = np.full(pairs * CELLS, total, np.int32)
        clip = np.full(total, -1, np.int16)
        branch = np.zeros(total, np.int16)
        cut = np.full(total, -1, np.int16)
        things = np.zeros((2 * pairs, render.MAX_VISIBLE, render.OBJECT_FIELDS), np.float32)
        # Unused frames are drawn too: they get a look that is one, since zeros divide by zero.
        look = np.repeat(render.looks(self.noise, 1), 2 * pairs, 0)
        grid = np.zeros(pairs, np.int16)
        at = np.arange(self.answers, dtype=np.int32)  # unused entries point anywhere, but apart
        target = np.full(self.answers, -100, np.int16)
        weight = np.zeros(self.answers, np.float32)
        cell_label = np.full((pairs, CELLS), -100, np.int16)
        pair_at = np.arange(pairs, dtype=np.int32)
        memory_label = np.full((pairs, MEMORY_OBJECTS + MEMORY_TIMES), -100, np.int16)
        fill = [0] * rows
        used_pairs = used_answers = 0
        episodes: list[Episode] = []
        while True:
            e = self.left or draw()
            self.left = None
            n = len(e.ids)
            row = next((r for r in range(rows) if fill[r] + n <= length), None)
            if row is None or used_pairs + e.pairs > pairs or used_answers + len(e.at) > self.answers:
                self.left = e
                break
            start = fill[row]
            o = row * length + start
            ids[o : o + n] = e.ids
            positions[:, o : o + n] = np.asarray(e.positions, np.int16).T
            s = np.asarray(e.source, np.int32)
            shown = np.flatnonzero(s >= 0)
            home[s[shown] + used_pairs * CELLS] = o + shown
            clip[o : o + n] = len(episodes)
            branch[o : o + n] = e.branch
            c = np.asarray(e.cut, np.int32)
            cut[o : o + n] = np.where(c >= 0, c + start, length)
            p, f = used_pairs, e.scene.frames
            drawn = render.objects(e.scene, self.noise.random((8, 3), dtype=np.float32) * 2 - 1)
            things[2 * p : 2 * p + f] = drawn
            if f % 2:
                things[2 * p + f] = drawn[-1]
            look[2 * p : 2 * (p + e.pairs)] = render.looks(self.noise, 1)
            grid[p : p + e.pairs] = e.grid
            m = len(e.at)
            at[used_answers : used_answers + m] = np.asarray(e.at, np.int32) + o
            target[used_answers : used_answers + m] = e.target
            weight[used_answers : used_answers + m] = e.weight
            cell_label[p : p + e.pairs] = cell_labels(e)
            pair_at[p : p + e.pairs] = np.asarray(e.pair_at, np.int32) + o
            split = next((i for i in range(1, e.pairs) if e.pair_at[i] - e.pair_at[i - 1] > CELLS), 0)
            memory = np.asarray(memory_labels(e), np.int16)
            if split:
                memory[split:, MEMORY_OBJECTS:] = -100
            memory_label[p : p + e.pairs] = memory
            fill[row] += n
            used_pairs += e.pairs
            used_answers += m
            episodes.append(e)
        shape = (rows, length)
        arrays: Arrays = {
            "ids": ids.reshape(shape),
            "positions": positions.reshape(3, *shape),
            "home": home,
            "clip": clip.reshape(shape),
            "branch": branch.reshape(shape),
            "cut": cut.reshape(shape),
            "things": things,
            "look": look,
            "grid": grid,
            "at": at,
            "target": target,
            "weight": weight,
            "cell_label": cell_label,
            "pair_at": pair_at,
            "memory_label": memory_label,
        }
        return arrays, episodes


WIDE = {"ids", "positions", "home", "grid", "at", "target", "cell_label", "pair_at", "memory_label"}


def to_device(arrays: Arrays, device: torch.device) -> Packed:
    """Arrays as tensors in the types the forward pass wants."""
    out = {}
    for key, array in arrays.items():
        tensor = torch.from_numpy(array)
        if device.type == "cuda":
            tensor = tensor.pin_memory().to(device, non_blocking=True)
        if key in WIDE:
            tensor = tensor.long()
        elif key in ("clip", "branch", "cut"):
            tensor = tensor.int()
        out[key] = tensor
    return Packed(**out)


def sizes(device: torch.device) -> torch.Tensor:
    """Height and width of each size index, float32 [sizes, 2]."""
    return torch.tensor(SIZES, dtype=torch.float32, device=device)


def seeded(seed: int, worker: int, batch: int) -> random.Random:
    """A stream of its own for each batch of each worker."""
    return random.Random(f"{seed}/{worker}/{batch}")
