"""A video file is data: one that is really a list of other files does not open them."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from stream_vl_ros.errors import VideoError
from stream_vl_ros.video import Video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    path = tmp_path / "secret" / "video.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for level in range(5):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_the_video_itself_opens(video):
    assert sum(1 for _ in Video(video).pictures()) == 5


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/video.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {video}\n",
        "ffconcat version 1.0\nfile ../secret/video.ts\n",
    ],
    ids=["hls", "hls of a network", "concat", "concat above"],
)
def test_a_playlist_under_a_videos_name(tmp_path, video, text):
    shutil.copy(video, tmp_path / "beside.ts")
    folder = tmp_path / "uploads"
    folder.mkdir()
    path = folder / "upload.mp4"
    path.write_text(text.replace("{video}", str(video)))
    with pytest.raises(VideoError):
        list(Video(path).pictures())
