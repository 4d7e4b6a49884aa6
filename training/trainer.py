"""Model, optimizers and one step of training."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from training import shape
from training.flex import Flex, block
from training.forward import Forward, Packed, dense, head, merge, visible, vision_block
from training.grids import grids
from training.helper import Helper
from training.optimizer import Muon, split
from training.painter import Painter
from training.recipe import Recipe


class Trainer:
    """Model, optimizers and one step."""

    def __init__(self, recipe: Recipe, vocabulary: str, device: torch.device, *, compiled: bool) -> None:
        self.recipe, self.device = recipe, device
        tokenizer = Tokenizer.from_file(vocabulary)
        self.model = shape.fresh(tokenizer, recipe.seed).to(device)
        self.helper = Helper().to(device)
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.forward = Forward(self.model, grids(device))
        self.painter = Painter(device, self.dtype)
        self.flex = Flex(recipe, device) if device.type == "cuda" else None
        matrices, rest = split(self.model)
        cuda = device.type == "cuda"
        self.rates = [torch.zeros((), device=device) for _ in range(2)]
        self.helper_weight = torch.zeros((), device=device)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, self.rates[0]),
            torch.optim.AdamW(
                [*rest, *self.helper.parameters()], self.rates[1], betas=(0.9, 0.95), weight_decay=0.0,
                fused=cuda, capturable=cuda,
            ),
        ]  # fmt: skip
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: Packed | None = None
        self.losses: tuple[Tensor, Tensor] | None = None
        self.averaged = [p.detach().clone() for p in self.model.parameters()]
        self.steps = 0
        if compiled:
            self.painter.compile()
            self.forward.merge = torch.compile(merge, dynamic=False)
            self.forward.head = torch.compile(head, dynamic=False)
            self.forward.vision_block = torch.compile(vision_block, dynamic=False)
            if self.flex is not None:
                self.forward.text_block = torch.compile(block, dynamic=False)

    def attend(self, batch: Packed) -> Any:
        """What the text blocks attend with: a function on the CPU, a block mask on a GPU."""
        return dense(visible(batch)) if self.flex is None else self.flex.mask(batch)

    def run(self, batch: Packed, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [A, V], visual tokens [P, C, D] and the tapped hidden states of each pair [P, D]."""
        visual = self.forward.see(patches.to(self.dtype), batch.grid)
        hidden, tapped = self.forward.read(visual, batch, self.attend(batch), self.recipe.tap)
        logits = self.forward.logits(hidden.index_select(0, batch.at))
        return logits, visual, tapped.index_select(0, batch.pair_at)

    def loss(self, batch: Packed, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The answers' loss and the auxiliary one."""
        logits, visual, pairs = self.run(batch, patches)
        each = F.cross_entropy(logits, batch.target, ignore_index=-100, reduction="none")
        answer = (each * batch.weight).sum() / batch.weight.sum()
        return answer, self.helper(visual, pairs, batch)

    def _step(self, batch: Packed) -> tuple[Tensor, Tensor]:
        answer, auxiliary = self.loss(batch, self.painter(batch))
        (answer + self.helper_weight * auxiliary).backward()
        torch.nn.utils.clip_grad_norm_(self.optimizers[1].param_groups[0]["params"], 1.0, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return answer.detach(), auxiliary.detach()

    def capture(self, batch: Packed) -> None:
        """Record a whole step as one CUDA graph: launching its kernels takes longer than running them.

        The rates are zero meanwhile, so nothing is learnt.
        """
        self.held = replace(batch)
        for f in fields(Packed):
            setattr(self.held, f.name, getattr(batch, f.name).clone())
        for rate_tensor in self.rates:
            rate_tensor.zero_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step(self.held)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.losses = self._step(self.held)

    def step(self, batch: Packed, factor: float, helper: float) -> tuple[Tensor, Tensor]:
        """One step of training: the answers' loss and the auxiliary one."""
        for tensor, base in zip(self.rates, (self.recipe.muon, self.recipe.adam), strict=True):
            tensor.fill_(base * factor)
        self.helper_weight.fill_(helper)
        if self.graph is None or self.held is None or self.losses is None:
            losses = self._step(batch)
        else:
            torch._foreach_copy_(
                [getattr(self.held, f.name) for f in fields(Packed)], [getattr(batch, f.name) for f in fields(Packed)]
            )
            self.graph.replay()
            losses = self.losses
        self.steps += 1
        if self.steps % 8 == 0:
            # A short memory at first, so that the average is not of the start.
            decay = min(self.recipe.average**8, 1 - 1 / (self.steps / 8 + 1) ** 0.8)
            torch._foreach_lerp_(self.averaged, [p.detach() for p in self.model.parameters()], 1 - decay)
        return losses

    def swap(self) -> None:
        """Exchange the weights with their average."""
        with torch.no_grad():
            for p, a in zip(self.model.parameters(), self.averaged, strict=True):
                held = p.detach().clone()
                p.copy_(a)
                a.copy_(held)

    def save(self, folder: Path) -> None:
        """The weights in float32, in two halves, and their average in bfloat16.

        The optimizers start anew when resumed: their memories fill within the warm-up.
        """
        named = list(self.model.named_parameters())
        half = len(named) // 2
        for i, part in enumerate((named[:half], named[half:])):
            save_file({n: p.detach().contiguous() for n, p in part}, folder / f"model{i}.safetensors")
        save_file({n: t.contiguous() for n, t in self.helper.state_dict().items()}, folder / "helper.safetensors")
        flat = {n: a.bfloat16().contiguous() for (n, _), a in zip(named, self.averaged, strict=True)}
        save_file(flat, folder / "weights.safetensors", {"format": "pt"})

    def load(self, folder: Path) -> None:
        """Resume from a folder that ``save`` wrote, or from a checkpoint, whose helper starts anew."""
        if (folder / "model.safetensors").exists():
            stored = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
            )
            state = dict(stored.named_parameters())
        else:
            state = {}
            for i in range(2):
                state.update(load_file(folder / f"model{i}.safetensors"))
            self.helper.load_state_dict(load_file(folder / "helper.safetensors"))
        with torch.no_grad():
            for (name, p), a in zip(self.model.named_parameters(), self.averaged, strict=True):
                p.copy_(state[name])
                a.copy_(state[name])
