"""Batches from worker processes."""

from __future__ import annotations

import itertools
import queue
import threading
from functools import partial
from typing import Any

import torch
import torch.multiprocessing as mp
from tokenizers import Tokenizer

from training.batch import Arrays, Packer, seeded, to_device
from training.episode import Writer, write
from training.forward import Packed
from training.recipe import Recipe


def work(worker: int, recipe: Recipe, vocabulary: str, out: Any, longest: Any) -> None:
    """A process that packs batches until it is ended."""
    torch.set_num_threads(1)
    writer = Writer(Tokenizer.from_file(vocabulary))
    packer = Packer(recipe.rows, recipe.length, recipe.pairs, recipe.answers, recipe.seed * 1000 + worker)
    for count in itertools.count():
        rng = seeded(recipe.seed, worker, count)
        draw = partial(write, rng, writer, longest=longest.value, branches=recipe.branches)
        out.put(packer.pack(draw)[0])


class Source:
    """Batches from worker processes, moved to the device ahead of time by a thread."""

    def __init__(self, recipe: Recipe, vocabulary: str, device: torch.device) -> None:
        context = mp.get_context("spawn")
        self.longest = context.Value("i", 64)
        arrived = context.Queue(2 * recipe.workers)
        self.processes = [
            context.Process(target=work, args=(i, recipe, vocabulary, arrived, self.longest), daemon=True)
            for i in range(recipe.workers)
        ]
        for p in self.processes:
            p.start()
        self.ready: queue.Queue[Packed] = queue.Queue(3)
        self.arrived, self.device = arrived, device

    def start(self) -> None:
        """Begin to move batches to the device; not before a graph is captured."""
        arrived, device = self.arrived, self.device

        def move() -> None:
            while True:
                arrays: Arrays = arrived.get()
                self.ready.put(to_device(arrays, device))

        threading.Thread(target=move, daemon=True).start()

    def close(self) -> None:
        for p in self.processes:
            p.terminate()
