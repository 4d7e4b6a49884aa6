"""Write pictures as an ordinary bag of `sensor_msgs/msg/Image`, for `ros2 bag play` and everything else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from stream_vl_ros.bag.serialized import IMAGE, serialized_image, typestore
from stream_vl_ros.errors import BagError

if TYPE_CHECKING:
    from typing_extensions import Self

Encoding = Literal["rgb8", "bgr8"]
Storage = Literal["mcap", "sqlite3"]
_PLUGINS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# Up to version 8 the QoS is a string, from 9 on a list that Humble cannot parse. Every distribution reads 8.
_METADATA_VERSION: Literal[8] = 8
_FOREVER = QosTime(9223372036, 854775807)
_RELIABLE = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    avoid_ros_namespace_conventions=False,
)


class ImageBagWriter:
    """Writes one image topic into a new bag folder. A context manager.

    The folder appears at its place when the context ends without an error, complete or not at all; with `force` it
    then replaces the bag that was there.

    Attributes:
        path: the bag's folder.
        count: pictures written so far.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        topic: str = "/camera/image_raw",
        frame_id: str = "camera",
        encoding: Encoding = "rgb8",
        storage: Storage = "mcap",
        force: bool = False,
    ) -> None:
        """Prepare a bag at `path`.

        Raises:
            BagError: the path is taken, or the topic, the encoding or the storage is none that can be written.
        """
        self.path = Path(path).expanduser()
        self.count = 0
        self._topic = _checked_topic(topic)
        self._frame_id = frame_id
        self._encoding = encoding
        self._force = force
        if encoding not in {"rgb8", "bgr8"}:
            raise BagError(f"Encoding {encoding!r} cannot be written; use rgb8 or bgr8.")
        if storage not in _PLUGINS:
            raise BagError(f"Storage {storage!r} cannot be written; use one of {', '.join(_PLUGINS)}.")
        self._storage = storage
        check_free(self.path, force=force)
        self._last = -(2**63)

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        except OSError as err:
            raise BagError(f"Cannot write a bag at {str(self.path)!r}: {err.strerror}.") from err
        self._writer = Writer(
            self._scratch / self.path.name, version=_METADATA_VERSION, storage_plugin=_PLUGINS[self._storage]
        )
        if self._storage == "mcap":
            # Whole chunks are compressed inside the file, which the reading side of ROS does on its own.
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connection = self._writer.add_connection(
            self._topic, IMAGE, typestore=typestore(), offered_qos_profiles=[_RELIABLE]
        )
        return self

    def write(self, pixels: NDArray[np.uint8], stamp: int, *, log_time: int | None = None) -> None:
        """Add one picture.

        Args:
            pixels: (height, width, 3), in the channel order of the bag's encoding.
            stamp: header stamp, nanoseconds; not before the previous one.
            log_time: nanoseconds; the stamp by default.

        Raises:
            BagError: wrong shape or type, a stamp that goes backwards, or a full disk.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise BagError(
                f"Picture {self.count} is {pixels.dtype} {pixels.shape}; uint8 (height, width, 3) is needed."
            )
        if stamp < self._last:
            raise BagError(f"Picture {self.count} has stamp {stamp} ns, before its predecessor's {self._last} ns.")
        data = serialized_image(pixels, stamp, self._frame_id, self._encoding)
        try:
            self._writer.write(self._connection, stamp if log_time is None else log_time, data)
        except OSError as err:
            raise BagError(f"Writing picture {self.count} to {str(self.path)!r} failed: {err.strerror}.") from err
        self._last = stamp
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._writer.abort()
                return
            if not self.count:
                self._writer.abort()
                raise BagError(f"Bag {str(self.path)!r} would be empty: no picture was written.")
            self._writer.close()
            check_free(self.path, force=self._force)
            if self.path.exists():
                shutil.rmtree(self.path)
            self._writer.path.rename(self.path)
        except OSError as err:
            raise BagError(f"Closing bag {str(self.path)!r} failed: {err.strerror}.") from err
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)


def check_free(path: Path, *, force: bool) -> None:
    """Pass if a bag may be written at `path`.

    Raises:
        BagError: something is there and `force` is false, or it is no bag and must not be replaced.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not force:
        raise BagError(f"{str(path)!r} exists already. Choose another place, or replace it with --force.")
    if path.is_symlink() or not path.is_dir() or not (path / "metadata.yaml").exists():
        raise BagError(
            f"{str(path)!r} exists and is not a bag folder; --force replaces bags only. Choose another place."
        )


def _checked_topic(topic: str) -> str:
    parts = topic.split("/")
    if not topic.startswith("/") or not all(p.isidentifier() and p.isascii() for p in parts[1:]):
        raise BagError(
            f"Topic {topic!r} is not a ROS topic name: it starts with '/', and its parts are letters, digits and '_'."
        )
    return topic
