"""Scenes: which objects are where, in every frame of a clip.

A scene is decided in frames, so that it looks alike at any frame rate; seconds are frame / fps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from stream_vl_ros.world.things import COLOURS, MAX_VISIBLE, SHAPES, STEPS

MARGIN = 0.15
"""Objects keep their centres this far from the frame's edges (fraction of the side)."""

FRAME_RATES: tuple[float, ...] = (1.0, 2.0, 4.0)


@dataclass(slots=True)
class Track:
    """One object from its appearance to its disappearance.

    ``first`` is the first frame that shows it, ``end`` the first that no longer does. ``xs`` and
    ``ys`` hold its centre in 0..1 of the frame for frames first..end-1.
    """

    colour: int
    shape: int
    radius: float
    first: int
    end: int
    xs: list[float] = field(default_factory=list)
    ys: list[float] = field(default_factory=list)
    direction: int = -1
    move_from: int = 0
    move_until: int = 0
    new_colour: int = -1
    change_at: int = 0
    turn: float = 0.0

    def visible(self, frame: int) -> bool:
        return self.first <= frame < self.end

    def colour_at(self, frame: int) -> int:
        return self.new_colour if self.new_colour >= 0 and frame >= self.change_at else self.colour

    def centre(self, frame: int) -> tuple[float, float]:
        i = frame - self.first
        return self.xs[i], self.ys[i]


@dataclass(slots=True)
class Scene:
    """A clip's objects. ``height`` and ``width`` are the frame's size in pixels."""

    frames: int
    fps: float
    height: int
    width: int
    tracks: list[Track]

    def seconds(self, frame: int) -> float:
        return frame / self.fps

    def visible(self, frame: int) -> list[Track]:
        return [t for t in self.tracks if t.visible(frame)]


def _intervals(rng: random.Random, frames: int, slots: int) -> list[tuple[int, int]]:
    """Presence intervals of a few slots that come and go on their own, sorted by appearance."""
    stay = max(3.0, frames * rng.uniform(0.12, 0.8))
    gap = max(1.5, frames * rng.uniform(0.03, 0.3))
    out: list[tuple[int, int]] = []
    for slot in range(slots):
        at = 0 if rng.random() < (0.45 if slot == 0 else 0.25) else rng.randint(1, max(1, int(gap * 2)))
        while at < frames and len(out) < 10:
            end = at + max(2, int(stay * rng.uniform(0.4, 1.6)))
            if end >= frames - 1:
                end = frames + 1
            out.append((at, end))
            at = end + max(1, int(gap * rng.uniform(0.4, 1.6)))
    out.sort()
    return out


