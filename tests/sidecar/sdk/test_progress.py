"""What attempts tell while they go on, and what they are given, against a scripted sidecar."""

import asyncio
import threading
from typing import Any

import pytest

from protocol import messages as m
from sidecar import Context, Service, current
from sidecar.sdk import serving
from sidecar.sdk.context import CURRENT
from sidecar.sdk.new_task import NewTask, draft
from tests.protocol.examples import CARRIED
from tests.sidecar.sdk.peer import DEADLINE_S, Connection, Peer, served
from tests.support.builders import a_granted_task, task_id


def an_attempt(**extras: Any) -> Context:
    return Context("email.send", a_granted_task(extras=extras or None), 0.0)


async def told_until_outcome(connection: Connection) -> m.Update:
    """Return all that was told of one attempt, merged, once its outcome is there."""
    await connection.outcomes(1)
    whole = m.Update(b"", 0)
    for message in connection.unread(m.Progress):
        for update in message.updates:
            whole = m.Update(
                update.id,
                update.token,
                max(whole.permille, update.permille),
                update.note or whole.note,
                update.checkpoint or whole.checkpoint,
            )
    return whole


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
async def test_progress_is_told_while_the_attempt_goes_on(peer: Peer, threaded: bool) -> None:
    service = Service("email", peer.path)
    go_on = threading.Event()

    def tell() -> None:
        current().progress(0.25, note="a quarter", checkpoint={"page": 7})

    @service.handler("sync")
    def sync_send(to: str) -> None:
        tell()
        assert go_on.wait(DEADLINE_S)

    @service.handler("async")
    async def async_send(to: str) -> None:
        tell()
        assert await asyncio.to_thread(go_on.wait, DEADLINE_S)

    async with peer, served(peer, service) as connection:
        handler = "email.sync" if threaded else "email.async"
        connection.hand(a_granted_task(token=7), handler=handler)
        updates = await connection.told()
        go_on.set()
        await connection.outcomes(1)

    assert updates == [m.Update(task_id(), 7, 250, "a quarter", b'{"page":7}')]


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
async def test_checkpoint_is_told_before_the_outcome(
    peer: Peer, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TELL_S", 3600.0)
    service = Service("email", peer.path)

    def tell() -> None:
        for page in range(5):
            current().progress(checkpoint=b"page %d" % page)
        raise ValueError("stop here")

    @service.handler("sync")
    def sync_send(to: str) -> None:
        tell()

    @service.handler("async")
    async def async_send(to: str) -> None:
        tell()

    async with peer, served(peer, service) as connection:
        handler = "email.sync" if threaded else "email.async"
        connection.hand(a_granted_task(1), handler=handler)
        await connection.outcomes(1)
        connection.unread(m.Progress)
        connection.hand(a_granted_task(2), handler=handler)
        whole = await told_until_outcome(connection)

    assert (whole.id, whole.checkpoint) == (task_id(2), b"page 4")


async def test_progress_told_in_a_tight_loop_goes_in_few_messages(peer: Peer) -> None:
    service = Service("email", peer.path)

    @service.handler()
    async def send(to: str) -> None:
        for step in range(2_000):
            current().progress(step / 2_000)
            await asyncio.sleep(0)

    async with peer, served(peer, service) as connection:
        connection.hand(a_granted_task())
        await connection.outcomes(1)
        messages = connection.unread(m.Progress)

    assert messages[-1].updates[0].permille == 1000
    assert len(messages) < 100


async def test_attempt_that_outlives_its_connection_tells_nothing_on_the_next(peer: Peer) -> None:
    service = Service("email", peer.path)
    begun, cut = asyncio.Event(), threading.Event()

    @service.handler()
    def send(to: str) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert cut.wait(DEADLINE_S)
        current().progress(0.5)

    loop = asyncio.get_running_loop()
    async with peer:
        task = asyncio.create_task(service.serve(drain="5s"))
        first, _ = await peer.attached()
        first.hand(a_granted_task())
        async with asyncio.timeout(DEADLINE_S):
            await begun.wait()
        first.cut()
        second, _ = await peer.attached()
        cut.set()
        await second.demanded(1)
        service.stop()
        await second.expect(m.Inspect)
        assert second.unread(m.Progress) == []
        second.send(m.Inspected({}))
        await task


def test_attempt_sees_what_its_submitter_gave_and_what_was_saved() -> None:
    context = an_attempt(**CARRIED, checkpoint=b'{"page": 7}')
    assert context.key == CARRIED["key"]
    assert context.meta == CARRIED["meta"]
    assert context.traceparent == CARRIED["traceparent"]
    assert context.tracestate == CARRIED["tracestate"]
    assert context.baggage == CARRIED["baggage"]
    assert context.checkpoint == b'{"page": 7}'
    assert context.load_checkpoint() == {"page": 7}


def test_attempt_without_any_sees_nothing() -> None:
    context = an_attempt()
    assert (context.key, context.traceparent, context.tracestate, context.baggage) == (None,) * 4
    assert (context.meta, context.checkpoint, context.load_checkpoint()) == ({}, None, None)


def test_checkpoint_saved_by_the_attempt_itself_is_the_one_it_sees() -> None:
    context = an_attempt(checkpoint=b"1")
    context.progress(0.5)
    assert context.load_checkpoint() == 1
    context.progress(checkpoint=[2, 3])
    assert context.load_checkpoint() == [2, 3]
    context.progress(checkpoint="text")
    assert context.checkpoint == b"text"
    with pytest.raises(ValueError, match="Expecting value"):
        context.load_checkpoint()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        an_attempt().progress(fraction)


@pytest.mark.parametrize(
    ("checkpoint", "why"),
    [
        (bytes(4097), "4097 bytes; the limit is 4096. Store it elsewhere"),
        ("ä" * 2049, "4098 bytes"),
        (object(), "cannot be written as JSON"),
        (float("nan"), "cannot be written as JSON"),
    ],
)
def test_checkpoint_that_cannot_be_saved_is_refused(checkpoint: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        an_attempt().progress(checkpoint=checkpoint)


def test_long_note_is_cut() -> None:
    context = an_attempt()
    context.progress(note="x" * 257)
    update = context._take_told()
    assert update is not None
    assert update.note == "x" * 255 + "…"


# --- Trace context of what is submitted in an attempt ------------------------------------------


TRACE: dict[str, Any] = {name: CARRIED[name] for name in ("traceparent", "tracestate", "baggage")}
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


def options(task: NewTask) -> dict[str, Any]:
    return draft(task)[4] or {}


def test_task_submitted_in_an_attempt_inherits_its_trace_context() -> None:
    token = CURRENT.set(an_attempt(**CARRIED))
    try:
        assert options(NewTask(handler="a.b")) == TRACE
        assert options(NewTask(handler="a.b", baggage="x=1")) == TRACE | {"baggage": "x=1"}
        given = options(NewTask(handler="a.b", traceparent=OTHER))
    finally:
        CURRENT.reset(token)
    assert given == {"traceparent": OTHER}


def test_task_submitted_elsewhere_has_the_trace_context_that_is_given() -> None:
    assert options(NewTask(handler="a.b")) == {}
    assert options(NewTask(handler="a.b", **TRACE)) == TRACE
