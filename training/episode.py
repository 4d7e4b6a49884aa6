"""Episodes: one clip, the questions asked along it, and all of it as one token sequence.

The trunk is the prompt and the video, in two segments where a dialogue is remembered between them.
Branches are forks: a question and its answer, or two of them, asked at some moment of the clip.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache

from tokenizers import Tokenizer

from stream_vl_ros.engine.config import DEFAULT_SYSTEM_PROMPT
from stream_vl_ros.world import truth
from stream_vl_ros.world.questions import KINDS, Question, ask, follow_up
from stream_vl_ros.world.scene import FRAME_RATES, Scene, sample_scene
from stream_vl_ros.world.things import KINDS_OF_OBJECT, MAX_VISIBLE, object_class
from stream_vl_ros.world.wordings import Split
from training.grids import CELLS, SIZES, cells
from training.shape import TOKENS_PER_SECOND

OBJECT_CLASSES = KINDS_OF_OBJECT + 1
"""Every colour and shape, and none (0)."""

SECONDS = 65
"""Seconds 0..63, and none (64)."""

RECENT = 4
MEMORY_OBJECTS = RECENT + 2
MEMORY_TIMES = 3
SIZE_WEIGHTS = (0.52, 0.22, 0.16, 0.10)

WEIGHTS: dict[str, float] = {
    "color_of_shape": 0.7,
    "shape_of_color": 0.7,
    "visible": 1.0,
    "count": 0.8,
    "count_attr": 0.8,
    "exists": 1.0,
    "first": 0.7,
    "last": 1.0,
    "before": 1.7,
    "after": 1.7,
    "direction": 1.3,
    "where": 1.0,
    "when": 1.7,
    "ago": 1.7,
    "ever": 1.0,
    "gone": 1.3,
    "still_there": 0.7,
    "left_view": 0.7,
    "color_change": 1.2,
    "describe": 1.2,
    "offtopic": 0.8,
    "follow_where": 0.2,
    "follow_direction": 0.2,
    "mcq": 1.2,
    "letter": 1.0,
}
"""How often each kind is asked: the hard ones more."""

_KINDS = tuple(KINDS)
_CUMULATIVE = [sum(WEIGHTS[k] for k in _KINDS[: i + 1]) for i in range(len(_KINDS))]


@dataclass(slots=True)
class Episode:
    """An episode's tokens. Lists run over tokens unless said otherwise."""

    scene: Scene
    grid: int
    pairs: int
    ids: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    source: list[int] = field(default_factory=list)  # visual token within the episode, -1 for text
    branch: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)  # trunk columns seen, -1 on the trunk itself
    at: list[int] = field(default_factory=list)  # tokens that predict an answer token
    target: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    answers: list[tuple[Question, int, int, int]] = field(default_factory=list)  # span in ``at``, frame
    pair_at: list[int] = field(default_factory=list)  # by pair
    branches: int = 0


