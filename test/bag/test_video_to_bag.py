"""Real footage becomes a bag."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.video_to_bag import main
from stream_vl_ros.errors import ConfigError, VideoError
from stream_vl_ros.video import Video, VideoOptions

Footage = Callable[[str], Path]
ORIGIN = 1_700_000_000_000_000_000


def _stamps(path: Path) -> list[int]:
    with BagReader(path) as bag:
        return [m.stamp - ORIGIN for m in bag.messages(bag.image_topic())]


def _times(path: Path) -> list[Fraction]:
    """Frame times by the container's packets alone, without decoding."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts * p.time_base for p in container.demux(stream) if p.pts is not None)
    return [t - times[0] for t in times]


@pytest.mark.parametrize(("name", "storage"), [("bikes", "mcap"), ("carphone", "sqlite3")])
def test_every_frame_with_its_own_time(footage: Footage, tmp_path: Path, name: str, storage: str) -> None:
    video = footage(name)
    assert main([str(video), "--out", str(tmp_path / "bag"), "--storage", storage, "--size", "64x48"]) == 0
    assert _stamps(tmp_path / "bag") == [round(t * 10**9) for t in _times(video)]


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_pixels(footage: Footage, tmp_path: Path, encoding: str) -> None:
    video = footage("vtest")
    arguments = ["--out", str(tmp_path / "bag"), "--start", "2", "--duration", "0.3", "--encoding", encoding]
    assert main([str(video), *arguments, "--topic", "/street/image", "--frame-id", "pole"]) == 0
    with av.open(str(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(23), strict=False)]
    with BagReader(tmp_path / "bag") as bag:
        topic = bag.image_topic("/street/image")
        images = [bag.decode(topic, m) for m in bag.messages(topic)]
    assert [i.header.stamp.nanosec for i in images] == [0, 100_000_000, 200_000_000]  # type: ignore[attr-defined]
    for image, frame in zip(images, frames[20:], strict=True):
        assert (image.encoding, image.header.frame_id, image.step) == (encoding, "pole", 3 * 768)  # type: ignore[attr-defined]
        pixels = image.data.reshape(576, 768, 3)  # type: ignore[attr-defined]
        assert np.array_equal(pixels if encoding == "rgb8" else pixels[..., ::-1], frame)


def test_fewer_frames_per_second(footage: Footage, tmp_path: Path) -> None:
    video = footage("carphone")
    assert main([str(video), "--out", str(tmp_path / "bag"), "--fps", "10", "--size", "32x32"]) == 0
    stamps = _stamps(tmp_path / "bag")
    # 29.97 frames a second: kept frames have the times of real frames, and their mean rate is 10 Hz.
    assert set(stamps) <= {round(t * 10**9) for t in _times(video)}
    assert len(stamps) == 40
    assert all(0 <= s - i * 10**8 < 34_000_000 for i, s in enumerate(stamps))


def test_a_rate_above_the_video_invents_nothing(footage: Footage) -> None:
    options = VideoOptions(fps=1000.0, size=(16, 16))
    assert sum(1 for _ in Video(footage("carphone"), options).pictures()) == 120


def test_rotated_video_stands_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, 48:] = 255
        for _ in range(3):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode(None))
    content = path.read_bytes()
    # The track's display matrix, as a phone held upright writes it: a quarter turn clockwise.
    upright, turned = (
        np.array(m, ">i4").tobytes()
        for m in (
            [65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30],
            [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30],
        )
    )
    track = content.index(b"tkhd")
    at = content.index(upright, track)
    path.write_bytes(content[:at] + turned + content[at + len(turned) :])
    pixels = next(Video(path).pictures()).pixels
    assert pixels.shape == (64, 32, 3)
    # What was at the right of the stored picture is at the bottom after a clockwise turn.
    assert pixels[56:].mean() > 200 and pixels[:40].mean() < 50
    assert next(Video(path, VideoOptions(size=(24, 48))).pictures()).pixels.shape == (48, 24, 3)


def test_refuses_to_overwrite(footage: Footage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(footage("carphone")), "--out", str(tmp_path / "bag"), "--duration", "0.2", "--size", "16x16"]
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_damaged_video_leaves_no_bag(footage: Footage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    broken.write_bytes(footage("vtest").read_bytes()[:300])
    command = [sys.executable, "-m", "stream_vl_ros.bag.video_to_bag", str(broken), "--out", str(tmp_path / "bag")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("video_to_bag: ") and str(broken) in done.stderr and "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == [broken]


def test_errors_name_the_reason(footage: Footage, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="does not exist"):
        Video(tmp_path / "no.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        Video(tmp_path / "text.mp4")
    with pytest.raises(VideoError, match=r"no frame from 99 s on; it lasts 4\.0"):
        list(Video(footage("carphone"), VideoOptions(start=99.0)).pictures())
    with pytest.raises(ConfigError, match="fps is 0"):
        VideoOptions(fps=0)


@pytest.mark.parametrize("stamp", ["-5", "nan", "inf", "1e10", "noon"])
def test_a_stamp_that_no_header_holds(capsys: pytest.CaptureFixture[str], stamp: str) -> None:
    with pytest.raises(SystemExit):
        main(["street.mp4", f"--stamp-origin={stamp}"])
    assert f"'{stamp}': give seconds from 0 to" in capsys.readouterr().err
