"""Models of real sizes with random weights: how fast they run does not depend on what they know."""

from __future__ import annotations

from typing import Any

import torch

from stream_vl_ros.engine.adapters import ADAPTERS
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.random_checkpoint import CHAT_TEMPLATE, SPECIAL_TOKENS, byte_tokenizer

_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
    "tokens_per_second": 2,
}
_TEXT = {"max_position_embeddings": 128_000, "rms_norm_eps": 1e-6}

# As the configurations of Qwen2.5-VL-3B-Instruct and -7B-Instruct have them, and one for trying this out.
SHAPES: dict[str, dict[str, Any]] = {
    "3b": {
        "text": {"hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16,
                 "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True, **_TEXT},
        "vision": {**_VISION, "out_hidden_size": 2048},
        "sections": [16, 24, 24],
    },
    "7b": {
        "text": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
                 "num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False, **_TEXT},
        "vision": {**_VISION, "out_hidden_size": 3584},
        "sections": [16, 24, 24],
    },
    "tiny": {
        "text": {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True, **_TEXT},
        "vision": {**_VISION, "depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2,
                   "out_hidden_size": 128, "fullatt_block_indexes": [1]},
        "sections": [4, 6, 6],
    },
}  # fmt: skip


def build(shape: str, device: torch.device, dtype: torch.dtype, pixels: int) -> tuple[Any, Any]:
    """A model of transformers' own and its processor; pictures of up to `pixels` pixels keep their size."""
    import transformers

    sizes = SHAPES[shape]
    tokenizer = byte_tokenizer()
    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sizes["sections"]}
    # No token ends an answer: all answers have the length that they are measured at.
    text = sizes["text"] | {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=sizes["vision"],
        tie_word_embeddings=text["tie_word_embeddings"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    with device:
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.to(device).eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    size = {"shortest_edge": 56 * 56, "longest_edge": pixels}
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(size=size),
        video_processor=transformers.Qwen2VLVideoProcessor(size=size),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )
    return model, processor


def loaded(shape: str, model: Any, processor: Any) -> LoadedModel:
    """The model as the engine takes it."""
    adapter = ADAPTERS["qwen2_5_vl"](model, processor)
    return LoadedModel(f"random weights, {shape} shape", adapter, processor, processor.tokenizer, frozenset(), model)
