"""Whether the node is there, in words."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 5.0
"""Seconds without a status, which comes every second, after which the node is taken for gone."""


FRESH = 10.0
"""Seconds for which a problem is news; a status has the last one for ever."""
# How the watchdog's sentence begins, which holds as long as it is there.
_SILENCE = "no image on "


@dataclass(frozen=True, slots=True)
class Standing:
    """How the node stands.

    Attributes:
        state: "absent", "gone", or what its status says.
        sentence: what a person should know; empty if all is well.
    """

    state: str
    sentence: str

    @property
    def is_there(self) -> bool:
        return self.state not in ("absent", "gone")


class Presence:
    """Follows one node."""

    def __init__(self, node: str, domain: str) -> None:
        self._node, self._domain = node, domain
        self._heard: float | None = None
        self._state = ""
        # By stream: what was lost so far, the last problem, and since when that is so.
        self._problems: dict[str, tuple[int, str, float]] = {}

    def heard(self, state: str, message: str, now: float, *, stream: str = "", lost: int = 0) -> None:
        """A status came.

        Args:
            state: of the node.
            message: its last problem.
            now: when it came.
            stream: which of the node's it is about.
            lost: frames that were lost so far.
        """
        before = self._problems.get(stream)
        if before is None or before[:2] != (lost, message):
            self._problems[stream] = (lost, message, now)
        self._heard, self._state = now, state

    def forget(self, stream: str) -> None:
        """The node has that stream no more."""
        self._problems.pop(stream, None)

    def standing(self, now: float) -> Standing:
        """How it stands at this moment."""
        if self._heard is None:
            return Standing(
                "absent",
                f"No node {self._node} is to be seen yet. Start it, or check its name and ROS_DOMAIN_ID "
                f"(here {self._domain}); this page goes on by itself.",
            )
        if now - self._heard > PATIENCE:
            return Standing(
                "gone",
                f"The node {self._node} says nothing any more: it ended, hangs, or cannot be reached. "
                "This page goes on by itself when it is back.",
            )
        message = next((problem for _, problem, _ in self._problems.values() if problem), "")
        if self._state == "loading":
            return Standing("loading", f"The node is starting: {message or 'its model is being loaded'}.")
        if self._state == "error":
            return Standing("error", f"The node has a problem: {message}")
        if self._state == "inactive":
            return Standing("inactive", "The node is inactive: it takes no images, and answers about what it saw.")
        if self._state != "active":
            return Standing(self._state, f"The node is {self._state}: it answers once it is configured and active.")
        news = (
            f"{stream}: {problem}" if stream else problem
            for stream, (_, problem, since) in sorted(self._problems.items())
            if problem and (problem.startswith(_SILENCE) or now - since < FRESH)
        )
        return Standing("active", " \u00b7 ".join(news))
