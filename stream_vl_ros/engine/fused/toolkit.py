"""Triton where it is installed; the few helpers that all kernels share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    HAS_TRITON = True
except ImportError:  # PyTorch for this processor comes without it
    triton = None

    class _NoTriton:
        constexpr = Any

    tl = _NoTriton()
    HAS_TRITON = False

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

    _HAS_EARLY = True
except ImportError:  # an older Triton
    gdc_launch_dependents = gdc_wait = None
    _HAS_EARLY = False

# Kernels run in Python on CPU tensors: for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


def jit(*plain: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a kernel; without Triton it cannot be launched.

    The arguments named in `plain` are numbers whose value does not matter: no kernel is compiled for 1 or for 16 alone.
    """

    def make(function: Callable[..., Any]) -> Any:
        return triton.jit(function, do_not_specialize=list(plain)) if HAS_TRITON else function

    return make


def uses_kernels(x: Tensor) -> bool:
    """Whether the kernels run on tensors like this one; the definitions do everywhere."""
    return HAS_TRITON and (x.is_cuda or (INTERPRETED and x.device.type == "cpu"))


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n`."""
    return 1 << max(0, n - 1).bit_length()


def cdiv(a: int, b: int) -> int:
    """How many blocks of `b` cover `a`."""
    return -(-a // b)


def precision(dtype: torch.dtype) -> str:
    """What a kernel's matrix products must not round to: float32 stays float32."""
    return "ieee" if dtype == torch.float32 else "tf32"


def is_hopper(device: torch.device) -> bool:
    """Whether it is a GPU of that generation or a later one."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def starts_early(device: torch.device) -> bool:
    """Whether a kernel can be started before the one in front of it has ended (programmatic dependent launch).

    It waits for that one's results itself, and until then loads what does not depend on them.
    """
    return _HAS_EARLY and is_hopper(device)


def launch_options(early: bool) -> dict[str, bool]:
    """Options of a launch that may start early."""
    return {"launch_pdl": True} if early else {}


__all__ = [
    "HAS_TRITON",
    "INTERPRETED",
    "cdiv",
    "gdc_launch_dependents",
    "gdc_wait",
    "is_hopper",
    "jit",
    "launch_options",
    "power_of_two",
    "precision",
    "starts_early",
    "tl",
    "uses_kernels",
]
