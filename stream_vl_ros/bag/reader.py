"""Read the image topics of a rosbag2 recording: mcap or sqlite3, a folder or a single file. Needs no ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rosbags.rosbag2 import Reader

from stream_vl_ros.bag.bounds import bound_chunks, check_files, decompressed_message
from stream_vl_ros.bag.cdr import read_stamp
from stream_vl_ros.bag.salvage import describe_damage
from stream_vl_ros.bag.serialized import typestore
from stream_vl_ros.brief import brief, shown
from stream_vl_ros.errors import BagError

if TYPE_CHECKING:
    from typing_extensions import Self

bound_chunks()

_COMPRESSED = frozenset({".zstd", ".zst", ".lz4"})
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a bag.

    Attributes:
        name: as recorded, such as ``/camera/image_raw``.
        msgtype: such as ``sensor_msgs/msg/Image``.
        count: number of messages.
        rate: mean messages per second over the whole bag; 0 if it has fewer than two.
    """

    name: str
    msgtype: str
    count: int
    rate: float

    @property
    def is_image(self) -> bool:
        return self.msgtype in IMAGE_TYPES

    def __str__(self) -> str:
        return f"{self.name} ({self.msgtype}, {self.count} messages)"


@dataclass(frozen=True, slots=True)
class Message:
    """One recorded message.

    Attributes:
        topic: where it was recorded.
        log_time: when it was recorded, nanoseconds.
        stamp: its header stamp, nanoseconds.
        data: the message as recorded, serialized (CDR).
    """

    topic: Topic
    log_time: int
    stamp: int
    data: bytes


