"""Put payloads that are stored apart into a grant, and leave out what is not what was submitted.

A payload has no checksum of its own: its task's record holds one over handler and payload, made
when it was submitted, and a payload in another's place is seen by it as well.
"""

from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

from coordinator.core.effects import Outgoing
from coordinator.core.layout import payload_key
from protocol.messages import Grant, GrantedTask, Group

MISSING = "payload_missing"
DAMAGED = "payload_damaged"


class Spoiled(NamedTuple):
    """A lease whose task cannot be handed to a handler."""

    id: bytes
    token: int
    error_type: str
    """``MISSING`` or ``DAMAGED``."""


class Filled(NamedTuple):
    """A grant as it is sent."""

    outgoing: Outgoing
    session: int
    """The session number of the grant."""
    spoiled: list[Spoiled]
    """What was left out."""


def name_crc(handler: str) -> int:
    """Return the checksum of a handler's name, with which that of its payloads begins."""
    return crc32(handler.encode())


def content_crc(handler_crc: int, payload: bytes) -> int:
    """Return the checksum of what was submitted."""
    return crc32(payload, handler_crc)


def fill(outgoing: Outgoing, found: Mapping[bytes, bytes]) -> Filled:
    """Return a grant with its payloads, without the tasks whose payload is not there unharmed.

    Args:
        outgoing: A grant, and which of its payloads are stored apart.
        found: What the store has under their keys.
    """
    message = outgoing.message
    assert type(message) is Grant
    spoiled: list[Spoiled] = []
    groups = []
    for handler, tasks in message.groups:
        handler_crc = name_crc(handler)
        filled: list[GrantedTask] = []
        for task in tasks:
            expected = outgoing.payloads.get(task.id)
            if expected is None:
                filled.append(task)
                continue
            payload = found.get(payload_key(task.id))
            if payload is None:
                spoiled.append(Spoiled(task.id, task.token, MISSING))
            elif content_crc(handler_crc, payload) != expected:
                spoiled.append(Spoiled(task.id, task.token, DAMAGED))
            else:
                filled.append(task._replace(payload=payload))
        groups.append(Group(handler, filled))
    grant = Grant(message.session, message.number, groups)
    return Filled(Outgoing(outgoing.peer, grant), message.session, spoiled)
