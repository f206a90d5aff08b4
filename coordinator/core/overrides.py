"""What operators have changed of a handler's policy: it wins over what the owner declares."""

from dataclasses import dataclass

from protocol.errors import InvalidField
from protocol.policy import Policy

_BOUNDS = ("backoff_ms_min", "backoff_ms_max")


@dataclass(frozen=True, slots=True)
class Override:
    """One changed field."""

    value: int
    owner: str
    """Who has changed it."""
    reason: str
    set_ms: int


def in_effect(declared: Policy, overrides: dict[str, Override]) -> Policy:
    """Return the policy that counts.

    A bound of the backoff that was changed moves the other one along if the owner declares it on
    the wrong side later: what an operator has set is not refused for that.
    """
    if not overrides:
        return declared
    changes = {name: override.value for name, override in overrides.items()}
    try:
        return declared.with_changes(changes)
    except InvalidField:
        [moved] = [name for name in _BOUNDS if name in changes]
        return declared.with_changes(changes | dict.fromkeys(_BOUNDS, changes[moved]))
