"""Events as they happen: server-sent events, resumable by the id of the last one that was seen."""

import asyncio
import json
from collections.abc import AsyncIterator

from coordinator.events import Event
from coordinator.http.access import Access
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request

MEDIA_TYPE = "text/event-stream"
WATCHERS_MAX = 64
SILENCE_SECONDS = 15.0
"""After so long without an event a comment is sent, so that a dead connection is found."""
RETRY_MS = 1_000
PARAMETERS = (Parameter("since", "The id of the last event that was seen, as Last-Event-ID"),)


def events(access: Access, request: Request) -> AsyncIterator[bytes]:
    """Return the events behind the last one that was seen, and then those to come.

    Raises:
        Problem: Too many watch already.
    """
    ring = access.observation.events
    if ring.watchers >= WATCHERS_MAX:
        raise Problem("too_many_watchers", f"{ring.watchers} connections watch")
    seen = request.headers.get("Last-Event-ID") or request.query["since"]
    return _stream(access, _number(seen, access))


async def _stream(access: Access, number: int) -> AsyncIterator[bytes]:
    ring, epoch = access.observation.events, access.ownership.epoch
    bell = ring.watch()
    try:
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not access.observation.stopping:
            bell.clear()
            forgotten, found = ring.after(number)
            if forgotten:
                yield b"event: gap\ndata: %s\n\n" % json.dumps({"missed": forgotten}).encode()
            for event in found:
                yield encode(event, epoch)
            number = ring.latest
            try:
                await asyncio.wait_for(bell.wait(), SILENCE_SECONDS)
            except TimeoutError:
                yield b": still here\n\n"
    finally:
        ring.leave(bell)


def encode(event: Event, epoch: int) -> bytes:
    """Return an event as its lines."""
    data = json.dumps({"at_ms": event.at_ms, "event": event.name, **event.fields}, default=str)
    return f"id: {epoch}-{event.number}\nevent: {event.name}\ndata: {data}\n\n".encode()


def _number(seen: str, access: Access) -> int:
    """Return the number of the last event seen; nothing before the connection if there is none."""
    epoch, _, number = seen.partition("-")
    if not (epoch.isdigit() and number.isdigit()) or len(seen) > 40:
        return access.observation.events.latest
    if int(epoch) != access.ownership.epoch:
        return 0  # Of an earlier process: all that this one has seen is new.
    return min(int(number), access.observation.events.latest)
