"""What a handler may know about the attempt it runs in, and learn while it runs."""

import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime

from protocol.ids import to_text
from protocol.messages import GrantedTask, Priority
from sidecar.sdk.errors import NoContext

__all__ = ["Cancelled", "Context", "current"]


class Cancelled(Exception):
    """Raised by ``Context.raise_if_cancelled`` in an attempt that must stop."""


class Context:
    """One attempt, as its handler sees it.

    Attributes:
        handler: The full name, ``email.send``.
        deadline: When the attempt's time is over, on the clock of ``time.monotonic()``.
        reason: Why the attempt must stop: ``timeout``, ``lease-lost``, ``cancelled``,
            ``stopping``, ``disconnected``; None while it need not.
    """

    __slots__ = ("_event", "_task", "deadline", "handler", "reason")

    def __init__(self, handler: str, task: GrantedTask, now: float) -> None:
        self.handler = handler
        self._task = task
        self.deadline = now + task.timeout_ms / 1000
        self.reason: str | None = None
        self._event: threading.Event | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return to_text(self._task.id)

    @property
    def token(self) -> int:
        """The fencing token: pass it to what you write to, and let that refuse lower ones."""
        return self._task.token

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; attempts that cost nothing are not counted."""
        return self._task.attempt

    @property
    def attempts_max(self) -> int:
        """After this many failed attempts the task is dead."""
        return self._task.attempts_max

    @property
    def delivery(self) -> int:
        """Counts every time the task was leased, from 1."""
        return self._task.delivery

    @property
    def submitted_at(self) -> datetime:
        """When the task was accepted."""
        return datetime.fromtimestamp(self._task.submitted_ms / 1000, UTC)

    @property
    def content_type(self) -> str:
        """Content type of the payload."""
        return self._task.content_type or "application/json"

    @property
    def payload(self) -> bytes:
        """The payload as it was submitted."""
        return self._task.payload

    @property
    def collection(self) -> str | None:
        """The task's collection."""
        value = self._extra("collection")
        return value if isinstance(value, str) else None

    @property
    def priority(self) -> str:
        """``critical``, ``high``, ``normal`` or ``low``."""
        value = self._extra("priority")
        if isinstance(value, int) and 0 <= value < len(Priority):
            return Priority(value).name.lower()
        return "normal"

    @property
    def last_error(self) -> str | None:
        """What the previous attempt failed with."""
        value = self._extra("last_error")
        return None if value is None else str(value)

    def remaining(self) -> float:
        """Return how many seconds are left; 0 when none are."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the attempt must stop; functions in threads look here now and then.

        What an attempt returns after that is not taken: stop by raising.
        """
        return self.reason is not None

    def raise_if_cancelled(self) -> None:
        """Raise ``Cancelled`` if the attempt must stop."""
        if self.reason is not None:
            raise Cancelled(self.reason)

    def wait_cancelled(self, timeout: float) -> bool:
        """Wait in a thread until the attempt must stop; return False after ``timeout`` seconds.

        A sleep that ends early when it should.
        """
        if self._event is None:
            self._event = threading.Event()
        if self.reason is not None:  # After the event is there: see _cancel.
            return True
        return self._event.wait(timeout)

    def _cancel(self, reason: str) -> None:
        """For the SDK: tell the handler to stop; the first reason stays."""
        if self.reason is None:
            self.reason = reason
        event = self._event
        if event is not None:
            event.set()

    def _extra(self, name: str) -> object:
        extras = self._task.extras
        return None if extras is None else extras.get(name)


CURRENT: ContextVar[Context] = ContextVar("pillion_context")


def current() -> Context:
    """Return the attempt that runs here.

    Raises:
        NoContext: None does.
    """
    context = CURRENT.get(None)
    if context is None:
        raise NoContext
    return context
