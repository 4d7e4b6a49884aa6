"""Write a run's averaged weights as a checkpoint that ``from_pretrained`` loads.

python -m training.export run2 stream_vl_ros/models/tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from training.shape import MERGE, PATCH, config
from training.tokenizer import CHAT_TEMPLATE

PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 13_000}
"""Pixels a frame is scaled into: 112x112, 84x112 (4:3), 84x140 (16:9) or 112x84 (3:4)."""


def export(run: Path, folder: Path) -> None:
    """Weights, configuration, generation configuration and processor files."""
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Qwen2_5_VLForConditionalGeneration(config(vocabulary)).to(torch.bfloat16)
    weights = load_file(run / "weights.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # The output layer is the embedding and is not stored twice.
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{run}: weights do not fit, missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    text = model.config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    shape = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2, "size": PIXELS}
    image, video = Qwen2VLImageProcessor(**shape), Qwen2VLVideoProcessor(**shape, cap_pixels_per_frame=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    Qwen2_5_VLProcessor(image, tokenizer, video, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    # Written apart as well, where older readers and the engine look for them.
    image.save_pretrained(folder)
    video.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    export(**vars(parser.parse_args()))
