"""What a handler may know about the attempt it runs in, and learn while it runs."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from protocol.ids import to_text
from protocol.messages import GrantedTask, Priority, Update
from sidecar.sdk.errors import NoContext
from sidecar.sdk.telling import Telling

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

    __slots__ = ("_event", "_heeded", "_task", "_tell", "_telling", "deadline", "handler", "reason")

    def __init__(
        self,
        handler: str,
        task: GrantedTask,
        now: float,
        tell: "Callable[[Context], None] | None" = None,
    ) -> None:
        self.handler = handler
        self._task = task
        self._tell = tell
        self._telling: Telling | None = None
        self._heeded = False
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

    @property
    def key(self) -> str | None:
        """The idempotency key that the task was submitted with."""
        return self._text("key")

    @property
    def meta(self) -> Mapping[str, str]:
        """What the submitter has said of the task beside its payload."""
        value = self._extra("meta")
        return dict(value) if isinstance(value, dict) else {}

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of the attempt; what is submitted from here inherits it."""
        return self._text("traceparent")

    @property
    def tracestate(self) -> str | None:
        """What vendors have added to the trace context."""
        return self._text("tracestate")

    @property
    def baggage(self) -> str | None:
        """The W3C baggage of the task."""
        return self._text("baggage")

    @property
    def checkpoint(self) -> bytes | None:
        """What was saved last, by this attempt or an earlier one."""
        if self._telling is not None and self._telling.checkpoint is not None:
            return self._telling.checkpoint
        value = self._extra("checkpoint")
        return value if isinstance(value, bytes) else None

    def load_checkpoint(self) -> Any:
        """Return the value that was saved last, or None.

        Raises:
            ValueError: What was saved is no JSON; see ``checkpoint``.
        """
        saved = self.checkpoint
        return None if saved is None else json.loads(saved)

    def progress(
        self, fraction: float | None = None, *, note: str = "", checkpoint: Any = None
    ) -> None:
        """Tell how far the attempt is, and save what the next one needs to go on from here.

        From async handlers and from threads, as often as you like: it returns at once, and what is
        told in quick succession is merged. A checkpoint is kept with the task once the sidecar has
        passed it on, within about a second, and in any case before the attempt's outcome. Where
        the whole host is lost within that second, the one before counts.

        Args:
            fraction: How much is done, from 0 to 1.
            note: For people; what is longer than 256 characters is cut.
            checkpoint: For the next attempt, at most 4096 bytes. Bytes and text are saved as they
                are, anything else as JSON; see ``checkpoint`` and ``load_checkpoint``.

        Raises:
            ValueError: The fraction is out of range, or the checkpoint is too large or no JSON.
        """
        if self._telling is None:
            self._telling = Telling(Update(self._task.id, self._task.token))
        if self._telling.add(fraction, note, checkpoint) and self._tell is not None:
            self._tell(self)

    def remaining(self) -> float:
        """Return how many seconds are left; 0 when none are."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the attempt must stop; functions in threads look here now and then.

        What an attempt returns after it has seen that is not taken: stop by raising.
        """
        if self.reason is None:
            return False
        self._heeded = True
        return True

    def raise_if_cancelled(self) -> None:
        """Raise ``Cancelled`` if the attempt must stop."""
        if self.reason is not None:
            self._heeded = True
            raise Cancelled(self.reason)

    def wait_cancelled(self, timeout: float) -> bool:
        """Wait in a thread until the attempt must stop; return False after ``timeout`` seconds.

        A sleep that ends early when it should.
        """
        if self._event is None:
            self._event = threading.Event()
        if self.reason is None:  # After the event is there: see _cancel.
            self._event.wait(timeout)
        return self.cancelled

    def _cancel(self, reason: str) -> None:
        """For the SDK: tell the handler to stop; the first reason stays."""
        if self.reason is None:
            self.reason = reason
        event = self._event
        if event is not None:
            event.set()

    def _take_told(self) -> Update | None:
        """For the SDK: return what has been told since the last call."""
        return None if self._telling is None else self._telling.take()

    def _text(self, name: str) -> str | None:
        value = self._extra(name)
        return value if isinstance(value, str) else None

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
