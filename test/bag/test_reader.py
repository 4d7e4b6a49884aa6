"""Reading bags, whole and broken, as files on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.writer import ImageBagWriter
from stream_vl_ros.errors import BagError

ORIGIN = 1_700_000_000_000_000_000
MakeBag = Callable[..., Path]


def _write(path: Path, topics: dict[str, tuple[str, int]], **kwargs: object) -> Path:
    """A bag by the rosbags library itself: topic -> (type, number of messages)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=5, nanosec=6), frame_id="f"
    )
    fields = {
        "sensor_msgs/msg/CompressedImage": {"header": header, "format": "png", "data": np.zeros(9, np.uint8)},
        "std_msgs/msg/String": {"data": "text"},
    }
    mode = kwargs.pop("compression", None)
    writer = Writer(path, version=9, **kwargs)  # type: ignore[arg-type]
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)  # type: ignore[arg-type]
    with writer:
        for topic, (msgtype, count) in topics.items():
            connection = writer.add_connection(topic, msgtype, typestore=store)
            data = store.serialize_cdr(store.types[msgtype](**fields[msgtype]), msgtype)
            for i in range(count):
                writer.write(connection, ORIGIN + i * 10**8, data)
    return path


COMPRESSED = "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("as_file", [False, True])
def test_reads_what_was_written(make_bag: MakeBag, storage: str, as_file: bool) -> None:
    path = make_bag(storage, 40)
    if as_file:
        (path,) = [f for f in path.iterdir() if f.name != "metadata.yaml"]
    with BagReader(path) as bag:
        topic = bag.image_topic()
        assert (topic.name, topic.msgtype, topic.count) == ("/camera/image_raw", "sensor_msgs/msg/Image", 40)
        assert bag.duration == 39 * 50_000_000
        assert topic.rate == pytest.approx(20.0)
        messages = list(bag.messages(topic))
        assert [m.stamp for m in messages] == [ORIGIN + i * 50_000_000 for i in range(40)]
        assert all(m.log_time == m.stamp + 7_000_000 for m in messages)
        image = bag.decode(topic, messages[17])
    assert (image.height, image.width, image.step, image.encoding) == (120, 160, 480, "rgb8")  # type: ignore[attr-defined]
    expected = np.random.RandomState(17).randint(0, 256, (120, 160, 3)).astype(np.uint8)
    assert np.array_equal(image.data.reshape(120, 160, 3), expected)  # type: ignore[attr-defined]


def test_start_and_stop_select_by_log_time(make_bag: MakeBag) -> None:
    with BagReader(make_bag("mcap", 40)) as bag:
        topic = bag.image_topic()
        begin = bag.start + 10 * 50_000_000
        picked = [m.log_time for m in bag.messages(topic, start=begin, stop=begin + 5 * 50_000_000)]
    assert picked == [begin + i * 50_000_000 for i in range(5)]


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE])
def test_compressed_bags(tmp_path: Path, mode: CompressionMode) -> None:
    path = _write(tmp_path / "bag", {"/cam": (COMPRESSED, 3)}, storage_plugin=StoragePlugin.MCAP, compression=mode)
    with BagReader(path) as bag:
        assert [m.stamp for m in bag.messages(bag.image_topic())] == [5_000_000_006] * 3


