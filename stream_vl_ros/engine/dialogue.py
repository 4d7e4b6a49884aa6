"""Dialogues: what was asked and answered before, remembered as text under an id."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from stream_vl_ros.engine.config import DialogueConfig
from stream_vl_ros.engine.question import Turn


class Dialogues:
    """Histories by id, each bounded. Safe for use from several threads."""

    def __init__(self, count_tokens: Callable[[str], int], config: DialogueConfig | None = None) -> None:
        self._count = count_tokens
        self._config = config or DialogueConfig()
        self._histories: OrderedDict[str, deque[tuple[Turn, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, name: str) -> tuple[Turn, ...]:
        """Turns of a dialogue, oldest first; none of one that is not known."""
        with self._lock:
            if name not in self._histories:
                return ()
            self._histories.move_to_end(name)
            return tuple(turn for turn, _ in self._histories[name])

    def append(self, name: str, turn: Turn) -> None:
        """Remember one more turn. What does not fit any more is forgotten, whole turns at a time."""
        size = self._count(turn.question) + self._count(turn.answer)
        with self._lock:
            history = self._histories.setdefault(name, deque())
            self._histories.move_to_end(name)
            history.append((turn, size))
            while len(history) > self._config.turns or sum(n for _, n in history) > self._config.tokens:
                history.popleft()
            while len(self._histories) > self._config.dialogues:
                self._histories.popitem(last=False)

    def forget(self, name: str) -> bool:
        """Forget a dialogue. False if it was not known."""
        with self._lock:
            return self._histories.pop(name, None) is not None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._histories.clear()
