"""What is true of a scene at a frame; None where the answer would be a matter of taste.

``now`` is always the last frame that was seen. Nothing here looks beyond it.
"""

from __future__ import annotations

from typing import Literal

from stream_vl_ros.world.scene import Scene, Track
from stream_vl_ros.world.things import PLACES


def ordered(objects: list[Track], now: int) -> list[Track]:
    """Objects in the order in which answers list them: by colour, then by shape."""
    return sorted(objects, key=lambda t: (t.colour_at(now), t.shape))


def seen(scene: Scene, now: int) -> list[Track]:
    """Every object that appeared up to now, in order of appearance."""
    return [t for t in scene.tracks if t.first <= now]


def plain(track: Track, now: int) -> bool:
    """Whether the object kept one colour so far, so that its name names it at any time."""
    return track.new_colour < 0 or now < track.change_at


def place(track: Track, now: int, slack: float = 0.035) -> str | None:
    """Which of the nine places the object is in; None within ``slack`` of a border."""
    x, y = track.centre(now)
    for v in (x, y):
        if min(abs(v - 1 / 3), abs(v - 2 / 3)) < slack:
            return None
    return PLACES[min(2, int(y * 3))][min(2, int(x * 3))]


def motion(track: Track, now: int) -> int | None:
    """Direction index while moving, -1 while still, None where it has only just begun or ended."""
    if track.direction < 0:
        return -1
    if track.move_from < now <= track.move_until:
        since = now - track.move_from
        way = abs(track.xs[now - track.first] - track.xs[track.move_from - track.first])
        way += abs(track.ys[now - track.first] - track.ys[track.move_from - track.first])
        return track.direction if since >= 2 or way >= 0.05 else None
    if now <= track.move_from:
        return -1 if now - track.first >= 1 else None
    return -1 if now - track.move_until >= 5 else None


def first_seen(scene: Scene, now: int) -> Track | None:
    """The one object that appeared before all others."""
    tracks = seen(scene, now)
    if not tracks or sum(t.first == tracks[0].first for t in tracks) > 1:
        return None
    return tracks[0]


def last_seen(scene: Scene, now: int) -> Track | None:
    """The one object that appeared most recently."""
    tracks = seen(scene, now)
    if not tracks or sum(t.first == tracks[-1].first for t in tracks) > 1:
        return None
    return tracks[-1]


def neighbour(scene: Scene, now: int, track: Track, step: int) -> Track | Literal[False] | None:
    """The object that appeared right before (-1) or after (+1) ``track``.

    False when there is none, None when several tie.
    """
    times = sorted({t.first for t in seen(scene, now)})
    at = times.index(track.first)
    if sum(t.first == track.first for t in seen(scene, now)) > 1:
        return None
    if not 0 <= at + step < len(times):
        return False
    there = [t for t in seen(scene, now) if t.first == times[at + step]]
    return there[0] if len(there) == 1 else None


def last_gone(scene: Scene, now: int) -> Track | Literal[False] | None:
    """The object that disappeared most recently; False when none did, None when several tie."""
    gone = [t for t in seen(scene, now) if t.end <= now]
    if not gone:
        return False
    latest = max(t.end for t in gone)
    there = [t for t in gone if latest - t.end < 2]
    return there[0] if len(there) == 1 else None