def test_message_compression_without_metadata_is_explained(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", {"/cam": (COMPRESSED, 3)}, compression=CompressionMode.MESSAGE)
    with BagReader(next(path.glob("*.db3"))) as bag, pytest.raises(BagError, match=r"metadata\.yaml"):
        list(bag.messages(bag.image_topic()))


def test_no_image_topic_lists_the_others(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", {"/chatter": ("std_msgs/msg/String", 4)})
    with BagReader(path) as bag, pytest.raises(BagError, match=r"no image topic.*/chatter \(std_msgs/msg/String, 4"):
        bag.image_topic()


def test_choosing_a_topic(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "bag",
        {
            "/left": (COMPRESSED, 2),
            "/right": (COMPRESSED, 3),
            "/off": (COMPRESSED, 0),
            "/text": ("std_msgs/msg/String", 1),
        },
    )
    with BagReader(path) as bag:
        assert bag.image_topic("/right").count == 3
        assert bag.image_topic("right").name == "/right"
        with pytest.raises(BagError, match=r"2 image topics: /left .*, /right .*--topic"):
            bag.image_topic()
        with pytest.raises(BagError, match=r"no topic '/up'.*/left"):
            bag.image_topic("/up")
        with pytest.raises(BagError, match=r"'/text'.*std_msgs/msg/String, not images"):
            bag.image_topic("/text")
        with pytest.raises(BagError, match="no message on /off"):
            bag.image_topic("/off")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("as_file", [False, True])
def test_truncated(make_bag: MakeBag, storage: str, as_file: bool) -> None:
    path = make_bag(storage, 60)
    (data,) = [f for f in path.iterdir() if f.name != "metadata.yaml"]
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(BagError, match="damaged or incomplete") as caught:
        BagReader(data if as_file else path)
    if storage == "mcap":
        # 57 KiB a picture and chunks of 1 MiB: one whole chunk of 19 is in front of the cut, at the least.
        assert "Readable are 19 messages over 0.90 s" in str(caught.value)
        assert "mcap recover" in str(caught.value)


def test_damage_in_the_middle_says_how_far_it_went(make_bag: MakeBag) -> None:
    path = make_bag("mcap", 60)
    (data,) = path.glob("*.mcap")
    content = bytearray(data.read_bytes())
    # Noise is stored in plain blocks of 128 KiB without checksums: only a damaged block header is seen.
    content[len(content) // 2 : len(content) // 2 + 150_000] = bytes(150_000)
    data.write_bytes(content)
    with BagReader(path) as bag, pytest.raises(BagError, match=r"after 19 of 60 messages \(up to 0.90 s\)"):
        list(bag.messages(bag.image_topic()))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("no.mcap", None, "does not exist"),
        ("empty.mcap", b"", "the file is empty"),
        ("text.mcap", b"hello, I am a text file", "neither mcap nor sqlite3"),
        ("text.db3", b"hello, I am a text file", "neither mcap nor sqlite3"),
        ("film.mp4", b"x", "video_to_bag"),
        ("old.bag", b"#ROSBAG V2.0", "rosbags-convert"),
        ("whole.mcap.zstd", b"x", "compressed as a whole"),
    ],
)
def test_what_is_no_bag(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BagError, match=reason) as caught:
        BagReader(path)
    assert str(path) in str(caught.value)


def test_folders_that_are_no_bag(tmp_path: Path, make_bag: MakeBag) -> None:
    with pytest.raises(BagError, match="is not a bag"):
        BagReader(tmp_path)
    path = make_bag("sqlite3", 3)
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"no metadata.yaml.*bag_sqlite3.db3.*ros2 bag reindex"):
        BagReader(path)


def test_unknown_compression(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", {"/cam": (COMPRESSED, 3)}, compression=CompressionMode.MESSAGE)
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("compression_format: zstd", "compression_format: bz2"))
    with pytest.raises(BagError, match=r"'bz2'.*Supported: none, zstd"):
        BagReader(path)


class TestWriter:
    """What the writer refuses, and that it leaves nothing half-made."""

    def test_never_overwrites(self, make_bag: MakeBag) -> None:
        path = make_bag("mcap", 3)
        with pytest.raises(BagError, match="--force"):
            ImageBagWriter(path)
        with ImageBagWriter(path, force=True) as writer:
            writer.write(np.zeros((4, 4, 3), np.uint8), 1)
        with BagReader(path) as bag:
            assert bag.image_topic().count == 1

    def test_force_spares_what_is_no_bag(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        with pytest.raises(BagError, match="not a bag folder"):
            ImageBagWriter(tmp_path / "thesis", force=True)

    @pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
    def test_an_error_leaves_the_old_bag_and_no_other(self, make_bag: MakeBag, storage: str) -> None:
        path = make_bag(storage, 3)
        before = sorted(path.parent.iterdir())

        def fail() -> None:
            with ImageBagWriter(path, force=True, storage=storage) as writer:  # type: ignore[arg-type]
                writer.write(np.zeros((4, 4, 3), np.uint8), 1)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert sorted(path.parent.iterdir()) == before
        with BagReader(path) as bag:
            assert bag.image_topic().count == 3

    def test_bad_input(self, tmp_path: Path) -> None:
        with pytest.raises(BagError, match="not a ROS topic name"):
            ImageBagWriter(tmp_path / "a", topic="camera")
        with pytest.raises(BagError, match="no picture"), ImageBagWriter(tmp_path / "a"):
            pass
        with ImageBagWriter(tmp_path / "a") as writer:
            writer.write(np.zeros((4, 4, 3), np.uint8), 10)
            with pytest.raises(BagError, match="before its predecessor"):
                writer.write(np.zeros((4, 4, 3), np.uint8), 9)
            with pytest.raises(BagError, match=r"float32 \(4, 4\)"):
                writer.write(np.zeros((4, 4), np.float32), 11)  # type: ignore[arg-type]

    def test_the_folder_can_be_moved(self, make_bag: MakeBag, tmp_path: Path) -> None:
        moved = shutil.move(make_bag("mcap", 3), tmp_path / "elsewhere")
        with BagReader(moved) as bag:
            assert bag.image_topic().count == 3