def _spread(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Appearances at least two frames apart, save those in the first frame."""
    out: list[tuple[int, int]] = []
    last = -2
    for first, end in intervals:
        if first > 0 and first < last + 2:
            first = last + 2
        if end - first < 2:
            continue
        last = first
        out.append((first, end))
    return out


def _path(rng: random.Random, track: Track, frames: int) -> None:
    """Give a track a place, and a way if it moves."""
    length = min(track.end, frames) - track.first
    x, y = rng.uniform(MARGIN, 1 - MARGIN), rng.uniform(MARGIN, 1 - MARGIN)
    if track.direction < 0 or length < 2:
        track.direction = -1
        track.xs, track.ys = [x] * length, [y] * length
        return
    dx, dy = STEPS[track.direction]
    speed = rng.uniform(0.03, 0.10)
    if length <= 4:
        speed = rng.uniform(0.06, 0.14)
    wait = 0 if rng.random() < 0.6 else rng.randint(0, max(0, length // 2 - 1))
    room = 1 - 2 * MARGIN
    steps = min(length - 1 - wait, int(room / speed))
    travel = steps * speed
    start = rng.uniform(0, room - travel) + MARGIN
    forward = dx + dy > 0
    origin = start if forward else start + travel
    if dx:
        x = origin
    else:
        y = origin
    for i in range(length):
        d = speed * min(max(i - wait, 0), steps)
        track.xs.append(x + dx * d)
        track.ys.append(y + dy * d)
    track.move_from = track.first + wait
    track.move_until = track.move_from + steps


def _collides(track: Track, others: list[Track], aspect: float) -> bool:
    """Whether two objects touch in any frame; ``aspect`` is width / height."""
    sx, sy = aspect**0.5, aspect**-0.5
    for other in others:
        near = (track.radius + other.radius) * 1.02
        lo, hi = max(track.first, other.first), min(track.first + len(track.xs), other.first + len(other.xs))
        if lo >= hi:
            continue
        if track.direction < 0 and other.direction < 0:
            hi = lo + 1
        for f in range(lo, hi):
            a, b = f - track.first, f - other.first
            if abs(track.xs[a] - other.xs[b]) * sx < near and abs(track.ys[a] - other.ys[b]) * sy < near:
                return True
    return False


def sample_scene(
    rng: random.Random,
    frames: int,
    fps: float,
    height: int = 112,
    width: int = 112,
    mode: str | None = None,
) -> Scene:
    """Draw a scene. ``mode``: "busy", "still", "quiet", "empty", "single"; drawn when None."""
    if mode is None:
        u = rng.random()
        mode = (
            "still" if u < 0.04 else "quiet" if u < 0.09 else "empty" if u < 0.12 else "single" if u < 0.2 else "busy"
        )
    if mode == "empty":
        return Scene(frames, fps, height, width, [])
    if mode == "still":
        intervals = [(0, frames + 1)] * rng.randint(1, 3)
    elif mode == "quiet":
        busy = max(2, min(frames, rng.randint(4, 12)))
        intervals = _spread(_intervals(rng, busy, rng.randint(1, 3)))
        intervals = [(a, frames + 1 if b > busy else b) for a, b in intervals]
    else:
        slots = 1 if mode == "single" else rng.choice((2, 2, 3, 3))
        intervals = _spread(_intervals(rng, frames, slots))
    intervals = [(a, b) for a, b in intervals if a < frames]
    moves = 0.0 if mode in ("still", "quiet") else rng.choice((0.25, 0.55, 0.85))
    changes = 0.0 if mode in ("still", "quiet") else rng.choice((0.0, 0.0, 0.3, 0.6))
    tracks: list[Track] = []
    used: set[tuple[int, int]] = set()
    small = rng.uniform(0.085, 0.12)
    for first, end in intervals:
        if sum(t.end > first for t in tracks) >= MAX_VISIBLE:
            continue
        # Objects that share a colour or a shape make the questions about one of them worth asking.
        for _ in range(8):
            colour, shape = rng.randrange(len(COLOURS)), rng.randrange(len(SHAPES))
            if tracks and rng.random() < 0.25:
                twin = rng.choice(tracks)
                colour, shape = (twin.colour, shape) if rng.random() < 0.5 else (colour, twin.shape)
            if (colour, shape) not in used:
                break
        else:
            continue
        track = Track(colour, shape, small * rng.uniform(1.0, 1.35), first, end)
        track.turn = rng.uniform(-0.2, 0.2)
        if rng.random() < moves:
            track.direction = rng.randrange(4)
        wanted = track.direction
        alive = [t for t in tracks if t.end > first]
        for _ in range(8):
            track.xs, track.ys, track.direction = [], [], wanted
            _path(rng, track, frames)
            if not _collides(track, alive, width / height):
                break
        else:
            continue
        # Some travellers leave where their way ends, the rest stay there.
        if track.direction >= 0 and track.move_until + 1 < min(end, frames) and rng.random() < 0.5:
            track.end = max(track.first + 2, track.move_until + 1)
            keep = track.end - track.first
            track.xs, track.ys = track.xs[:keep], track.ys[:keep]
        length = len(track.xs)
        if length >= 4 and rng.random() < changes:
            new = rng.randrange(len(COLOURS))
            if new != colour and (new, shape) not in used:
                track.new_colour, track.change_at = new, track.first + rng.randint(2, length - 2)
                used.add((new, shape))
        used.add((colour, shape))
        tracks.append(track)
    return Scene(frames, fps, height, width, tracks)
