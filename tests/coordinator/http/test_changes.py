"""What operators may do to tasks over HTTP, one by one and by filter; dead letters in groups."""

import asyncio
from typing import Any

import pytest

from coordinator.core.effects import Scan
from coordinator.core.layout import range_of
from coordinator.store.memory_store import MemoryStore
from protocol import messages as m
from protocol.ids import TaskIds, to_text
from tests.coordinator.http.asking import Asked, Got, asking
from tests.coordinator.running import HANDLER, HeldStore
from tests.support.builders import a_submission, task_id

BY = {"owner": "ada", "reason": "a bad deploy"}
DEAD = 6


async def post(asked: Asked, path: str, **body: Any) -> Got:
    return await asked.get(path, method="POST", json={**BY, **body})


async def dead_letters(asked: Asked) -> None:
    """Let six tasks die, for two reasons, and leave one that waits."""
    await asked.line.serve(total=DEAD)
    await asked.line.submit(*[a_submission(n) for n in range(1, DEAD + 2)])
    grant = await asked.line.hear_only(m.Grant)
    outcomes = [
        m.Outcome(
            *(task.id, task.token, m.OutcomeKind.FATAL, 10),
            m.Failure(*(("ValueError", f"no {place}") if place < 4 else ("timeout", "late"))),
        )
        for place, task in enumerate(grant.groups[0].tasks)
    ]
    await asked.line.say(m.Outcomes(1, outcomes))
    await asked.line.hear_only(m.Recorded)


async def rows(store: MemoryStore) -> list[tuple[bytes, bytes]]:
    """Return the rows of dead letters."""
    [found] = await store.apply({}, [Scan(*range_of(b"d"), 100)])
    assert isinstance(found, list)
    return found


async def ended(asked: Asked, number: int = 1) -> dict[str, Any]:
    """Return an operation once it has ended, which takes a few of the store's turns."""
    while True:
        row: dict[str, Any] = (await asked.get(f"/v1/operations/{number}")).json
        if row["state"] != "running":
            return row


