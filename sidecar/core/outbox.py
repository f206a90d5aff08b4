"""What is to be sent on local connections, gathered so that each gets few, full messages."""

from collections.abc import Callable
from typing import TypeVar

from protocol.messages import (
    Accepted,
    Answer,
    Group,
    Lease,
    Message,
    Recall,
    Reply,
    Revoke,
    Revoked,
    Tasks,
    Verdict,
)
from sidecar.core.parcels import parcels, reply_bytes, task_groups, verdict_bytes

T = TypeVar("T")


class Outbox:
    """Messages to local connections since the last ``take``."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._first: list[tuple[int, Message]] = []
        self._revoked: dict[int, list[Revoked]] = {}
        self._tasks: dict[int, list[Group]] = {}
        self._verdicts: dict[int, list[Verdict]] = {}
        self._replies: dict[int, list[Reply]] = {}
        self._last: list[tuple[int, Message]] = []

    def first(self, connection: int, message: Message) -> None:
        """Send a message before all others."""
        self._first.append((connection, message))

    def last(self, connection: int, message: Message) -> None:
        """Send a message after all others."""
        self._last.append((connection, message))

    def revoke(self, revoked: list[tuple[int, Revoked]]) -> None:
        """Tell services which attempts to stop."""
        _gather(self._revoked, revoked)

    def recall(self, leases: list[tuple[int, list[Lease]]]) -> None:
        """Ask services to give back what has not begun."""
        self._last += [(connection, Recall(given)) for connection, given in leases]

    def tasks(self, groups: list[tuple[int, Group]]) -> None:
        """Hand tasks to services."""
        _gather(self._tasks, groups)

    def verdicts(self, verdicts: list[tuple[int, Verdict]]) -> None:
        """Answer submissions."""
        _gather(self._verdicts, verdicts)

    def replies(self, replies: list[tuple[int, Reply]]) -> None:
        """Answer questions."""
        _gather(self._replies, replies)

    def take(self) -> list[tuple[int, Message]]:
        """Return the messages to send, and forget them."""
        made = self._first
        made += [(to, Revoke(revoked)) for to, revoked in self._revoked.items()]
        made += [
            (to, Tasks(part)) for to, groups in self._tasks.items() for part in task_groups(groups)
        ]
        made += _messages(self._verdicts, verdict_bytes, Accepted)
        made += _messages(self._replies, reply_bytes, Answer)
        made += self._last
        self._clear()
        return made


def _gather(by_connection: dict[int, list[T]], items: list[tuple[int, T]]) -> None:
    for connection, item in items:
        by_connection.setdefault(connection, []).append(item)


def _messages(
    by_connection: dict[int, list[T]],
    size_of: Callable[[T], int],
    message: Callable[[list[T]], Message],
) -> list[tuple[int, Message]]:
    return [
        (to, message(part))
        for to, items in by_connection.items()
        for part in parcels(items, size_of)
    ]
