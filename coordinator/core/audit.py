"""What operators have done: durable rows, the latest of them, numbered without gaps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coordinator.core import layout, records

KEPT = 10_000
"""Rows kept; the oldest goes when another comes."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that was done."""

    number: int
    at_ms: int
    owner: str
    """Who did it, by their own word."""
    action: str
    """gate.pause, gate.drop, gate.lift, gate.end, gate.swept, policy.set, policy.revert,
    sidecar.drain, sidecar.undrain."""
    target: str
    reason: str
    details: dict[str, Any]
    """What has come of it: counts, values before and after."""


class AuditLog:
    """The rows of one shard; memory holds their number only."""

    def __init__(self) -> None:
        self.latest = 0
        """The number of the latest row."""

    def add(
        self,
        writes: dict[bytes, bytes | None],
        fields: tuple[int, str, str, str, str],
        details: dict[str, Any],
    ) -> None:
        """Write a row with the next commit: the fields ``at_ms`` to ``reason``, and details."""
        self.latest += 1
        key = layout.audit_key(self.latest)
        writes[key] = records.encode_list(key, [*fields, details])
        if self.latest > KEPT:
            writes[layout.audit_key(self.latest - KEPT)] = None


def rows_of(pairs: Iterable[tuple[bytes, bytes]]) -> list[AuditRow]:
    """Return the rows in some pairs of the store; one that is damaged says so."""
    rows = []
    for key, value in pairs:
        number = layout.number_of(key)
        try:
            rows.append(AuditRow(number, *records.decode_list(key, value)))
        except (layout.Damaged, TypeError):
            rows.append(AuditRow(number, 0, "", "damaged", "", "this row cannot be read", {}))
    return rows
