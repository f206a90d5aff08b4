"""How a handler's attempts are bounded and spaced, and how soon they are to begin.

Declared by the service that owns the handler.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from protocol import limits
from protocol.errors import InvalidField

_DAY = limits.DAY_MS


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one handler.

    Invariant: every value lies in its range of ``_RANGES`` and
    ``backoff_ms_min <= backoff_ms_max``.
    """

    attempts_max: int = 12
    """Charged attempts before a task is dead. With the default backoff: about 1.3 hours."""
    backoff_ms_min: int = 2_000
    backoff_ms_max: int = 1_800_000
    timeout_ms: int = 60_000
    """Longest run of one attempt."""
    concurrency: int = 0
    """Leases of the handler at one time over all sidecars; 0 means no limit."""
    crashes_max: int = 3
    """Attempts that may end by the death of their process before the task is dead."""
    deferrals_max: int = 1_000
    """Uncharged "not now" answers before the task is dead."""
    start_within_ms: int = 5_000
    """The objective: an attempt is leased so soon after it is due; 0 means none. Nothing is
    scheduled by it: it is what operators measure, alert and scale by."""

    def with_changes(self, changes: dict[str, Any]) -> "Policy":
        """Return a copy with some values replaced, each checked.

        Raises:
            InvalidField: A name is not known or a value is out of range.
        """
        for name, value in changes.items():
            _check(name, value)
        changed = replace(self, **changes)
        if changed.backoff_ms_min > changed.backoff_ms_max:
            raise InvalidField(
                f"backoff_ms_min ({changed.backoff_ms_min}) is over "
                f"backoff_ms_max ({changed.backoff_ms_max})"
            )
        return changed

    def changes(self) -> dict[str, int]:
        """Return what differs from the defaults: the form that travels and is stored."""
        default = Policy()
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(default, f.name)
        }


_RANGES: dict[str, tuple[int, int]] = {
    "attempts_max": (1, limits.ATTEMPTS_MAX),
    "backoff_ms_min": (0, _DAY),
    "backoff_ms_max": (0, 30 * _DAY),
    "timeout_ms": (1, limits.TIMEOUT_MS_MAX),
    "concurrency": (0, limits.CONCURRENCY_MAX),
    "crashes_max": (1, limits.ATTEMPTS_MAX),
    "deferrals_max": (0, limits.DEFERRALS_MAX),
    "start_within_ms": (0, limits.TIMEOUT_MS_MAX),
}


def _check(name: str, value: object) -> None:
    if name not in _RANGES:
        raise InvalidField(f"policy has no field {name!r}; known: {', '.join(_RANGES)}")
    low, high = _RANGES[name]
    if type(value) is not int or not low <= value <= high:
        raise InvalidField(f"policy field {name} is {value!r}; expected {low} to {high}")
