#!/usr/bin/env python3
"""Render the recording that comes with the package: `python scripts/make_demo_bag.py [FOLDER]`.

The scene stands in `stream_vl_ros/demo/scene.py`; this only draws it and writes it down. The same picture comes out
every time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stream_vl_ros.bag.writer import ImageBagWriter  # noqa: E402
from stream_vl_ros.demo.scene import SEED, demo_scene  # noqa: E402
from stream_vl_ros.errors import StreamVLError  # noqa: E402
from stream_vl_ros.world.render import render  # noqa: E402

OUT = ROOT / "stream_vl_ros" / "data" / "demo_bag"
TOPIC = "/camera/image_raw"
STAMP_ORIGIN = 1_700_000_000_000_000_000
"""Header stamp of the first frame, nanoseconds."""


def frames() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Header stamp in nanoseconds, and uint8 (height, width, 3) rgb pixels, of every frame."""
    scene = demo_scene()
    for i, pixels in enumerate(render(scene, SEED)):
        yield STAMP_ORIGIN + round(scene.seconds(i) * 1_000_000_000), pixels


def main(argv: Sequence[str] | None = None) -> int:
    """Write the bag, in place of the one that is there."""
    parser = argparse.ArgumentParser(description="Render the recording that comes with the package.")
    parser.add_argument("out", nargs="?", type=Path, default=OUT, help="bag folder (default: the packaged one)")
    out: Path = parser.parse_args(argv).out
    try:
        with ImageBagWriter(out, topic=TOPIC, force=True) as writer:
            for stamp, pixels in frames():
                writer.write(pixels, stamp)
    except StreamVLError as err:
        print(f"make_demo_bag: {err}", file=sys.stderr)
        return 1
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out}: {writer.count} frames, {size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
