"""Whether the node is there, in words."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 5.0
"""Seconds without a status, which comes every second, after which the node is taken for gone."""


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
        self._state, self._message = "", ""

    def heard(self, state: str, message: str, now: float) -> None:
        """A status came."""
        self._heard, self._state, self._message = now, state, message

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
        if self._state == "loading":
            return Standing("loading", f"The node is starting: {self._message or 'its model is being loaded'}.")
        if self._state == "error":
            return Standing("error", f"The node has a problem: {self._message}")
        if self._state == "inactive":
            return Standing("inactive", "The node is inactive: it takes no images, and answers about what it saw.")
        if self._state != "active":
            return Standing(self._state, f"The node is {self._state}: it answers once it is configured and active.")
        return Standing("active", self._message)
