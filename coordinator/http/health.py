"""Whether the process lives, and whether it does what it is there for."""

from dataclasses import dataclass

from coordinator.http.access import Access
from coordinator.http.routes import Answer, Request


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well."""

    ok: bool
    checks: list[Check]
    """What was looked at, if it was asked for or something is wrong."""


async def live(_access: Access, _request: Request) -> Health:
    """Say that the event loop turns: it has answered."""
    return Health(True, [])


async def started(access: Access, _request: Request) -> Answer:
    """Say that the store has been read; before that, nothing listens."""
    check = _recovered(access)
    return Answer(200 if check.ok else 503, Health(check.ok, [check]))


def _recovered(access: Access) -> Check:
    return Check("recovered", access.shard.recovered, "the store has been read")


async def ready(access: Access, request: Request) -> Answer:
    """Say whether submissions are accepted."""
    seen = access.observation
    checks = [
        _recovered(access),
        Check("serving", not seen.stopping, "it stops" if seen.stopping else "it does not stop"),
        Check("room", not seen.refusal, seen.refusal or "the store and its disk have room"),
    ]
    ok = all(check.ok for check in checks)
    shown = checks if request.query["verbose"] or not ok else []
    return Answer(200 if ok else 503, Health(ok, shown))
