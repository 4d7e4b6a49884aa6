"""uint8 pictures to the patches that the vision tower eats.

The same arithmetic as transformers' Qwen2-VL video processor (bicubic resize with antialiasing on uint8,
rescale and normalise in one step in float32, patches of 2 frames x 14 x 14 pixels in merge order), on any device
and with the size fixed once per stream: the processor chooses the size by the number of frames it gets,
and a stream has no such number.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from stream_vl_ros.engine.pictures import check_size


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream.

    Attributes:
        pixels: uint8, (height, width, 3), RGB.
        stamp_ns: when it was taken, nanoseconds since any fixed moment (a header stamp).
        time_ns: its place on the time axis of its span, nanoseconds; the sampler snaps it to the nominal cadence.
        span: number of that stretch of time; frames of two spans are two videos.
    """

    pixels: np.ndarray
    stamp_ns: int
    time_ns: int
    span: int = 0


@dataclass(frozen=True, slots=True)
class PatchGeometry:
    """How a checkpoint cuts pictures: sizes in pixels or frames, colours scaled to [0, 1]."""

    patch: int
    merge: int
    temporal: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float

    @property
    def factor(self) -> int:
        return self.patch * self.merge

    def frame_size(self, height: int, width: int, max_pixels: int = 0) -> tuple[int, int]:
        """Height and width, in pixels, to which pictures of this size are resized.

        Both are multiples of `factor`, their product lies within the checkpoint's limits (or below `max_pixels`
        if that is given), and the aspect ratio is kept as well as that allows: the rule that Qwen2-VL was
        trained with (`smart_resize` of its reference code, qwen-vl-utils).
        """
        check_size(height, width)
        upper = max_pixels or self.max_pixels
        lower = max(1, min(self.min_pixels, upper))
        f = self.factor
        h, w = round(height / f) * f, round(width / f) * f
        if h * w > upper:
            scale = math.sqrt(height * width / upper)
            h = max(f, math.floor(height / scale / f) * f)
            w = max(f, math.floor(width / scale / f) * f)
        elif h * w < lower:
            scale = math.sqrt(lower / (height * width))
            h = math.ceil(height * scale / f) * f
            w = math.ceil(width * scale / f) * f
        return h, w

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Merged rows and columns (visual tokens) of a resized frame of this size in pixels."""
        return height // self.factor, width // self.factor


def to_patches(
    frames: list[np.ndarray],
    size: tuple[int, int],
    geometry: PatchGeometry,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Resize, normalise and cut pictures.

    Args:
        frames: uint8 arrays (height, width, 3); they need not have the same size. If their number is not a
            multiple of the temporal patch, the last one is repeated, as the model's own processor does.
        size: height and width in pixels to resize to, multiples of `geometry.factor`.
        dtype: of the patches. Everything is computed in float32 and rounded at the end.

    Returns:
        patches, (T * H * W, 3 * temporal * patch * patch), in the order in which each merge x merge block of patches is
        contiguous, and the grid (T, H, W) in patches, int64 of shape (1, 3), on the CPU.
    """
    missing = -len(frames) % geometry.temporal
    pictures = [*frames, *frames[-1:] * missing]
    mean, std = _colours(geometry, device)
    video = torch.empty(len(pictures), 3, *size, dtype=dtype, device=device)
    # One after the other: large pictures in float32 take more memory than all that is made of them.
    for i, picture in enumerate(pictures):
        if i and picture is pictures[i - 1]:
            video[i] = video[i - 1]
        else:
            video[i] = _resized(picture, size, device).to(torch.float32).sub_(mean).div_(std)
    t, p, m = geometry.temporal, geometry.patch, geometry.merge
    n, channels, height, width = video.shape
    grid = (n // t, height // p, width // p)
    cut = video.view(grid[0], t, channels, grid[1] // m, m, p, grid[2] // m, m, p)
    patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), channels * t * p * p)
    return patches, torch.tensor([grid])


@functools.lru_cache(maxsize=8)
def _colours(geometry: PatchGeometry, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel in grey levels, float32 (3, 1, 1)."""
    scaled = [torch.tensor(x)[:, None, None] * (1.0 / geometry.rescale) for x in (geometry.mean, geometry.std)]
    return scaled[0].to(device), scaled[1].to(device)


def _resized(picture: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """uint8 (3, height, width) of this size, on the device."""
    tensor = _on(device, picture).permute(2, 0, 1)
    if tuple(tensor.shape[-2:]) == size:
        return tensor
    resized: Tensor = tvf.resize(tensor, list(size), interpolation=tvf.InterpolationMode.BICUBIC, antialias=True)
    return resized


def _on(device: torch.device, picture: np.ndarray) -> Tensor:
    """The picture on the device; a GPU's copy goes on behind what it still does, and nobody waits for it."""
    staged = _pinned(picture) if device.type == "cuda" else None
    if staged is not None:
        return staged.to(device, non_blocking=True)
    # PyTorch takes no read-only arrays, such as PIL's or the bytes of a message: those are copied.
    return torch.from_numpy(np.require(picture, requirements=["C", "W"])).to(device)


def _pinned(picture: np.ndarray) -> Tensor | None:
    """A copy that a GPU can fetch by itself; None where there is no such memory."""
    try:
        staged = torch.empty(picture.shape, dtype=torch.uint8, pin_memory=True)
    except RuntimeError:
        return None
    # Not PyTorch's copy: its threads go on spinning beside the one that launches kernels.
    np.copyto(staged.numpy(), picture)
    return staged