class TestOneTask:
    def test_is_rescheduled_cancelled_and_its_trace_is_left(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            path = f"/v1/tasks/{to_text(task_id(7))}"

            told = (await post(asked, f"{path}/reschedule", delay_ms=60_000)).json
            assert (told["task"]["state"], told["dry_run"]) == ("scheduled", False)
            tried = (await asked.get(f"{path}/cancel?dry_run", method="POST", json=BY)).json
            assert (tried["task"]["state"], tried["dry_run"]) == ("scheduled", True)
            told = (await post(asked, f"{path}/cancel")).json
            assert told["task"]["error"] == "cancelled: by ada (a bad deploy)"

            rows = (await asked.get("/v1/audit")).json["rows"]
            assert [row["action"] for row in rows] == ["task.cancel", "task.reschedule"]
            assert rows[0]["target"] == to_text(task_id(7))

        asking(body)

    def test_is_requeued_and_granted_again(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            told = (await post(asked, f"/v1/tasks/{to_text(task_id(1))}/requeue")).json
            assert told["task"]["attempts"] == 0
            assert "history is kept" in told["note"]
            await asked.line.say(m.Demand([m.Limit(HANDLER, DEAD + 2)]))
            grant = await asked.line.hear_only(m.Grant)
            assert {task.id for task in grant.groups[0].tasks} == {task_id(1), task_id(7)}

        asking(body)

    def test_is_answered_when_it_is_durable(self) -> None:
        store = HeldStore()

        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            store.hold(b"a")
            path = f"/v1/tasks/{to_text(task_id(1))}"
            purging = asyncio.ensure_future(post(asked, f"{path}/purge"))
            await store.held()
            assert not purging.done()
            store.release()
            assert (await purging).json["task"]["state"] == "dead"
            assert (await asked.get(path)).status == 404

        asking(body, store=store)


class TestManyTasks:
    def test_are_counted_first_and_changed_after(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            wish = {"action": "requeue", "filter": "error_type=ValueError"}

            tried = (
                await asked.get("/v1/operations?dry_run", method="POST", json={**BY, **wish})
            ).json
            assert (tried["matched"], tried["exact"], tried["operation"]) == (4, True, None)
            assert {task["error_type"] for task in tried["sample"]} == {"ValueError"}
            begun = (await post(asked, "/v1/operations", **wish)).json["operation"]
            assert (begun["number"], begun["state"], begun["expected"]) == (1, "running", 4)

            row = await ended(asked)
            assert (row["state"], row["changed"], row["skipped"]) == ("done", 4, 0)
            assert (await asked.get("/v1/operations")).json["operations"] == [row]
            page = (await asked.get("/v1/tasks?filter=state%3Dready")).json
            assert len(page["tasks"]) == 5

        asking(body)

    def test_can_be_stopped(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            await post(asked, "/v1/operations", action="purge", filter="state=dead", rate=1)
            row = (await post(asked, "/v1/operations/1/stop")).json
            assert (row["state"], row["why"]) == ("stopped", "stopped by ada")
            again = await post(asked, "/v1/operations/1/stop")
            assert (again.status, again.json["code"]) == (409, "wrong_state")

        asking(body)

    def test_are_not_changed_twice_at_once(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            wish = {"action": "purge", "filter": "state=dead", "rate": 1}
            await post(asked, "/v1/operations", **wish)
            again = await post(asked, "/v1/operations", **wish)
            assert (again.status, again.json["code"]) == (409, "same_operation")
            for rate in (2, 3, 4):
                text = f"state=dead attempts<={rate}"
                await post(asked, "/v1/operations", **{**wish, "filter": text})
            fifth = await post(asked, "/v1/operations", **{**wish, "filter": "attempts>=1"})
            assert (fifth.status, fifth.json["code"]) == (429, "too_many_operations")

        asking(body)


class TestDeadLetters:
    def test_are_grouped_by_handler_kind_and_message(self) -> None:
        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            told = (await asked.get("/v1/dead")).json
            assert (told["scanned"], told["complete"]) == (DEAD, True)
            first, second = told["groups"]
            assert (first["handler"], first["error_type"], first["count"]) == (
                *(HANDLER, "ValueError", 4),
            )
            assert (first["pattern"], second["pattern"]) == ("no #", "late")
            assert first["first_ms"] <= first["last_ms"]
            page = (await asked.get("/v1/tasks", params={"filter": first["filter"]})).json
            assert len(page["tasks"]) == 4
            assert first["sample"] in {task["id"] for task in page["tasks"]}
            nobody = (await asked.get("/v1/dead?handler=image.*")).json
            assert nobody["groups"] == []

        asking(body)

    def test_row_that_is_damaged_is_told_and_mended(self) -> None:
        store = MemoryStore()

        async def body(asked: Asked) -> None:
            await dead_letters(asked)
            [(key, value), *_] = await rows(store)
            await store.apply({key: value[:-1] + b"?"})
            told = (await asked.get("/v1/dead")).json
            assert "its row in the store was damaged" in {g["pattern"] for g in told["groups"]}
            while len((await asked.get("/v1/dead")).json["groups"]) > 2:
                pass
            assert (await rows(store))[0] == (key, value)

        asking(body, store=store)


UNKNOWN, OLD = to_text(TaskIds().new()), to_text(task_id(99))


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "said"),
    [
        (f"tasks/{UNKNOWN}/cancel", {}, 404, "unknown_task", "never accepted here: its id is"),
        (f"tasks/{OLD}/requeue", {}, 404, "unknown_task", "its time was over"),
        ("tasks/17/purge", {}, 400, "invalid_parameter", "not a task id"),
        (f"tasks/{to_text(task_id(7))}/requeue", {}, 409, "wrong_state", "it is ready, and no"),
        (f"tasks/{to_text(task_id(1))}/cancel", {}, 409, "wrong_state", "ended already, as dead"),
        (
            *(f"tasks/{to_text(task_id(7))}/reschedule", {"at_ms": 1, "delay_ms": 1}),
            *(400, "invalid_body", "not both"),
        ),
        (
            *(f"tasks/{to_text(task_id(7))}/reschedule", {"delay_ms": 1 << 62}),
            *(400, "invalid_body", "within ten years"),
        ),
        (
            *(f"tasks/{to_text(task_id(7))}/reschedule", {"delay_ms": -1}),
            *(400, "invalid_body", "within ten years"),
        ),
        ("operations", {"action": "kill", "filter": "x=1"}, 400, "invalid_body", "one of cancel"),
        ("operations", {"action": "purge", "filter": ""}, 400, "invalid_filter", "handler=*"),
        ("operations", {"action": "purge", "filter": "colour=red"}, 400, "invalid_filter", "field"),
        ("operations", {"action": "purge"}, 400, "invalid_body", "filter is missing"),
        (
            *("operations", {"action": "purge", "filter": "handler=*", "rate": 10**6}),
            *(400, "invalid_body", "rate must be"),
        ),
        (
            *("operations", {"action": "purge", "filter": "handler=*", "at_ms": 5}),
            *(400, "invalid_body", "for reschedule"),
        ),
        ("operations/7/stop", {}, 404, "unknown_operation", "no operation 7"),
        ("operations/x/stop", {}, 400, "invalid_parameter", "'x' is no number"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    path: str, body: dict[str, Any], status: int, code: str, said: str
) -> None:
    async def ask(asked: Asked) -> None:
        await dead_letters(asked)
        got = await post(asked, f"/v1/{path}", **body)
        assert (got.status, got.json["code"]) == (status, code), got.text
        assert said in got.json["detail"]
        assert (await asked.get("/v1/audit")).json["rows"] == []

    asking(ask)
