"""Every row of the outcome table, on every transport that can show its sign, for real.

Push meets a real server on app.sock, pull a real client on sidecar.sock, exec a real process.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocol.ids import to_text
from protocol.messages import OutcomeKind, Revoke, Revoked
from sidecar.core.events import Drain
from sidecar.invoke.answers import TABLE, Fate
from sidecar.invoke.handlers import Handler, build
from tests.sidecar.invoke.bench import (
    HANDLER,
    App,
    Bench,
    executed,
    listening,
    pushed,
    response,
    serving,
)
from tests.sidecar.loops import on_each_loop, turns_until
from tests.support.builders import a_granted_task, task_id

KINDS = {
    Fate.SUCCESS: OutcomeKind.SUCCESS,
    Fate.LATER: OutcomeKind.SUCCESS,  # As it is completed later.
    Fate.RETRY: OutcomeKind.RETRY,
    Fate.DEFER: OutcomeKind.DEFER,
    Fate.FATAL: OutcomeKind.FATAL,
    Fate.MISROUTED: OutcomeKind.RETURNED,
    Fate.AWAY: OutcomeKind.RETURNED,
    Fate.LOST: OutcomeKind.LOST,
}
TOO_LONG = 300_000
STREAM = "application/x-ndjson"
REVOKED = ("timeout", "stalled", "cancelled", "lease-lost", "stopping")
SHORT_MS = 100

PUSH = {
    "2xx": response(299, b'{"n": 1}'),
    "3xx": response(302, headers={"Location": "http://elsewhere/"}),
    "4xx": response(418),
    "5xx": response(599),
    "unreadable": b"HTTP/9.9 what\r\n\r\n",
    "no-outcome": response(200, b'{"progress": 1}\n', content_type=STREAM),
    "too-large": response(200, bytes(TOO_LONG)),
    "closed": App.CLOSE,
}
"""What the service answers to show a sign; a status shows itself."""
EXEC = {
    "exit": "exit 1",
    "signal": "kill -9 $$",
    "too-large": f"head -c {TOO_LONG} /dev/zero",
    "refused": "true " + "x" * 200_000,
}
"""The command that shows a sign; an exit code shows itself."""
WORDS = ("complete", "fail", "defer")
ROWS = [(sign, fate) for fate, signs in TABLE for sign in signs]


def rows(*transports: str) -> list[Any]:
    made = []
    for sign, fate in ROWS:
        shown = {
            "push": sign[:1].isdigit() or sign in PUSH or sign == "refused",
            "pull": sign in WORDS or sign == "too-large",
            "exec": sign.startswith("exit") or sign in EXEC,
        }
        made += [
            pytest.param(transport, sign, fate, id=f"{transport}-{sign}")
            for transport in transports
            if shown[transport] or sign in REVOKED
        ]
    return made


def test_every_row_is_shown_on_some_transport() -> None:
    walked = {row.values[1] for row in rows("push", "pull", "exec")}

    assert walked == {sign for sign, _ in ROWS}


@on_each_loop
@pytest.mark.parametrize(("transport", "sign", "fate"), rows("push", "pull", "exec"))
async def test_sign_becomes_the_outcome_of_its_row(transport: str, sign: str, fate: Fate) -> None:
    handler = _handler(transport, sign)
    drain_ms = SHORT_MS if sign == "stopping" else 60_000
    async with serving(handler, drain_ms=drain_ms) as bench, _service(bench, transport, sign):
        timeout_ms = SHORT_MS if sign == "timeout" else 60_000
        bench.grant(a_granted_task(1, timeout_ms=timeout_ms))

        if sign in REVOKED:
            await _revoke(bench, sign)
        if sign == "202":
            await _complete_later(bench)
        elif transport == "pull" and sign not in REVOKED:
            if sign == "too-large":
                await _tell(bench, "complete", bytes(TOO_LONG))
            else:
                await _tell(bench, sign)

        await bench.told.until(len)
        [outcome] = bench.told.items
        assert (outcome.id, outcome.token, outcome.kind) == (task_id(1), 1, KINDS[fate])


def _handler(transport: str, sign: str) -> Handler:
    table = {"heartbeat": "100ms"} if sign == "stalled" else {}
    match transport:
        case "push":
            return pushed(**table)
        case "pull":
            return build(HANDLER, {"transport": "pull", **table})
        case _:
            command = EXEC.get(sign, "exec sleep 60" if sign in REVOKED else sign.replace("-", " "))
            return executed(command, **table)


@contextlib.asynccontextmanager
async def _service(bench: Bench, transport: str, sign: str) -> AsyncIterator[None]:
    """Run what is at the other end, and wait until it is ready to take a task."""
    if transport == "exec":
        await bench.asked_for()
        yield
    elif transport == "pull":
        task = asyncio.create_task(bench.request("GET", f"/v1/next?handler={HANDLER}&wait=9"))
        await bench.asked_for()
        yield
        status, headers, _ = await task
        assert (status, headers["task-token"]) == (200, "1")
    else:
        async with listening(bench) as app:
            if sign in REVOKED:
                app.answer = lambda got: None if got.method == "POST" else response(404)
            else:
                data = PUSH.get(sign) or (response(int(sign)) if sign.isdigit() else b"")
                app.answer = lambda _: data
            await bench.asked_for()
            if sign == "refused":
                await app.stop()
            yield


async def _revoke(bench: Bench, sign: str) -> None:
    await turns_until(lambda: len(bench.hosts.attempts) == 1)
    if sign == "stopping":
        bench.step(Drain())
        bench.turned()
    elif sign in ("cancelled", "lease-lost"):
        bench.coordinator(Revoke([Revoked(task_id(1), 1, sign)]))


async def _tell(bench: Bench, word: str, body: bytes = b"{}") -> None:
    status, _, _ = await bench.request(
        "POST",
        f"/v1/tasks/{to_text(task_id(1))}/{word}",
        body,
        Task_Token="1",
    )
    assert status == 200


async def _complete_later(bench: Bench) -> None:
    """Wait until the 202 has come, and complete the task by a request of its own."""

    def accepted() -> bool:
        attempt = bench.hosts.attempts.find(task_id(1), 1)
        return attempt is not None and attempt.heartbeat_ms > 0

    await turns_until(accepted)
    await _tell(bench, "complete")
