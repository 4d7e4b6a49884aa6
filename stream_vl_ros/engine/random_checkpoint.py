"""A seeded random Qwen2.5-VL checkpoint, for trying the machinery where no weights are at hand.

It is a real checkpoint in a real folder, loaded like any other. Its answers mean nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

RANDOM_NAME = "seeded random checkpoint"

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The layout of Qwen2.5-VL's own template, without its tools and vision counting.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_RECIPE: dict[str, Any] = {
    "text": {
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        # Five times the usual spread: attention has an effect, so that a wrong position changes the answer.
        "initializer_range": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
    },
    "vision": {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.1,
        "tokens_per_second": 2,
    },
    "pixels": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112},
}


def random_checkpoint(seed: int = 0, *, model_type: str = "qwen2_5_vl", folder: Path | None = None) -> Path:
    """The folder of the checkpoint with this seed, made on first use.

    Args:
        model_type: ``"qwen2_5_vl"`` or ``"qwen2_vl"``.
        folder: where to keep it; default is the user's cache folder (``XDG_CACHE_HOME``).
    """
    recipe = json.dumps([_RECIPE, SPECIAL_TOKENS, CHAT_TEMPLATE, seed, model_type], sort_keys=True)
    root = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream_vl_ros"
    target = root / f"random-{model_type}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that two processes starting at once both find a whole checkpoint.
    work = Path(tempfile.mkdtemp(dir=root, prefix=".making-"))
    try:
        _write(work, seed, model_type)
        work.rename(target)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def _write(folder: Path, seed: int, model_type: str) -> None:
    import torch
    import transformers

    tokenizer = byte_tokenizer()
    processor_class: Any = {
        "qwen2_5_vl": transformers.Qwen2_5_VLProcessor,
        "qwen2_vl": transformers.Qwen2VLProcessor,
    }[model_type]
    processor_class(
        image_processor=transformers.Qwen2VLImageProcessor(size=_RECIPE["pixels"]),
        video_processor=transformers.Qwen2VLVideoProcessor(size=_RECIPE["pixels"]),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(model_type, tokenizer)
    model.save_pretrained(folder)


def byte_tokenizer() -> Any:
    """A tokenizer of bytes and special tokens."""
    import transformers
    from tokenizers import pre_tokenizers

    # All 256 bytes and nothing else: any text can be written, and nothing was learnt.
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    return transformers.Qwen2TokenizerFast(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
    )


def _model(model_type: str, tokenizer: Any) -> Any:
    import transformers

    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    text = _RECIPE["text"] | {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    tokens = {
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
    }
    model: Any
    if model_type == "qwen2_5_vl":
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=_RECIPE["vision"], **tokens)
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    else:
        vision = {
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 128,
            "num_heads": 2,
            "mlp_ratio": 2,
            "initializer_range": 0.1,
        }
        config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
        model = transformers.Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model
