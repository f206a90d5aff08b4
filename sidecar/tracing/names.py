"""The names in spans, all of them: those of messaging are still in development at OpenTelemetry.

Pure: no I/O, no clock.
"""

from typing import Any
from urllib.parse import urlsplit

from protocol.ids import to_text
from protocol.messages import GrantedTask, OutcomeKind
from sidecar.core.events import Ended

SCOPE = "pillion.sidecar"
SERVICE_NAME = "service.name"
ERROR_TYPE = "error.type"
_LEASE_LOST = "lease_lost"
_OUTCOMES = {kind: kind.name.lower() for kind in OutcomeKind}
_FAILED = frozenset({OutcomeKind.RETRY, OutcomeKind.FATAL, OutcomeKind.LOST, None})
"""What makes a span an error. To defer is none: the handler has answered, at no charge."""

Attributes = dict[str, Any]


def span_name(handler: str) -> str:
    """Return the name of an attempt's span."""
    return f"process {handler}"


def of_sidecar(service: str, sidecar: str, coordinator: str) -> Attributes:
    """Return the attributes that all spans of a sidecar have."""
    address = urlsplit(coordinator)
    return {
        "messaging.system": "pillion",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": service,
        "messaging.client.id": sidecar,
        "server.address": address.hostname or coordinator,
        "server.port": address.port or 0,
    }


def of_task(handler: str, task: GrantedTask) -> Attributes:
    """Return what is known of an attempt when it is handed over; nothing of the payload."""
    return {
        "messaging.destination.name": handler,
        "messaging.message.id": to_text(task.id),
        "messaging.message.body.size": len(task.payload),
        "pillion.attempt": task.attempt,
        "pillion.delivery": task.delivery,
        "pillion.lease": task.token,
    }


def of_end(end: Ended, wait_ms: int) -> Attributes:
    """Return what is known of an attempt at its end.

    What failed has an ``ERROR_TYPE``. The error's text is left out: it may quote the payload.
    """
    made: Attributes = {
        "pillion.wait_ms": wait_ms,
        "pillion.outcome": _LEASE_LOST if end.kind is None else _OUTCOMES[end.kind],
    }
    if end.kind in _FAILED:
        made[ERROR_TYPE] = end.error_type or "_OTHER"
    return made
