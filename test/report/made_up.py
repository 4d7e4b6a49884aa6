"""A report with made-up numbers, for what presents reports."""

from __future__ import annotations

import numpy as np

from stream_vl_ros.report.results import Point, Results, Rung, Said, Section

ENVIRONMENT = {
    "date": "2026-01-02T03:04:05+00:00",
    "command": "python -m stream_vl_ros.report --out report",
    "settings": {"repeats": 7},
    "device": "A processor (2 cores)",
    "threads": 2,
    "python": "3.11.7",
    "versions": {"torch": "2.14.1", "transformers": "5.17.0", "stream_vl_ros": "0.1"},
}
HOSTILE = 'a|b <script>alert("x")</script> & \x1b[31m\x00 \u202e `code` *bold*\nsecond line\r\nthird'


class Maker:
    """Points with noise from a seed; `slower` multiplies all times."""

    def __init__(self, seed: int = 0, slower: float = 1.0, noise: float = 0.03) -> None:
        self.rng, self.slower, self.noise = np.random.default_rng(seed), slower, noise

    def timed(self, series: str, measure: str, x: float, value: float, repeats: int = 7) -> Point:
        values = value * self.slower * self.rng.lognormal(0, self.noise, repeats)
        return Point(series, measure, "ms", x, tuple(values.tolist()), timed=True)


def exact(series: str, measure: str, unit: str, x: float, value: float) -> Point:
    return Point(series, measure, unit, x, (value,))


def made_up(seed: int = 0, slower: float = 1.0) -> Results:
    """All kinds of sections, with `slower` times than usual."""
    make = Maker(seed, slower)
    sections = [_pair(make), _length(make), _eviction(), _memory(), _ladder()]
    return Results(ENVIRONMENT, "stream_vl_ros/tiny (random <weights>)", sections, ["first line", "<b>50%</b>\x1b[0m"])


def _pair(make: Maker) -> Section:
    section = Section("pair", "Stream against native", "frames", "The same frames and prompt.", ["Same tokens 3 of 3."])
    section.points = [make.timed(s, "first token", 32, v) for s, v in (("stream", 11.0), ("native", 230.0))]
    section.points += [make.timed("native", "prepare", 32, 40.0), make.timed("stream", "ingest", 32, 260.0)]
    section.points += [exact(s, "peak memory", "MiB", 32, v) for s, v in (("stream", 151.25), ("native", 410.5))]
    section.said = [
        Said("32 frames", "What is <b>visible</b>?", HOSTILE, HOSTILE, True),
        Said("32 frames", "Anything red?", "yes", "no", False),
        Said("64 frames", "Anything red?", "yes", None, None, (9,)),
        Said("64 frames", "And then?", "", "", False, (7, 151643), (7, 151644)),
    ]
    return section


def _length(make: Maker) -> Section:
    section = Section(
        "length", "By length of the video", "frames", "From 8 to 256 frames.", ["First token stays flat."]
    )
    for frames in (8, 16, 32, 64, 128, 256):
        section.points.append(make.timed("stream", "first token", frames, 10 + 0.01 * frames))
        section.points.append(exact("stream", "peak memory", "MiB", frames, 120 + 0.25 * frames))
        section.points.append(exact("stream", "cache memory", "MiB", frames, 0.0625 * frames))
        if frames <= 64:
            section.points.append(make.timed("native", "first token", frames, 6.5 * frames))
            section.points.append(exact("native", "peak memory", "MiB", frames, 130 + 6.0 * frames))
    for frames, a, b in ((8, 100.0, 97.0), (64, 99.0, 95.5)):
        section.points += [exact("stream", "accuracy", "%", frames, a), exact("native", "accuracy", "%", frames, b)]
    section.rungs = [
        Rung("256 frames", "native", 1, 256, False, "asked for 812 MiB | 700 MiB allocated"),
        Rung("256 frames", "native", 2, 128, False, "asked for 412 MiB"),
        Rung("256 frames", "native", 4, 64, True, "first token after 416 ms"),
        Rung("256 frames", "stream", 1, 256, True, "first token after 12 ms"),
    ]
    return section


def _eviction() -> Section:
    section = Section("eviction", "What forgetting costs", "budget, share of the full cache", "60 clips.")
    section.points = [exact("full cache", "accuracy", "%", 1, 99.4)]
    for share, window, importance in ((0.25, 76.0, 94.0), (0.5, 84.6, 98.6), (0.75, 90.6, 99.5)):
        section.points.append(exact("window", "accuracy", "%", share, window))
        section.points.append(exact("importance", "accuracy", "%", share, importance))
    return section


def _memory() -> Section:
    section = Section("memory", "Is what is reported there?", "frames", "Three accounts of the same cache.")
    for frames in (8, 32, 64, 128):
        for name, more in (("reported", 0.0), ("tensors", 0.0), ("allocator", 0.5)):
            section.points.append(exact(name, "cache memory", "MiB", frames, 0.0625 * frames + more))
    section.points.append(exact("reported", "bytes per token", "bytes", 8, 8192))
    return section


def _ladder() -> Section:
    section = Section("ladder", "Out of memory", "", "Native under a cap.")
    section.rungs = [Rung("32 frames", "native", 1, 32, False, "x"), Rung("32 frames", "native", 2, 16, True, "y")]
    return section
