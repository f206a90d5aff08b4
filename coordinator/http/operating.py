"""Have the core carry out what an operator asks for, and answer when it is durable."""

from typing import Any

from coordinator.core.operations import By, Operation, Refusal
from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request
from protocol.limits import REASON_CHARS_MAX

OWNER_CHARS_MAX = 64
BY = (
    Parameter("owner", "Who does it"),
    Parameter("reason", "Why"),
)
DRY_RUN = Parameter("dry_run", "Change nothing, tell what would happen", bool, default=False)


async def operate(access: Access, operation: Operation) -> Any:
    """Return what the operation has come to.

    Raises:
        Problem: It was refused, and has changed nothing.
    """
    answer = await access.operate(operation)
    if isinstance(answer, Refusal):
        raise Problem(answer.code, answer.detail)
    return answer.value


def by_of(owner: str, reason: str) -> By:
    """Return who asks and why, checked: both are shown to others."""
    if not owner:
        raise Problem("missing_owner", "who asks for it is not said")
    for name, text, chars_max in (
        ("owner", owner, OWNER_CHARS_MAX),
        ("reason", reason, REASON_CHARS_MAX),
    ):
        if len(text) > chars_max or not text.isprintable():
            raise Problem("invalid_parameter", f"{name}: {chars_max} printable characters at most")
    return By(owner, reason)


def by_query(request: Request) -> By:
    """Return who asks and why, of a request without a body."""
    return by_of(request.query["owner"], request.query["reason"])
