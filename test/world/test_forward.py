"""The trainer's own forward pass is the model's: same visual tokens, same logits, one fork at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from training.batch import Packer, to_device
from training.episode import Episode, Writer, write
from training.forward import Packed
from training.grids import CELLS, SIZES
from training.recipe import Recipe
from training.trainer import Trainer

VOCABULARY = str(EMBEDDED_FOLDER / "tokenizer.json")


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = Trainer(Recipe(rows=2, length=768, pairs=24, answers=512), VOCABULARY, torch.device("cpu"), compiled=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # Weights of a size at which a wrong mask or position shows in the logits.
        for p in made.model.parameters():
            p.normal_(0, 0.06, generator=generator) if p.ndim > 1 else p.add_(
                torch.randn(p.shape, generator=generator) / 10
            )
    yield made
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def packed(trainer: Trainer) -> tuple[Packed, list[Episode]]:
    recipe = trainer.recipe
    writer, rng = Writer(Tokenizer.from_file(VOCABULARY)), random.Random(5)
    grid = iter([2, 0, 1, 3] * 20)
    packer = Packer(recipe.rows, recipe.length, recipe.pairs, recipe.answers, 0)
    arrays, episodes = packer.pack(lambda: write(rng, writer, longest=9, branches=3, size=next(grid)))
    assert {e.grid for e in episodes} == {0, 1, 2, 3}
    assert any(len(set(e.branch)) > 2 for e in episodes)
    return to_device(arrays, torch.device("cpu")), episodes


@torch.no_grad()
def test_forward_equals_transformers(trainer: Trainer, packed: tuple[Packed, list[Episode]]) -> None:
    batch, episodes = packed
    patches = trainer.painter(batch)
    logits, visual, _ = trainer.run(batch, patches)
    model = trainer.model
    pair = answer = 0
    for e in episodes:
        height, width = SIZES[e.grid]
        rows, cols = height // 14, width // 14
        pixels = patches[pair : pair + e.pairs, : rows * cols].reshape(-1, patches.shape[-1])
        seen = model.model.visual(pixels, grid_thw=torch.tensor([[e.pairs, rows, cols]])).pooler_output
        ours = visual[pair : pair + e.pairs, : rows * cols // 4].reshape(seen.shape)
        torch.testing.assert_close(ours, seen, atol=1e-5, rtol=0)
        ids, branch, cut, source = (np.array(v) for v in (e.ids, e.branch, e.cut, e.source))
        cells = rows * cols // 4
        for q, first, end, _ in e.answers:
            at, last = e.at[first], e.at[end - 1]
            limit = cut[at] if branch[at] else last + 1
            seen_by = [c for c in range(last + 1) if branch[c] == branch[at] or (branch[c] == 0 and c < limit)]
            chosen = np.array(seen_by)
            embeds = model.get_input_embeddings()(torch.tensor(ids[chosen]))
            for i, s in enumerate(source[chosen]):
                if s >= 0:
                    embeds[i] = seen[(s // CELLS) * cells + s % CELLS]
            positions = torch.tensor([e.positions[c] for c in chosen]).T[:, None]
            hidden = model.model.language_model(inputs_embeds=embeds[None], position_ids=positions, use_cache=False)
            places = np.searchsorted(chosen, e.at[first:end])
            theirs = model.lm_head(hidden.last_hidden_state)[0][places]
            torch.testing.assert_close(logits[answer + first : answer + end], theirs, atol=2e-5, rtol=0, msg=q.text)
        pair += e.pairs
        answer += len(e.at)


def test_prompts_are_the_chat_templates(packed: tuple[Packed, list[Episode]]) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(EMBEDDED_FOLDER)
    e = next(e for e in packed[1] if e.branches and e.answers)
    q, first, end, _ = e.answers[-1]
    at = e.at[first]
    if e.branch[at]:
        columns = [c for c in range(at + 1) if (e.branch[c] == 0 and c < e.cut[at]) or e.branch[c] == e.branch[at]]
        written = processor.tokenizer.decode([e.ids[c] for c in columns])
        while "<|video_pad|><|video_pad|>" in written:
            written = written.replace("<|video_pad|><|video_pad|>", "<|video_pad|>")
        content = [{"type": "video", "video": "v"}, {"type": "text", "text": q.text}]
        template = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        assert written.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
        assert written.endswith(template.split("<|vision_end|>")[1])
    assert e.target[end - 1] == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_training_goes_on_from_what_it_saved(trainer: Trainer, tmp_path: Path) -> None:
    trainer.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors"}
    held = [[p.detach().clone() for p in m.parameters()] for m in (trainer.model, trainer.helper)]
    with torch.no_grad():
        for p in (*trainer.model.parameters(), *trainer.helper.parameters(), *trainer.averaged):
            p.zero_()
    trainer.load(tmp_path)
    for module, before in zip((trainer.model, trainer.helper), held, strict=True):
        assert all(map(torch.equal, module.parameters(), before))
    assert all(map(torch.equal, trainer.averaged, held[0]))


def test_a_step_on_one_batch_lowers_its_loss(trainer: Trainer, packed: tuple[Packed, list[Episode]]) -> None:
    batch = packed[0]
    losses = [float(trainer.step(batch, 0.5, 0.3)[0]) for _ in range(2)]
    assert losses[-1] < losses[0]
