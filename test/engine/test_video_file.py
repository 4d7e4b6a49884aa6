"""Video files: the frames of qwen-vl-utils, and native answers about them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from qwen_vl_utils import vision_process as reference

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import StreamConfig, load_model, open_video, watch_file
from stream_vl_ros.engine.adapters.qwen2_vl import VIDEO_MAX_PIXELS
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.errors import VideoError

CLIPS = ("bikes", "carphone", "bigbuckbunny")
QUESTION = "What is visible now?"


def fetched(path, monkeypatch, **options):
    """What the reference code makes of a file."""
    if importlib.util.find_spec("decord") is None:
        pytest.skip("decord is not installed, the reader of qwen-vl-utils: there are wheels for x86-64 alone")
    monkeypatch.setattr(reference, "FORCE_QWENVL_VIDEO_READER", "decord")
    reference.get_video_reader_backend.cache_clear()
    return reference.fetch_video(
        {"video": str(path), **options}, return_video_sample_fps=True, return_video_metadata=True
    )


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("clip", CLIPS)
def test_frames_are_those_of_the_reference(footage, monkeypatch, clip, fps):
    path = footage(clip)
    (_, metadata), cadence = fetched(path, monkeypatch, fps=fps)
    file = open_video(path, fps=fps)
    assert list(metadata["frames_indices"]) == list(file.numbers)
    assert file.fps == cadence
    decoded, _, _ = reference._read_video_decord({"video": str(path), "fps": fps})
    pictures = [pixels for pixels, _ in file]
    assert len(pictures) == len(file) == len(decoded)
    for ours, theirs in zip(pictures, decoded.permute(0, 2, 3, 1).numpy(), strict=True):
        # Two builds of FFmpeg may round a colour differently.
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


@pytest.mark.parametrize(("start", "end"), [(2.0, None), (0.0, 4.0), (1.5, 7.25)])
def test_a_part_of_a_file_is_that_of_the_reference(footage, monkeypatch, start, end):
    path = footage("bikes")
    span = {"video_start": start} | ({} if end is None else {"video_end": end})
    (_, metadata), cadence = fetched(path, monkeypatch, **span)
    file = open_video(path, start=start, end=end)
    assert (list(file.numbers), file.fps) == (list(metadata["frames_indices"]), cadence)


def test_pixel_budgets_are_those_of_the_reference(footage, monkeypatch):
    assert VIDEO_MAX_PIXELS == reference.VIDEO_MAX_TOKEN_NUM * 28 * 28
    (video, _), _ = fetched(footage("bigbuckbunny"), monkeypatch)
    file = open_video(footage("bigbuckbunny"))
    size = reference.smart_resize(720, 1280, 28, max_pixels=file.max_pixels)
    assert size == tuple(video.shape[2:])
    # The longer a video, the smaller its frames.
    monkeypatch.setattr(reference, "MODEL_SEQ_LEN", 4000)
    (video, _), _ = fetched(footage("bigbuckbunny"), monkeypatch)
    smaller = open_video(footage("bigbuckbunny"))
    assert smaller.max_pixels < file.max_pixels
    assert reference.smart_resize(720, 1280, 28, max_pixels=smaller.max_pixels) == tuple(video.shape[2:])


def test_answers_about_a_file_are_native(footage):
    model, native = load_model("embedded", device="cpu", dtype="float32"), NativeModel(str(EMBEDDED_FOLDER))
    seen = []
    stream = watch_file(model, footage("bikes"), tick=lambda done, total: seen.append((done, total)))
    file = open_video(footage("bikes"))
    assert seen == [(i + 1, len(file)) for i in range(len(file))]
    video = np.stack([pixels for pixels, _ in file])
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video], file.fps)
    expected = native.generate(inputs, 12, text_base="trained")
    assert stream.ask(QUESTION, max_new_tokens=12).token_ids == expected.token_ids


def test_other_settings_hold(footage):
    model = load_model("embedded", device="cpu", dtype="float32")
    config = StreamConfig(eviction="window", budget_tokens=100, max_pixels=4000)
    stream = watch_file(model, footage("carphone"), fps=10.0, config=config)
    assert stream.cache.length <= 100
    assert stream.frame_size is not None and stream.frame_size[0] * stream.frame_size[1] <= 4000


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"start": 99.0}, "no frames can be chosen"), ({"end": 0.01}, "no frames can be chosen"), ({"fps": 0.0}, "")],
)
def test_spans_without_frames(footage, options, reason):
    if not reason:  # the reference takes four frames at least
        assert len(open_video(footage("carphone"), **options)) == 4
        return
    with pytest.raises(VideoError, match=reason):
        open_video(footage("carphone"), **options)


def test_what_is_no_video(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        open_video(tmp_path / "street.mp4")
    (tmp_path / "street.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(tmp_path / "street.mp4")
