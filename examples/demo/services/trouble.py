"""Troubles that real services have, made up so that every run has some of them."""

from random import Random

from sidecar import current

SHARE_FAILING = 0.15
ATTEMPTS_FAILING_MAX = 3
"""Later attempts do not fail, so that a task that can succeed does."""


def slow_disk(seconds: float) -> None:
    """Take as long as a slow disk would; stop early when the lease is gone."""
    current().wait_cancelled(seconds)
    current().raise_if_cancelled()


def now_and_then() -> None:
    """Fail in one attempt of seven or so: chosen by handler, payload and attempt, not by chance.

    Raises:
        ConnectionError: The attempt should be tried again. A handler need not say so: any
            exception means that.
    """
    here = current()
    luck = Random(f"{here.handler} {here.payload.decode()} {here.attempt}").random()
    if here.attempt <= ATTEMPTS_FAILING_MAX and luck < SHARE_FAILING:
        raise ConnectionError("the picture store did not answer")
