"""Model families, by the `model_type` of their configuration."""

from __future__ import annotations

from stream_vl_ros.engine.adapters.base import AdapterFactory, ModelAdapter
from stream_vl_ros.engine.adapters.qwen2_vl import Qwen2VLAdapter, Qwen25VLAdapter

ADAPTERS: dict[str, AdapterFactory] = {"qwen2_5_vl": Qwen25VLAdapter, "qwen2_vl": Qwen2VLAdapter}

__all__ = ["ADAPTERS", "ModelAdapter"]
