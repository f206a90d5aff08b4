"""What a handler raises to decide what its attempt comes to.

Any other exception means: failed, try again after the handler's backoff, and charge the attempt.
"""

from sidecar.sdk.times import Duration, duration_ms

__all__ = ["Defer", "Fatal", "Retry"]


class Retry(Exception):
    """Raise it to have the task tried again; the attempt is charged.

    Args:
        reason: Why, for the task's history.
        after: How long to wait; without it the handler's backoff decides.
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_ms = None if after is None else duration_ms("after", after)


class Defer(Exception):
    """Raise it to say "not now": the task comes again later, and no attempt is charged.

    Args:
        reason: Why, for the task's history.
        after: How long to wait; without it the handler's backoff decides.
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_ms = None if after is None else duration_ms("after", after)


class Fatal(Exception):
    """Raise it when no further attempt can succeed: the task becomes a dead letter.

    Args:
        reason: Why, for the person who looks at the dead letter.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