class BagReader:
    """An open bag. A context manager; closes its files at the end.

    Attributes:
        path: the folder or file.
        topics: every topic, in the order of their names.
        start, duration: log time of the earliest message and the span to the latest, nanoseconds; both 0 when empty.
    """

    path: Path
    topics: tuple[Topic, ...]
    start: int
    duration: int

    def __init__(self, path: str | Path) -> None:
        """Open `path`.

        Raises:
            BagError: there is nothing, no bag, a damaged bag, or a bag in a form that cannot be read.
        """
        self.path = Path(path).expanduser()
        _check_kind(self.path)
        try:
            check_files(_compressed_files(self.path))
            self._reader = Reader(self.path)
            self._reader.open()
        # The library lets errors of struct, of both compressors and of both storages through.
        except Exception as err:
            raise _opening_error(self.path, err) from err
        try:
            self._look()
        except Exception as err:  # what metadata.yaml says is not looked at by the library
            self.close()
            raise _opening_error(self.path, err) from err

    def _look(self) -> None:
        storage = self._reader.storage
        self._unpack = storage.metadata.compression_mode == "message"
        if self._unpack:
            # The library would decompress them without a limit.
            storage.metadata = storage.metadata._replace(compression_mode=None)
        empty = _whole(self._reader.message_count) == 0
        self.start = 0 if empty else _whole(self._reader.start_time)
        # The library's end is exclusive.
        self.duration = 0 if empty else _whole(self._reader.duration) - 1
        self.topics = tuple(
            Topic(str(name), str(info.msgtype or "(several types)"), _whole(info.msgcount), self._rate(info.msgcount))
            for name, info in sorted(self._reader.topics.items())
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        if self._reader.is_open:
            self._reader.close()

    @property
    def image_topics(self) -> tuple[Topic, ...]:
        """The topics that hold images."""
        return tuple(topic for topic in self.topics if topic.is_image)

    def filled_image_topics(self) -> tuple[Topic, ...]:
        """The topics that hold at least one image.

        Raises:
            BagError: there is none.
        """
        return self._filled(self._any_image_topics())

    def image_topic(self, name: str | None = None, *, hint: str = "Name one of them with --topic.") -> Topic:
        """The image topic called `name`; without a name the only one that there is.

        Raises:
            BagError: no such topic, no image topic at all, one that is empty, or several to choose from; then the
                message ends with `hint`.
        """
        images = self._any_image_topics()
        if name is not None:
            # A leading slash is what the bag holds and what one forgets to type.
            found = [topic for topic in self.topics if topic.name.lstrip("/") == name.lstrip("/")]
            if not found:
                raise BagError(
                    f"Bag {str(self.path)!r} has no topic {name!r}. Its image topics: {_listed(images)}. "
                    "Pick one of these."
                )
            if not found[0].is_image:
                raise BagError(
                    f"Topic {found[0].name!r} of bag {str(self.path)!r} holds {found[0].msgtype}, not images. "
                    f"Its image topics: {_listed(images)}."
                )
            images = (found[0],)
        filled = self._filled(images)
        if len(filled) > 1:
            raise BagError(f"Bag {str(self.path)!r} has {len(filled)} image topics: {_listed(filled)}. {hint}")
        return filled[0]

    def _any_image_topics(self) -> tuple[Topic, ...]:
        images = self.image_topics
        if not images:
            raise BagError(
                f"Bag {str(self.path)!r} has no image topic ({' or '.join(IMAGE_TYPES)}). "
                f"Its topics: {_listed(self.topics)}."
            )
        return images

    def _filled(self, images: tuple[Topic, ...]) -> tuple[Topic, ...]:
        filled = tuple(topic for topic in images if topic.count)
        if not filled:
            raise BagError(f"Bag {str(self.path)!r} holds no message on {_listed(images)}; record it again.")
        return filled

    def messages(self, *topics: Topic, start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """Messages of these topics in the order of their log times; `start` <= log time < `stop`, nanoseconds.

        Reads as it goes: memory does not grow with the bag.

        Raises:
            BagError: the bag breaks off or is damaged; says after how many messages.
        """
        assert topics, "the library would take none for all"
        by_name = {topic.name: topic for topic in topics}
        names = ", ".join(by_name)
        connections = [c for c in self._reader.connections if c.topic in by_name]
        source = self._reader.messages(connections, start, stop)
        count = 0
        last = 0
        while True:
            try:
                item = next(source, None)
                if item is None:
                    if not count and start is stop is None and any(topic.count for topic in topics):
                        raise BagError("none can be read, though the bag says that there are some; it is damaged.")
                    return
                connection, log_time, raw = item
                data = decompressed_message(bytes(raw)) if self._unpack else bytes(raw)
                message = Message(by_name[connection.topic], log_time, read_stamp(data), data)
            except BagError as err:
                raise BagError(f"Bag {str(self.path)!r}, message {count} of {names}: {err}") from err
            except Exception as err:
                reached = f" (up to {(last - self.start) / 1e9:.2f} s)" if count else ""
                raise BagError(
                    f"Bag {str(self.path)!r} is damaged: after {count} of {sum(t.count for t in topics)} "
                    f"messages{reached} of {names} reading failed with: {_words(err)} {describe_damage(self.path)}"
                ) from err
            yield message
            count += 1
            last = log_time

    def decode(self, topic: Topic, message: Message) -> object:
        """The message as an object with the fields of its ROS type; array fields are numpy arrays.

        Raises:
            BagError: it is no message of that type.
        """
        try:
            return typestore().deserialize_cdr(message.data, topic.msgtype)
        except Exception as err:  # the library reads whatever the bytes say, and fails in any way
            raise BagError(
                f"A message of {len(message.data)} bytes on {topic.name} is no {topic.msgtype}: "
                f"{type(err).__name__}: {_words(err)} The bag is damaged."
            ) from err

    def _rate(self, count: int) -> float:
        return (count - 1) / (self.duration / 1e9) if count > 1 and self.duration > 0 else 0.0


def _listed(topics: tuple[Topic, ...]) -> str:
    return ", ".join(str(topic) for topic in topics) or "none"


def _words(err: BaseException) -> str:
    text = brief(str(err).strip(), 600) or type(err).__name__
    return text if text.endswith(".") else f"{text}."


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise BagError(f"its metadata has {shown(value)} where a whole number belongs")
    return value


def _compressed_files(path: Path) -> list[Path]:
    """Recordings that are compressed as a whole: `x.mcap.zstd`, `x.db3.zstd`."""
    if not path.is_dir():
        return []
    names = sorted(f for f in path.iterdir() if f.suffix in _COMPRESSED)
    return [f for f in names if Path(f.stem).suffix in {".mcap", ".db3"}]


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise BagError(
            f"Bag {str(path)!r} does not exist. Give the folder that `ros2 bag record` made, or one .mcap or .db3 file."
        )
    if path.is_dir():
        if (path / "metadata.yaml").exists():
            return
        files = sorted(f.name for f in path.iterdir() if f.suffix in {".mcap", ".db3"})
        if files:
            raise BagError(
                f"Bag folder {str(path)!r} has no metadata.yaml; its recording was not closed. "
                f"Give the file itself ({', '.join(files)}), or run `ros2 bag reindex {path}`."
            )
        raise BagError(f"Folder {str(path)!r} is not a bag: it has no metadata.yaml, no .mcap and no .db3 file.")
    if path.suffix == ".bag":
        raise BagError(
            f"File {str(path)!r} is a ROS 1 bag. Convert it: `rosbags-convert --src {path} --dst {path.stem}`."
        )
    if path.suffix in _COMPRESSED:
        raise BagError(
            f"File {str(path)!r} is compressed as a whole ({path.suffix}), which only metadata.yaml describes. "
            f"Give its folder ({path.parent}) instead, or decompress it first."
        )
    if path.suffix not in {".mcap", ".db3"}:
        raise BagError(
            f"File {str(path)!r} is not a bag: its name ends in {path.suffix or 'nothing'!r}. Bags are folders with a "
            "metadata.yaml, .mcap files or .db3 files; for a video file see `video_to_bag`."
        )


def _opening_error(path: Path, err: Exception) -> BagError:
    text = _words(err)
    if isinstance(err, BagError) and "TMPDIR" in text:
        return err
    if isinstance(err, PermissionError):
        return BagError(f"Bag {str(path)!r} may not be read: {text}")
    if "ompression" in text:
        return BagError(
            f"Bag {str(path)!r} uses a compression that is not supported: {text} Supported: none, zstd (chunk, "
            "message, file) and lz4 chunks. Rewrite it with `ros2 bag convert`."
        )
    if "not supported" in text or "files are missing" in text:
        return BagError(f"Bag {str(path)!r} cannot be read: {text}")
    return BagError(f"Bag {str(path)!r} is damaged or incomplete: {text} {describe_damage(path)}")
