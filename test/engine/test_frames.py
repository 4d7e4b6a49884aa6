"""Pictures to patches: the bits of transformers' own video processor, and its rule for sizes."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from stream_vl_ros.engine.frames import PatchGeometry, to_patches
from stream_vl_ros.engine.pictures import check_pixels, check_size
from stream_vl_ros.errors import FrameError

CPU = torch.device("cpu")
LIMITS = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}


@pytest.fixture(scope="module")
def processor():
    return transformers.Qwen2VLVideoProcessor(size=LIMITS)


@pytest.fixture(scope="module")
def geometry(processor) -> PatchGeometry:
    return PatchGeometry(
        patch=processor.patch_size,
        merge=processor.merge_size,
        temporal=processor.temporal_patch_size,
        min_pixels=LIMITS["shortest_edge"],
        max_pixels=LIMITS["longest_edge"],
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        rescale=processor.rescale_factor,
    )


def noise(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def native(processor, video: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    batch = processor(
        [torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)],
        do_sample_frames=False,
        cap_pixels_per_frame=False,
        return_tensors="pt",
    )
    return batch["pixel_values_videos"], batch["video_grid_thw"]


def assert_bit_identical(processor, geometry, video: np.ndarray, pictures: list[np.ndarray] | None = None) -> None:
    size = geometry.frame_size(*video.shape[1:3])
    patches, grid = to_patches(pictures or list(video), size, geometry, CPU)
    expected, expected_grid = native(processor, video)
    assert patches.dtype == torch.float32
    assert torch.equal(grid, expected_grid)
    assert torch.equal(patches, expected)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 8])
def test_every_number_of_frames(processor, geometry, frames):
    assert_bit_identical(processor, geometry, noise(frames, 70, 90))


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (56, 56),  # nothing to resize
        (84, 112),
        (240, 320),
        (243, 321),
        (481, 77),
        (1, 1),
        (1, 200),
        (200, 1),
        (3, 500),
        (900, 30),
        (27, 29),
        (720, 1280),
    ],
)
def test_every_size(processor, geometry, height, width):
    assert_bit_identical(processor, geometry, noise(3, height, width, seed=height))


@pytest.mark.parametrize("height", [56, 100])
def test_arrays_of_any_layout(processor, geometry, height):
    video = noise(2, height, 56)
    channels_first = np.ascontiguousarray(video.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    wide = noise(2, height, 112)
    assert_bit_identical(processor, geometry, video, list(channels_first))
    assert_bit_identical(processor, geometry, video[:, ::-1, ::-1], list(video[:, ::-1, ::-1]))
    assert_bit_identical(processor, geometry, wide[:, :, ::2], list(wide[:, :, ::2]))
    assert_bit_identical(processor, geometry, video[..., ::-1], list(video[..., ::-1]))


@pytest.fixture
def warn_always():
    """PyTorch warns about a thing once per process otherwise."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize("size", [(56, 56), (100, 80)])
def test_arrays_that_may_not_be_written_to(geometry, size):
    # PIL and the bytes of a message give such ones.
    picture = np.asarray(Image.fromarray(noise(1, *size)[0]))
    assert not picture.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patches, _ = to_patches([picture, picture], (56, 56), geometry, CPU)
    assert torch.equal(patches, to_patches([picture.copy()] * 2, (56, 56), geometry, CPU)[0])


def test_the_pictures_are_not_changed(geometry):
    video = noise(2, 56, 56)
    before = video.copy()
    to_patches(list(video), (56, 56), geometry, CPU)
    assert np.array_equal(video, before)


def test_pictures_of_different_sizes_are_brought_to_one(geometry):
    small, large = noise(1, 60, 60)[0], noise(1, 100, 150)[0]
    patches, grid = to_patches([small, large, large], (84, 56), geometry, CPU)
    assert grid.tolist() == [[2, 6, 4]]
    one, _ = to_patches([small, small], (84, 56), geometry, CPU)
    other, _ = to_patches([large, large], (84, 56), geometry, CPU)
    half = geometry.patch**2
    pair = patches[:24].view(24, 3, 2, half)
    assert torch.equal(pair[:, :, 0], one.view(24, 3, 2, half)[:, :, 0])
    assert torch.equal(pair[:, :, 1], other.view(24, 3, 2, half)[:, :, 1])
    assert torch.equal(patches[24:], other)


@settings(deadline=None, max_examples=300)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    lower=st.integers(1, 300_000),
    upper=st.integers(1, 2_000_000),
    factor=st.sampled_from([(14, 2), (16, 2), (14, 1), (7, 3)]),
)
def test_sizes_by_the_rule_of_transformers(geometry, height, width, lower, upper, factor):
    assume(max(height, width) <= 200 * min(height, width) and lower <= upper)
    cut = replace(geometry, patch=factor[0], merge=factor[1], min_pixels=lower, max_pixels=upper)
    size = cut.frame_size(height, width)
    assert size == smart_resize(height, width, cut.factor, lower, upper)
    assert size == cut.frame_size(height, width, max_pixels=upper)
    assert size[0] % cut.factor == size[1] % cut.factor == 0
    assert min(size) > 0


@given(height=st.integers(100, 2000), width=st.integers(100, 2000), budget=st.integers(60 * 60, 10**6))
def test_a_budget_of_ones_own_replaces_the_checkpoints(geometry, height, width, budget):
    assume(max(height, width) <= 2 * min(height, width))
    size = geometry.frame_size(height, width, max_pixels=budget)
    assert size == smart_resize(height, width, geometry.factor, min(geometry.min_pixels, budget), budget)
    assert size[0] * size[1] <= budget


def test_a_budget_below_the_smallest_picture(geometry):
    assert geometry.frame_size(480, 640, max_pixels=1) == (28, 28)


def test_grid(geometry):
    assert geometry.factor == 28
    assert geometry.grid(84, 140) == (3, 5)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (0, 0), (-1, 5)])
def test_an_empty_picture(height, width):
    with pytest.raises(FrameError, match=f"{width}x{height}.*driver") as raised:
        check_size(height, width)
    assert raised.value.reason == "zero_size"


@pytest.mark.parametrize(("height", "width"), [(1, 201), (2001, 10)])
def test_too_narrow_a_picture(geometry, height, width):
    with pytest.raises(FrameError, match=f"{width}x{height}.*200.*crop") as raised:
        geometry.frame_size(height, width)
    assert raised.value.reason == "aspect_ratio"
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(height, width)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 1), np.uint8),
        np.zeros((2, 5, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5, 3), np.int8),
    ],
    ids=lambda p: f"{p.dtype}{p.shape}",
)
def test_arrays_that_are_no_picture(pixels):
    with pytest.raises(FrameError, match="expected uint8") as raised:
        check_pixels(pixels)
    assert raised.value.reason == "bad_array"
    assert str(tuple(pixels.shape)) in str(raised.value) and str(pixels.dtype) in str(raised.value)


def test_a_picture_is_checked_for_its_size_too():
    check_pixels(np.zeros((1, 200, 3), np.uint8))
    with pytest.raises(FrameError):
        check_pixels(np.zeros((0, 5, 3), np.uint8))