class Writer:
    """Writes episodes as the engine prompts: the same tokens at the same positions."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

        @lru_cache(maxsize=200_000)
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

        self.encode = encode
        self.opening = encode(
            f"<|im_start|>system\n{DEFAULT_SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        )
        self.close = encode("<|vision_end|>")
        self.answering = encode("<|im_end|>\n<|im_start|>assistant\n")
        self.again = encode("<|im_end|>\n<|im_start|>user\n")
        self.more_video = encode("<|im_end|>\n<|im_start|>user\n<|vision_start|>")
        self.end = encode("<|im_end|>")[0]
        self.pad = encode("<|video_pad|>")[0]

    def text(self, e: Episode, ids: tuple[int, ...], at: int, branch: int, cut: int) -> int:
        """Append text from position ``at``; returns the position behind it."""
        for i, token in enumerate(ids):
            e.ids.append(token)
            p = at + i
            e.positions.append((p, p, p))
        n = len(ids)
        e.source += [-1] * n
        e.branch += [branch] * n
        e.cut += [cut] * n
        return at + n

    def video(self, e: Episode, start: int, first_pair: int, pairs: range, fps: float) -> int:
        """Append frame pairs of a segment that starts at position ``start``; returns the text base."""
        rows, cols = cells(SIZES[e.grid])
        top = start + max(rows, cols) - 1
        for pair in pairs:
            t = start + int(TOKENS_PER_SECOND * 2 * (pair - first_pair) / fps)
            for y in range(rows):
                for x in range(cols):
                    e.positions.append((t, start + y, start + x))
            n = rows * cols
            e.ids += [self.pad] * n
            e.source += range(pair * CELLS, pair * CELLS + n)
            e.branch += [0] * n
            e.cut += [-1] * n
            e.pair_at.append(len(e.ids) - 1)
            top = max(top, t)
        return top + 1

    def turn(
        self, e: Episode, before: tuple[int, ...], q: Question, at: int, branch: int, cut: int, weight: float, now: int
    ) -> int:
        """Append ``before``, a question and its answer; a weight of 0 leaves the answer unlearnt."""
        at = self.text(e, before + self.encode(q.text) + self.answering, at, branch, cut)
        answer = self.encode(q.answer)
        start = len(e.at)
        first = len(e.ids) - 1
        at = self.text(e, answer, at, branch, cut)
        if weight > 0:
            # Long answers weigh more than short ones, though less than by their length.
            share = weight * (len(answer) + 1) ** -0.5
            for i, token in enumerate((*answer, self.end)):
                e.at.append(first + i)
                e.target.append(token)
                e.weight.append(share)
            e.answers.append((q, start, len(e.at), now))
        return at


def pick(rng: random.Random, scene: Scene, now: int, *, split: Split, barred: tuple[str, ...] = ()) -> Question:
    """A question of a random kind that has a clear answer."""
    for _ in range(12):
        kind = rng.choices(_KINDS, cum_weights=_CUMULATIVE)[0]
        if kind in barred:
            continue
        q = ask(rng, scene, now, kind, split=split)
        if q is not None:
            return q
    q = ask(rng, scene, now, "visible", split=split)
    assert q is not None
    return q


def draw_length(rng: random.Random, longest: int) -> int:
    """Frames of a clip: all lengths from 1 up to 64, drawn by octaves."""
    u = rng.random()
    low, high = (1, 8) if u < 0.2 else (8, 16) if u < 0.45 else (16, 32) if u < 0.72 else (32, 64)
    return min(rng.randint(low, high), longest)


def write(
    rng: random.Random,
    writer: Writer,
    *,
    longest: int = 64,
    branches: int = 10,
    split: Split = "trained",
    frames: int | None = None,
    size: int | None = None,
) -> Episode:
    """Draw a scene and write an episode about it."""
    frames = frames or draw_length(rng, longest)
    fps = rng.choice(FRAME_RATES)
    grid = size if size is not None else rng.choices(range(len(SIZES)), SIZE_WEIGHTS)[0]
    scene = sample_scene(rng, frames, fps, *SIZES[grid])
    pairs = (frames + 1) // 2
    e = Episode(scene, grid, pairs)
    base = writer.text(e, writer.opening, 0, 0, -1)
    turn = 0
    moments: list[tuple[int, int, int]] = []  # last frame seen, trunk length, text base
    if pairs >= 3 and rng.random() < 0.15:
        turn = rng.randint(1, pairs - 1)

    def roll(start: int, first: int, last: int) -> int:
        after = start
        for pair in range(first, last):
            after = writer.video(e, start, first, range(pair, pair + 1), fps)
            moments.append((min(2 * pair + 1, frames - 1), len(e.ids), after))
        return after

    if turn:
        after = roll(base, 0, turn)
        q = pick(rng, scene, 2 * turn - 1, split=split)
        after = writer.turn(e, writer.close, q, after, 0, -1, 1.0, 2 * turn - 1)
        after = writer.text(e, writer.more_video, after, 0, -1)
        roll(after, turn, pairs)
    else:
        roll(base, 0, pairs)
    for b in range(1, branches + 1):
        now, cut, after = moments[-1]
        if rng.random() < 0.4:
            now, cut, after = rng.choice(moments)
        # Seconds are counted from a segment's start: across a remembered turn they are not known.
        late = turn > 0 and now >= 2 * turn
        barred: tuple[str, ...] = ("when", "ago") if late else ()
        if rng.random() < 0.2:
            stale = rng.random() < 0.5
            earlier = rng.choice(moments)[0] if stale else now
            earlier = min(earlier, now)
            q = pick(rng, scene, earlier, split=split, barred=barred)
            after = writer.turn(e, writer.close, q, after, b, cut, 0.0 if earlier < now else 1.0, now)
            second = follow_up(rng, scene, now, q.subject, split=split) if rng.random() < 0.4 else None
            second = second or pick(rng, scene, now, split=split, barred=barred)
            writer.turn(e, writer.again, second, after, b, cut, 1.0, now)
        else:
            q = pick(rng, scene, now, split=split, barred=barred)
            writer.turn(e, writer.close, q, after, b, cut, 1.0, now)
        e.branches = b
    return e


def cell_labels(e: Episode) -> list[list[int]]:
    """Object class + 1 of the cell each object's centre is in, as of each pair's second frame."""
    rows, cols = cells(SIZES[e.grid])
    out = []
    for pair in range(e.pairs):
        now = min(2 * pair + 1, e.scene.frames - 1)
        labels = [0] * (rows * cols) + [-100] * (CELLS - rows * cols)
        for t in e.scene.visible(now):
            x, y = t.centre(now)
            labels[int(y * rows) * cols + int(x * cols)] = object_class(t.colour_at(now), t.shape) + 1
        out.append(labels)
    return out


def memory_labels(e: Episode, first_pair: int = 0) -> list[list[int]]:
    """What the last token of each pair should know of the past.

    The latest appearances, newest first; the first one; the latest to disappear; then seconds: now,
    at the latest appearance, and since then.
    """
    out = []
    scene = e.scene
    for pair in range(e.pairs):
        now = min(2 * pair + 1, scene.frames - 1)
        known = truth.seen(scene, now)
        names = [object_class(t.colour, t.shape) + 1 for t in known]
        row = (names[::-1] + [0] * RECENT)[:RECENT]
        start = sum(t.first == known[0].first for t in known) if known else 0
        row.append(names[0] if start == 1 else 0 if not known else -100)
        gone = truth.last_gone(scene, now)
        if isinstance(gone, bool):
            row.append(0)
        else:
            row.append(-100 if gone is None else object_class(gone.colour, gone.shape) + 1)
        if sum(t.first == 0 for t in known) > 1:
            # Objects there from the first frame have no order among each other.
            ties = [i for i, t in enumerate(known[::-1]) if t.first == 0]
            for i in ties:
                if i < RECENT:
                    row[i] = -100
        if pair < first_pair:
            row += [-100] * MEMORY_TIMES
        else:
            appeared = scene.seconds(known[-1].first) if known else None
            row.append(min(int(scene.seconds(now)), 63))
            row.append(64 if appeared is None else min(int(appeared), 63))
            row.append(64 if appeared is None else min(int(scene.seconds(now) - appeared), 63))
        out.append(row)
    return out


assert MAX_VISIBLE <= RECENT
