"""Which model a memory belongs to: what its configuration and its weights are, each as a checksum.

The keys and values of a cache mean nothing to any other weights, and nothing in them would tell.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.saved.tensor_file import Turn, at_once

# Bytes of weights up to which all of them go into the checksum one by one.
WHOLE = 64 * 2**20
# Of a larger model's tensors: so many elements, spread evenly, beside the sum of all.
_SAMPLE = 4096
_PIECE = 2**22

# What changes the arithmetic. Names that a family does not have are left out.
_TEXT = (
    "hidden_act", "hidden_size", "intermediate_size", "layer_types", "max_position_embeddings", "num_attention_heads",
    "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "sliding_window",
    "use_sliding_window", "vocab_size",
)  # fmt: skip
_VISION = (
    "depth", "embed_dim", "fullatt_block_indexes", "hidden_act", "hidden_size", "in_channels", "intermediate_size",
    "mlp_ratio", "num_heads", "out_hidden_size", "patch_size", "spatial_merge_size", "temporal_patch_size",
    "tokens_per_second", "window_size",
)  # fmt: skip
_WHOLE_CONFIG = ("image_token_id", "model_type", "video_token_id", "vision_end_token_id", "vision_start_token_id")

# By the model object: weights do not change once they are loaded.
_known: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Identity:
    """A model's checksums, SHA-256 in hex.

    Attributes:
        config: of what in the configuration, and in that of the processor, changes the arithmetic.
        weights: of names, shapes, dtypes and values of all parameters. Of weights of more than `WHOLE` bytes each
            tensor counts with 4,096 of its elements and the sum of the bit patterns of all.
    """

    config: str
    weights: str


def identity(model: LoadedModel, turn: Turn) -> Identity:
    """The identity of a loaded model; `turn` is asked if its weights are not on the CPU. From any thread."""
    # No lock: it would be held while a turn is waited for, and two threads that find the same do no harm.
    weights = _known.get(model.native)
    if weights is None:
        parameters = dict(model.native.named_parameters())
        on_cpu = all(p.device.type == "cpu" for p in parameters.values())
        weights = (at_once if on_cpu else turn)(lambda: weights_checksum(parameters))
        _known[model.native] = weights
    return Identity(config_checksum(model), weights)


def config_checksum(model: LoadedModel) -> str:
    """See `Identity.config`."""
    config, adapter = model.native.config, model.adapter
    told = {
        "whole": _some(config, _WHOLE_CONFIG),
        "text": _some(config.text_config, _TEXT),
        "vision": _some(config.vision_config, _VISION),
        "trained_positions": adapter.trained_positions,
        "pictures": asdict(adapter.geometry),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@torch.inference_mode()
def weights_checksum(parameters: dict[str, Tensor], whole: int = WHOLE) -> str:
    """See `Identity.weights`; up to `whole` bytes count one by one."""
    all_of_it = sum(p.numel() * p.dtype.itemsize for p in parameters.values()) <= whole
    digest = hashlib.sha256()
    for name in sorted(parameters):
        tensor = parameters[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        bits = tensor.detach().reshape(-1).view(_bits(tensor.dtype))
        if not all_of_it:
            # In pieces: a sum in another dtype makes a copy first.
            pieces = (bits[i : i + _PIECE] for i in range(0, bits.numel(), _PIECE))
            total = sum(int(piece.sum(dtype=torch.int64).item()) for piece in pieces)
            digest.update(str(total).encode())
            step = max(1, bits.numel() // _SAMPLE)
            bits = torch.cat((bits[::step], bits[-1:]))
        digest.update(bits.contiguous().cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _bits(dtype: torch.dtype) -> torch.dtype:
    return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]


def _some(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
