"""Questions about tasks on their way: asked, asked again after a reconnect, answered.

No I/O and no clock here. A wait longer than the protocol allows is asked in pieces.
"""

from collections.abc import Callable

from protocol import limits
from protocol.errors import Code
from protocol.messages import Cancel, Cancellation, Query, Question, Reply
from sidecar.sdk.errors import PillionError

FOREVER = float("inf")


class Asked:
    """One question that has no answer yet.

    ``until`` is the instant until which the task's end is waited for; None asks at once.
    """

    __slots__ = ("answered", "cancel", "id", "until")

    def __init__(
        self,
        task_id: bytes,
        until: float | None,
        answered: Callable[[Reply | PillionError], None],
        cancel: str | None = None,
    ) -> None:
        self.id = task_id
        self.cancel = cancel
        """Why the task is to be cancelled; None if nobody asks for that."""
        self.until = until
        self.answered = answered


class Questions:
    """All questions of one client."""

    def __init__(self) -> None:
        self._request = 0
        self._asked: dict[int, Asked] = {}
        self._unsent: list[int] = []

    @property
    def pending(self) -> bool:
        """Whether anything has no answer."""
        return bool(self._asked)

    @property
    def unsent(self) -> bool:
        """Whether ``take`` would return anything."""
        return bool(self._unsent)

    def add(self, asked: Asked) -> int:
        """Take a question; return its number, with which it can be forgotten."""
        self._request += 1
        self._asked[self._request] = asked
        self._unsent.append(self._request)
        return self._request

    def forget(self, request: int) -> None:
        """The asker has gone."""
        self._asked.pop(request, None)

    def take(self, now: float) -> list[Query | Cancel]:
        """Return the messages to send now. Cancellations go first, as they do on from here."""
        unsent = [(r, self._asked[r]) for r in self._unsent if r in self._asked]
        self._unsent = []
        requests = [Cancellation(r, a.id, a.cancel) for r, a in unsent if a.cancel is not None]
        questions = [Question(r, a.id, _wait_ms(a, now)) for r, a in unsent if a.cancel is None]
        step = limits.QUERY_IDS_MAX
        return [
            *[Cancel(requests[i : i + step]) for i in range(0, len(requests), step)],
            *[Query(questions[i : i + step]) for i in range(0, len(questions), step)],
        ]

    def reconnected(self) -> None:
        """Everything is to be asked again."""
        self._unsent = list(self._asked)

    def settle(self, reply: Reply, now: float) -> None:
        """Take an answer; ask again if the task goes on and so does the wait for it."""
        asked = self._asked.get(reply.request)
        if asked is None:
            return
        if reply.status is None:
            ended = reply.code != Code.UNAVAILABLE  # An outage can be longer than a piece.
        else:
            ended = reply.status.state.terminal
        if not ended and asked.until is not None and asked.until > now:
            self._unsent.append(reply.request)
            return
        del self._asked[reply.request]
        asked.answered(reply)

    def fail(self, error: PillionError) -> None:
        """Fail everything: nobody will answer."""
        asked, self._asked = self._asked, {}
        self._unsent = []
        for entry in asked.values():
            entry.answered(error)


def _wait_ms(asked: Asked, now: float) -> int:
    if asked.until is None:
        return 0
    if asked.until == FOREVER:
        return limits.WAIT_MS_MAX
    return max(0, min(limits.WAIT_MS_MAX, int((asked.until - now) * 1000) + 1))
