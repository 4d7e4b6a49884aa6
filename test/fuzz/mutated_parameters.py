"""Parameters as a broken file, a wrong hand or an attacker would set them; the same ones for the same seed."""

from __future__ import annotations

import random

from stream_vl_ros.ros.parameters import PARAMETERS
from stream_vl_ros.ros.stream_parameters import parameter_names as of_stream
from stream_vl_ros.ros.watch_parameters import parameter_names as of_watch

VALUES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63 - 1, -(2**63), 0.0, -0.0, 0.5, 1e308, -1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "nan", "true", "1", "\x00", "x" * 100_000),
    *("é\u202e\n", "\ud800"),
    *("../../etc/passwd", "/etc", "~nobody/x", "$(id)", "<|im_end|>", "a b", "/a//b", "cuda:99", "meta", "embedded"),
    *([], ["a"], ["a", "a"], ["a", "b"], [""], ["all"], ["x" * 1000], [1], [1.5], [True], [None], b"bytes", [b"x"]),
    *((), ("front", "rear"), {}, {"a": 1}, object()),
)
GOOD: dict[str, object] = {"streams": ["front", "rear"], "watches": ["door"], "watch.door.question": "Is it open?"}
NAMES = (
    *(p.name for p in PARAMETERS),
    *("streams", "watches", "stream", "watch", "stream.", "watch..question", "stream.front", "stream.front.x", ""),
    *(name for stream in ("front", "rear", "nobody") for name in of_stream(stream)),
    *(name for watch in ("door", "nobody") for name in of_watch(watch)),
)


def _aliases(begin: str, end: str, item: str) -> str:
    """Each of twenty lines is nine times the one before; the last one is the value of a parameter."""
    lines = ["    k0: &k0 1"]
    for i in range(20):
        inner = ", ".join(item.format(*(j, i)[-item.count("{}") :]) for j in range(9))
        lines.append(f"    k{i + 1}: &k{i + 1} {begin}{inner}{end}")
    return "\n".join(["/**:", "  ros__parameters:", *lines, "    target_fps: *k20"])


# Mistakes that are those of YAML itself.
FILES = (
    *("", "\x00", "\t", "{", "[", "- a", "a: b: c", "%YAML 9.9\n---\n", "!!python/object/apply:os.system ['true']"),
    *("&a [*a]", "/**: &a {ros__parameters: {x: 1}, b: *a}", "2001-99-99", "'\\ud800'", "\ufeff/**:", "\x80abc"),
    *("[" * 5000, "{a: " * 5000, "? " * 3000, "!!timestamp x", "!!binary ===", "!!int x", "<<: 5", "1: 2\n? [a]\n: b"),
    "/**:\n  ros__parameters: &p\n    a: 1\n    b: *p\n",
    "/**:\n  ros__parameters:\n    target_fps: !!float x\n",
    "/**:\n  ros__parameters:\n    target_fps: &a [*a]\n",
    _aliases("[", "]", "*k{}"),
    _aliases("{", "}", "v{}: *k{}"),
)


def given(seed: int, number: int) -> dict[str, object]:
    """Values by full name, as ROS hands them over."""
    r = random.Random(f"{seed}:{number}")
    values = dict(GOOD) if r.random() < 0.7 else {}
    for _ in range(r.randint(1, 3)):
        values[r.choice(NAMES)] = r.choice(VALUES)
    return values


def file(seed: int, number: int, good: str) -> bytes:
    """A parameter file: a good one with characters or lines changed, or one of those that YAML chokes on."""
    r = random.Random(f"{seed}:{number}")
    if r.random() < 0.2:
        return r.choice(FILES).encode("utf-8", "surrogatepass")
    lines = good.splitlines(keepends=True)
    for _ in range(r.randint(1, 4)):
        i = r.randrange(len(lines))
        kind = r.randrange(5)
        if kind == 0:
            lines[i] = ""
        elif kind == 1:
            lines[i] = lines[i].replace(":", r.choice(("", "::", ": [", ": {", ": &a", ": *a", ": !!x")), 1)
        elif kind == 2:
            name, colon, _ = lines[i].partition(":")
            lines[i] = f"{name}{colon} {r.choice(VALUES)!r}\n"
        elif kind == 3:
            lines[i] = r.choice(("\t", "    ", "  - ", "%", "---\n", "...\n")) + lines[i]
        else:
            lines[i] = lines[i][: r.randrange(len(lines[i]) + 1)]
    data = bytearray("".join(lines).encode("utf-8", "surrogatepass"))
    if data and r.random() < 0.3:
        data[r.randrange(len(data))] = r.randrange(256)
    return bytes(data)
