"""cv_bridge for what is left.

cv_bridge comes with ROS and not from PyPI, so a small module stands in for it here. What these tests show is how it is
found and called, and what happens when it does not work; not what it makes of a picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros import bridge
from stream_vl_ros.ros.images import to_rgb

PICTURE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


@pytest.fixture(autouse=True)
def looked_for_again() -> Iterator[None]:
    bridge.find_bridge.cache_clear()
    yield
    bridge.find_bridge.cache_clear()


class FakeBridge(ModuleType):
    """As much of cv_bridge's Python side as is used."""

    def __init__(self, result: object = PICTURE, broken: Exception | None = None) -> None:
        super().__init__("cv_bridge")
        self.calls: list[tuple[object, str]] = []
        self.made = 0
        fake = self

        class CvBridge:
            def __init__(self) -> None:
                fake.made += 1

            def encoding_to_cvtype2(self, encoding: str) -> int:
                if broken is not None:
                    raise broken
                return {"rgb8": 16}[encoding]

            def imgmsg_to_cv2(self, message: object, encoding: str) -> object:
                fake.calls.append((message, encoding))
                if isinstance(result, Exception):
                    raise result
                return result

        self.CvBridge = CvBridge


def message(encoding: str) -> SimpleNamespace:
    return SimpleNamespace(height=2, width=3, encoding=encoding, is_bigendian=0, step=24, data=bytes(48))


def refused(encoding: str, reason: str = "unknown_encoding") -> str:
    with pytest.raises(FrameError) as raised:
        to_rgb(message(encoding))
    assert raised.value.reason == reason
    return str(raised.value)


def test_it_is_asked_for_rgb8(monkeypatch):
    fake = FakeBridge()
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    image = message("of_the_future")
    rgb = to_rgb(image)
    assert np.array_equal(rgb, PICTURE)
    assert rgb.flags.c_contiguous
    assert not np.shares_memory(rgb, PICTURE)
    assert len(fake.calls) == 1
    assert fake.calls[0][0] is image
    assert fake.calls[0][1] == "rgb8"


@pytest.mark.parametrize("result", [np.asfortranarray(PICTURE), np.flip(PICTURE, 2)])
def test_a_result_that_is_not_contiguous(monkeypatch, result):
    monkeypatch.setitem(sys.modules, "cv_bridge", FakeBridge(result))
    rgb = to_rgb(message("of_the_future"))
    assert np.array_equal(rgb, result)
    assert rgb.flags.c_contiguous


def test_it_is_not_asked_for_what_is_known(monkeypatch):
    fake = FakeBridge()
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    to_rgb(message("bgr8"))
    with pytest.raises(FrameError):
        to_rgb(SimpleNamespace(**{**vars(message("bgr8")), "step": 1}))
    assert (fake.made, fake.calls) == (0, [])


def test_it_is_made_once(monkeypatch):
    fake = FakeBridge()
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    for _ in range(3):
        to_rgb(message("of_the_future"))
    assert (fake.made, len(fake.calls)) == (1, 3)


def test_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setenv("ROS_DISTRO", "lyrical")
    assert bridge.find_bridge() == bridge.Bridge(None, "")
    assert "install ros-lyrical-cv-bridge" in refused("of_the_future")
    monkeypatch.delenv("ROS_DISTRO")
    assert "install ros-<distro>-cv-bridge" in refused("of_the_future")


@pytest.mark.parametrize(
    "error", ["AttributeError('_ARRAY_API not found')", "ImportError('numpy.core')", "SystemError('initialization')"]
)
def test_an_import_that_fails(monkeypatch, tmp_path, error):
    (tmp_path / "cv_bridge").mkdir()
    (tmp_path / "cv_bridge" / "__init__.py").write_text(
        f"import builtins\nbuiltins.imports_seen.append(1)\nraise {error}\n"
    )
    seen: list[int] = []
    monkeypatch.setattr("builtins.imports_seen", seen, raising=False)
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    name, text = error[:-2].split("('")
    for _ in range(3):
        assert f"is installed but does not work ({name}: {text})" in refused("of_the_future")
    assert len(seen) == 1


def test_a_binary_half_that_does_not_load(monkeypatch):
    fake = FakeBridge(broken=AttributeError("_ARRAY_API not found"))
    monkeypatch.setitem(sys.modules, "cv_bridge", fake)
    assert "is installed but does not work (AttributeError: _ARRAY_API not found)" in refused("of_the_future")
    assert fake.calls == []


def test_without_opencv(monkeypatch):
    missing = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    monkeypatch.setitem(sys.modules, "cv_bridge", FakeBridge(broken=missing))
    assert "is installed but does not work (ModuleNotFoundError: No module named 'cv2')" in refused("of_the_future")


def test_an_encoding_that_it_does_not_know_either(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", FakeBridge(RuntimeError("Unrecognized image encoding [nonsense]")))
    text = refused("nonsense")
    assert "'nonsense'" in text
    assert "(RuntimeError: Unrecognized image encoding [nonsense])" in text
    assert "rgb8, bgr8" in text


@pytest.mark.parametrize("result", [None, PICTURE[:, :, 0], PICTURE.astype(np.uint16), PICTURE[:0]])
def test_a_result_that_is_no_picture(monkeypatch, result):
    monkeypatch.setitem(sys.modules, "cv_bridge", FakeBridge(result))
    refused("of_the_future", "zero_size" if isinstance(result, np.ndarray) and result.size == 0 else "bad_array")
