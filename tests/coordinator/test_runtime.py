"""The coordinator with its socket: commit, then send, and nothing else when a commit fails."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.core import layout
from coordinator.errors import StoreError
from coordinator.runtime import SLEEP_MS_MAX, _fail, now
from coordinator.store.lmdb_store import LmdbStore
from coordinator.store.memory_store import MemoryStore
from protocol import codec
from protocol import messages as m
from protocol.errors import Code
from protocol.limits import FRAME_BYTES_MAX
from tests.coordinator.running import (
    HANDLER,
    HeldStore,
    Line,
    Running,
    run,
    send_and_lose,
    settings_for,
)
from tests.support.builders import a_batch, a_hello, a_submission, task_id

STOP_SECONDS = 8.0


def success(task: m.GrantedTask) -> m.Outcome:
    return m.Outcome(task.id, task.token, m.OutcomeKind.SUCCESS, 0, None)


def test_connection_of_the_http_side_that_fails_ends_nothing() -> None:
    async def body() -> None:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _fail(failed, {"message": "", "exception": ValueError(), "transport": object()})
        assert not failed.done()
        _fail(failed, {"message": "", "exception": ValueError(), "handle": object()})
        assert isinstance(failed.exception(), ValueError)

    asyncio.run(body())


class TestCommit:
    """Nothing leaves before its commit, and nothing at all when it fails."""

    def run(
        self, folder: Path, body: "Callable[[Running, HeldStore, Line], Awaitable[None]]"
    ) -> None:
        async def with_store() -> None:
            store = HeldStore()
            running = Running(settings_for(folder), store)
            try:
                line = await running.line()
                await line.serve()
                await body(running, store, line)
            finally:
                store.release()
                await running.end()

        asyncio.run(with_store())

    def test_nothing_leaves_before_its_commit(self, tmp_path: Path) -> None:
        async def body(running: Running, store: HeldStore, line: Line) -> None:
            async def held_back(letter: bytes, said: m.Message) -> m.Message:
                store.hold(letter)
                await line.say(said)
                await store.held()
                # BEAT waits for no commit: what had left before it would come before it.
                await line.say(m.Heartbeat(7, [], []))
                await line.hear_only(m.Beat)
                store.release()
                return await line.hear()

            assert isinstance(await held_back(b"t", m.Submit([a_batch()])), m.Accepted)
            grant = await held_back(b"g", m.Demand([m.Limit(HANDLER, 1)]))
            assert isinstance(grant, m.Grant)
            [(_, [task])] = grant.groups
            assert isinstance(await held_back(b"t", m.Outcomes(1, [success(task)])), m.Recorded)

        self.run(tmp_path, body)

    def test_sessions_are_renewed_while_a_commit_hangs(self, tmp_path: Path) -> None:
        async def body(running: Running, store: HeldStore, line: Line) -> None:
            store.hold(b"t")
            await line.say(m.Submit([a_batch()]))
            await store.held()
            for clock_ms in range(5):
                await line.say(m.Heartbeat(clock_ms, [], []))
                assert (await line.hear_only(m.Beat)).clock_ms == clock_ms
            store.release()
            await line.hear_only(m.Accepted)

        self.run(tmp_path, body)

    def test_what_arrives_while_a_commit_hangs_goes_into_the_next(self, tmp_path: Path) -> None:
        async def body(running: Running, store: HeldStore, line: Line) -> None:
            store.hold(b"t")
            await line.say(m.Submit([a_batch(a_submission(1), request=1)]))
            await store.held()
            commits = store.commits
            for number in range(2, 12):
                await line.say(m.Submit([a_batch(a_submission(number), request=number)]))
            await line.say(m.Heartbeat(0, [], []))
            await line.hear_only(m.Beat)  # So all of them have arrived.
            store.release()

            requests: set[int] = set()
            while len(requests) < 11:
                verdicts = (await line.hear_only(m.Accepted)).verdicts
                requests |= {verdict.request for verdict in verdicts}

            assert store.commits - commits == 2

        self.run(tmp_path, body)

    def test_failed_commit_ends_the_coordinator_and_answers_nothing(self, tmp_path: Path) -> None:
        async def body(running: Running, store: HeldStore, line: Line) -> None:
            store.hold(b"t")
            await line.say(m.Submit([a_batch()]))
            await store.held()
            store.fail_commit(1, committed=True)
            store.release()

            answer = asyncio.create_task(line.hear())
            waits: set[asyncio.Future[Any]] = {running.ended, answer}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

            assert not answer.done()
            answer.cancel()
            with pytest.raises(StoreError, match="may or may not have taken place"):
                running.ended.result()

        self.run(tmp_path, body)


class Broken(Running):
    """A coordinator whose own code has a bug."""

    def _receive(self, parts: list[bytes]) -> None:
        raise ZeroDivisionError("a bug")


def test_bug_ends_the_coordinator_with_its_error(tmp_path: Path) -> None:
    async def both() -> None:
        running = Broken(settings_for(tmp_path), MemoryStore())
        line = await running.line()
        await line.say(a_hello())
        await asyncio.wait([running.ended])
        with pytest.raises(ZeroDivisionError, match="a bug"):
            running.ended.result()
        await running.end()

    asyncio.run(both())


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b""], Code.MALFORMED),
        ([b"\xc1"], Code.MALFORMED),
        ([codec.pack([3])], Code.MALFORMED),
        ([codec.pack([3, "no list"])], Code.MALFORMED),
        ([codec.pack([99])], Code.UNKNOWN_MESSAGE),
        ([codec.encode(a_hello())] * 2, Code.MALFORMED),
        ([b"", codec.encode(a_hello())], Code.MALFORMED),
    ],
)
def test_hostile_message_is_refused_and_counted_and_harms_nobody(
    tmp_path: Path, frames: list[bytes], code: str
) -> None:
    async def body(running: Running) -> None:
        good, hostile = await running.line(1), await running.line(2)
        await good.serve(total=9)

        for _ in range(3):
            await hostile.socket.send_multipart(frames)
            assert (await hostile.hear_only(m.Refused)).code == code

        assert running.shard.counts[code] == 3
        assert (await good.submit(a_submission())).rejections == []
        assert len((await good.hear_only(m.Grant)).groups) == 1
        await hostile.hello()

    run(tmp_path, body)


def test_oversize_message_closes_its_connection_and_no_other(tmp_path: Path) -> None:
    async def body(running: Running) -> None:
        good, hostile = await running.line(1), await running.line(2)
        await good.serve()
        await hostile.hello()

        await send_and_lose(hostile.socket, bytes(FRAME_BYTES_MAX + 1))

        assert (await good.submit(a_submission())).rejections == []
        assert "limit_exceeded" not in running.shard.counts

    run(tmp_path, body)


def test_message_without_a_session_is_refused_at_once(tmp_path: Path) -> None:
    async def body(running: Running) -> None:
        line = await running.line()
        await line.say(m.Heartbeat(0, [], []))
        assert (await line.hear_only(m.Refused)).code == Code.UNKNOWN_SESSION

    run(tmp_path, body)


def test_task_is_granted_to_another_when_its_sidecar_has_gone(tmp_path: Path) -> None:
    async def body(running: Running) -> None:
        gone, there = await running.line(1), await running.line(2)
        await gone.serve(total=9)
        await gone.say(m.Heartbeat(0, [], []))
        await gone.hear_only(m.Beat)
        await there.hello()
        gone.close()
        granted: list[bytes] = []
        for number in itertools.count(1):
            assert (await there.submit(a_submission(number))).rejections == []
            if running.shard.counts.get("undelivered"):
                break  # The coordinator has noticed that the connection is gone.

        await there.serve(total=10_000)
        while task_id(number) not in granted:
            grant = await there.hear_only(m.Grant)
            granted += [task.id for group in grant.groups for task in group.tasks]

        assert task_id(number) in granted

    run(tmp_path, body)


class TestPayloadApart:
    PAYLOAD = bytes(range(256)) * 40

    def test_is_put_into_the_grant(self, tmp_path: Path) -> None:
        async def body(running: Running) -> None:
            line = await running.line()
            await line.hello()
            small, large = a_submission(1), a_submission(2, payload=self.PAYLOAD)
            await line.submit(small, large)
            await line.serve(total=9)
            [(_, tasks)] = (await line.hear_only(m.Grant)).groups
            assert [task.payload for task in tasks] == [small.payload, self.PAYLOAD]

        run(tmp_path, body)

    def test_that_the_store_has_lost_keeps_its_task_from_running(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = MemoryStore()

        async def body(running: Running) -> None:
            line = await running.line()
            await line.hello()
            await line.submit(a_submission(1), a_submission(2, payload=self.PAYLOAD))
            store.disk.write({layout.payload_key(task_id(2)): None})
            await line.serve(total=9)
            [(_, tasks)] = (await line.hear_only(m.Grant)).groups
            assert [task.id for task in tasks] == [task_id(1)]

        run(tmp_path, body, store)
        written = "".join(capsys.readouterr())
        assert "payload_missing" in written
        assert task_id(2).hex() in written


class TestSettings:
    def test_session_timeout_is_what_sidecars_are_told(self, tmp_path: Path) -> None:
        async def body(running: Running) -> None:
            assert (await (await running.line()).hello()).timeout_ms == 7_000

        run(tmp_path, body, session_timeout="7s")

    def test_ready_file_holds_the_address_that_was_bound(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"

        async def body(running: Running) -> None:
            await running.line()
            assert ready.read_text() == running.address.result() + "\n"

        run(tmp_path, body, ready_file=str(ready))

    def test_full_store_refuses_submissions_and_says_why(self, tmp_path: Path) -> None:
        store = MemoryStore()
        store.disk.write({b"x" * 100: bytes(2_000)})

        async def body(running: Running) -> None:
            line = await running.line()
            await line.hello()
            verdict = await line.submit(a_submission())
            assert verdict.code == Code.STORE_FULL
            assert "raise store_bytes_max" in verdict.detail

        run(tmp_path, body, store, store_bytes_max="1KiB")

    def test_address_in_use_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        async def body(running: Running) -> None:
            await running.line()
            address = running.address.result()
            second = Running(settings_for(tmp_path, bind=address), MemoryStore())
            await asyncio.wait([second.ended])
            with pytest.raises(OSError, match=f"cannot bind {address}.* is a coordinator running"):
                second.ended.result()

        run(tmp_path, body)


class TestStop:
    def test_ends_with_the_work_in_hand_done(self, tmp_path: Path) -> None:
        store = MemoryStore()

        async def body(running: Running) -> None:
            line = await running.line()
            await line.hello()
            await line.submit(a_submission())
            await running.end()
            running.ended.result()

        run(tmp_path, body, store)
        assert store.disk.clean
        assert layout.task_key(task_id()) in store.disk.pairs

    def test_ends_while_messages_keep_coming(self, tmp_path: Path) -> None:
        async def body(running: Running) -> None:
            line = await running.line()
            await line.hello()
            answered = asyncio.Event()

            async def flood() -> None:
                for number in itertools.count(1):
                    await line.say(m.Submit([a_batch(a_submission(number), request=number)]))

            async def drain() -> None:
                while True:
                    await line.hear()
                    answered.set()

            tasks = [asyncio.create_task(flood()), asyncio.create_task(drain())]
            await answered.wait()
            running.stop.set()
            done, _ = await asyncio.wait([running.ended], timeout=STOP_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert done, "it goes on as long as messages come"

        run(tmp_path, body, LmdbStore(tmp_path / "data", map_bytes=2**30, allow_filesystem=True))

    def test_before_it_serves_is_a_stop_too(self, tmp_path: Path) -> None:
        async def both() -> None:
            running = Running(settings_for(tmp_path), MemoryStore())
            running.stop.set()
            await running.ended

        asyncio.run(both())


def test_restart_keeps_tasks_and_leases(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    leases: list[m.Lease] = []

    def lmdb() -> LmdbStore:
        return LmdbStore(folder, map_bytes=2**30, allow_filesystem=True)

    async def first(running: Running) -> None:
        line = await running.line()
        await line.serve(total=1)
        await line.say(m.Submit([a_batch(a_submission(1), a_submission(2))]))
        answers = [await line.hear(), await line.hear()]
        (grant,) = [answer for answer in answers if isinstance(answer, m.Grant)]
        [(_, [task])] = grant.groups
        leases.append(m.Lease(task.id, task.token))

    async def second(running: Running) -> None:
        line = await running.line()
        await line.say(a_hello(incarnation=(1).to_bytes(16, "big"), held=leases))
        welcome = await line.hear_only(m.Welcome)
        assert (welcome.resumed, welcome.epoch, welcome.lost) == (True, 2, [])
        states = []
        for number in (1, 2):
            status = await line.status(task_id(number))
            assert status is not None
            states.append(status.state)
        assert states == [m.State.LEASED, m.State.READY]

    run(tmp_path, first, lmdb())
    run(tmp_path, second, lmdb())


def test_delayed_task_is_granted_when_it_is_due(tmp_path: Path) -> None:
    async def body(running: Running) -> None:
        line = await running.line()
        await line.serve(total=1)
        began = now()
        await line.submit(a_submission(options={"delay_ms": 50}))
        await line.hear_only(m.Grant)
        assert now().ms - began.ms >= 49

    run(tmp_path, body)
    assert SLEEP_MS_MAX >= 1_000
