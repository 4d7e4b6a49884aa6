"""The shape of stream-vl-tiny: a Qwen2.5-VL configuration of a few million parameters."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

HIDDEN = 256
LAYERS = 8
HEADS = 4
KV_HEADS = 2
HEAD_DIM = HIDDEN // HEADS
VISION_HIDDEN = 160
VISION_HEADS = 5
VISION_DEPTH = 4
FULL_ATTENTION = (1, 3)
PATCH = 14
MERGE = 2
WINDOW = 112
TOKENS_PER_SECOND = 2
VOCABULARY = 1024
ROPE_THETA = 2000.0
MROPE_SECTION = [2, 1, 1] * 8
"""Frequencies go to time, height and width in turn, two for time: each axis gets fast and slow ones.

Qwen's three-part split would leave height and width with slow frequencies alone, which tell nothing
apart over four positions.
"""


def config(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    """The configuration; special token ids are read off the tokenizer."""

    def token(text: str) -> int:
        found = tokenizer.token_to_id(text)
        if found is None:
            raise ValueError(f"the tokenizer lacks {text}")
        return int(found)

    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": ROPE_THETA,
                "mrope_section": MROPE_SECTION,
            },
        },
        vision_config={
            "depth": VISION_DEPTH,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": 384,
            "num_heads": VISION_HEADS,
            "out_hidden_size": HIDDEN,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": WINDOW,
            "fullatt_block_indexes": list(FULL_ATTENTION),
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        # For the engine: 63 s of video at two positions a second, and text before and behind it.
        trained_positions=192,
    )


def fresh(tokenizer: Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A model with new weights in float32."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config(tokenizer)).float()
    # The output layer is the embedding: small rows keep the first logits near uniform.
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0, 0.02)
    return model
