"""What an app or service may have to act on; each error says what was wrong and what to do.

    PillionError
      Rejected            this task was not taken; mend it, then submit it again
      Busy                nothing was stored; wait ``retry_after`` seconds, then submit again
      Unavailable         no answer in time; says whether anything was sent, so may have been stored
      Refused             the sidecar refuses the connection; mend the service or its version
      TaskNotFound        no task has this id, or its retention is over
      TaskFailed          the task has ended without success:
        TaskDead            it failed for good, or its attempts are used up
        TaskCancelled       an operator or its submitter cancelled it
        TaskExpired         it was not begun before it expired
        TaskDropped         an operator's gate dropped it
      InvalidHandler      a handler is declared wrongly; raised while the module is imported
      NoContext           ``current()`` was called outside an attempt

Waiting longer than asked raises the built-in ``TimeoutError``: the task goes on.
"""

import time

from protocol.ids import from_text, to_text, why_unknown

__all__ = [
    "Busy",
    "InvalidHandler",
    "NoContext",
    "PillionError",
    "Refused",
    "Rejected",
    "TaskCancelled",
    "TaskDead",
    "TaskDropped",
    "TaskExpired",
    "TaskFailed",
    "TaskNotFound",
    "Unavailable",
]


class PillionError(Exception):
    """Base of every error of the SDK."""


class Rejected(PillionError):
    """Raised when a task is not taken because of what is in it; nothing was stored.

    Attributes:
        code: One of the codes in ``docs/protocol.md``, for programs.
        detail: What is wrong, for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} [{code}]")
        self.code = code
        self.detail = detail


class Busy(PillionError):
    """Raised when a limit was reached for longer than the client's timeout; nothing was stored.

    Attributes:
        code: Which limit: ``busy``, ``store_full``, ``too_many_waiters``.
        retry_after: Seconds to wait before the next try.
    """

    def __init__(self, code: str, detail: str, retry_after: float) -> None:
        super().__init__(
            f"{detail or 'the receiver is at a limit'} [{code}]; nothing was stored, "
            f"try again in {retry_after:g} s"
        )
        self.code = code
        self.retry_after = retry_after


class Unavailable(PillionError):
    """Raised when no answer came within the client's timeout.

    Attributes:
        sent: Whether anything was sent. If so the outcome is unknown; if not, nothing was stored.
        ids: The ids of the tasks concerned. Submitting them again under the same ids is harmless.
    """

    def __init__(self, detail: str, *, sent: bool, ids: tuple[bytes, ...] = ()) -> None:
        super().__init__(detail)
        self.sent = sent
        self.ids = tuple(to_text(i) for i in ids)


class Refused(PillionError):
    """Raised when the sidecar refuses the connection, and would refuse it again.

    Attributes:
        code: One of the codes in ``docs/protocol.md``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"the sidecar refuses the connection: {detail} [{code}]")
        self.code = code
        self.detail = detail


class TaskNotFound(PillionError):
    """Raised when no task has the id: it never existed, or its retention is over."""

    def __init__(self, task_id: str) -> None:
        super().__init__(why_unknown(from_text(task_id), time.time_ns() // 1_000_000))
        self.id = task_id


class TaskFailed(PillionError):
    """Raised when a task that was waited for has ended without success.

    Attributes:
        id: The task.
        reason: Why, as the coordinator keeps it.
    """

    state = "failed"

    def __init__(self, task_id: str, handler: str, reason: str) -> None:
        super().__init__(f"task {task_id} of {handler} is {self.state}: {reason or 'no reason'}")
        self.id = task_id
        self.handler = handler
        self.reason = reason


class TaskDead(TaskFailed):
    """Raised when the task failed for good; a person may requeue it."""

    state = "dead"


class TaskCancelled(TaskFailed):
    """Raised when the task was cancelled."""

    state = "cancelled"


class TaskExpired(TaskFailed):
    """Raised when no attempt of the task began before it expired."""

    state = "expired"


class TaskDropped(TaskFailed):
    """Raised when a gate dropped the task."""

    state = "dropped"


class InvalidHandler(PillionError):
    """Raised when a handler is declared wrongly."""

    def __init__(self, handler: str, detail: str) -> None:
        super().__init__(f"handler {handler}: {detail}")
        self.handler = handler


class NoContext(PillionError):
    """Raised when ``current()`` is called outside an attempt."""

    def __init__(self) -> None:
        super().__init__(
            "no attempt is running here: current() works inside a handler, in the asyncio task "
            "or thread that was given to it; a thread of your own needs the context passed to it"
        )
