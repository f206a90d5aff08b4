"""A drain: an operator's hold on all sidecars of a name."""

from dataclasses import dataclass

DRAINS_MAX = 1_000
"""Drains at one time."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain."""

    sidecar: str
    """The name that sidecars give in HELLO."""
    owner: str
    """Who has drained it."""
    reason: str
    created_ms: int

    def describe(self) -> str:
        """Return who has drained it and why, in words."""
        return f"{self.owner}: {self.reason}" if self.reason else self.owner
