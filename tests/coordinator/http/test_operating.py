"""What operators may change over HTTP: gates, policies, and the trace that it leaves."""

import asyncio
from typing import Any

import pytest

from coordinator.core.shard import Shard
from protocol import messages as m
from tests.coordinator.http.asking import Asked, Got, asking
from tests.coordinator.running import HANDLER, HeldStore
from tests.support.builders import a_submission, task_id

GATE = f"/v1/gates/handlers/{HANDLER}"
RED = f"{GATE}/collections/red"
POLICY = f"/v1/handlers/{HANDLER}/policy"
BY = {"owner": "ada", "reason": "a bad deploy"}
PAUSE: dict[str, Any] = {"kind": "pause", **BY}
DROP: dict[str, Any] = {"kind": "drop", **BY}
RED_TASKS = [a_submission(n, options={"collection": "red"}) for n in (1, 2, 3)]


async def put(asked: Asked, path: str, body: dict[str, Any], query: str = "") -> Got:
    return await asked.get(path + query, method="PUT", json=body)


async def known(asked: Asked) -> None:
    """Let the coordinator know the handler."""
    await asked.line.hello()
    await asked.line.submit(a_submission(9))


class TestAGate:
    @pytest.mark.parametrize("path", [RED, GATE, "/v1/gates/everything"])
    def test_holds_and_lets_go(self, path: str) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve(total=10)
            got = await put(asked, path, PAUSE)
            assert got.status == 200, got.text
            await asked.line.submit(*RED_TASKS)
            told = (await asked.get(path)).json
            assert (told["kind"], told["held"], told["owner"]) == ("pause", 3, "ada")
            assert (await asked.get("/v1/gates")).json["gates"] == [told]

            lifted = await asked.get(path, method="DELETE", params=BY)

            assert lifted.json["gate"] == told
            grant = await asked.line.hear_only(m.Grant)
            assert [task.id for task in grant.groups[0].tasks] == [task_id(n) for n in (1, 2, 3)]
            assert (await asked.get("/v1/gates")).json["gates"] == []

        asking(body)

    def test_is_durable_before_it_is_answered(self) -> None:
        store = HeldStore()

        async def body(asked: Asked) -> None:
            store.hold(b"o")
            setting = asyncio.ensure_future(put(asked, GATE, PAUSE))
            await store.held()
            assert not setting.done()
            store.release()
            assert (await setting).status == 200

        asking(body, store=store)

    def test_that_drops_can_be_tried_first(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.hello()
            await asked.line.submit(*RED_TASKS, a_submission(4))
            tried = (await put(asked, RED, DROP, "?dry_run&count")).json
            assert (tried["dry_run"], tried["ready"], tried["counted"]) == (True, 3, True)
            assert (await asked.get("/v1/gates")).json["gates"] == []

            done = (await put(asked, RED, DROP)).json

            assert not done["dry_run"]
            page = (await asked.get("/v1/tasks?filter=state%3Ddropped")).json
            assert len(page["tasks"]) == 3
            assert {task["error"] for task in page["tasks"]} == {
                f"dropped: drop of {HANDLER}/red by ada (a bad deploy)"
            }
            assert (await asked.get(RED)).json["dropped"] == 3

        asking(body)

    def test_is_named_by_what_waits_for_it(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve()
            await asked.line.submit(*RED_TASKS)
            await put(asked, GATE, PAUSE)
            [task, *_] = (await asked.get("/v1/tasks?filter=state%3Dready")).json["tasks"]
            told = (await asked.get(f"/v1/tasks/{task['id']}")).json
            assert told["waits_for"] == (
                f"a gate to be lifted: pause of {HANDLER} by ada (a bad deploy)"
            )
            [row] = (await asked.get("/v1/handlers")).json["handlers"]
            assert (row["gate"], row["held"], row["ready"]) == ("pause", 3, 3)
            [reason] = (await asked.get("/v1/status")).json["reasons"]
            assert (reason["code"], reason["text"]) == (
                "gate_pause",
                f"gates hold tasks: {HANDLER}",
            )
            metrics = (await asked.get("/metrics")).text
            assert f'pillion_tasks_held{{handler="{HANDLER}"}} 3' in metrics
            assert 'pillion_gates{kind="pause"} 1' in metrics

        asking(body)

    def test_leaves_what_it_holds_to_be_listed(self) -> None:
        async def body(asked: Asked) -> None:
            await put(asked, RED, PAUSE)
            await asked.line.hello()
            await asked.line.submit(*RED_TASKS, a_submission(4))
            page = (await asked.get("/v1/tasks?filter=state%3Dready&limit=3")).json
            rest = await asked.get(f"/v1/tasks?filter=state%3Dready&cursor={page['cursor']}")
            assert len(page["tasks"]) + len(rest.json["tasks"]) == 4

        asking(body)


class TestAPolicy:
    def test_is_changed_over_what_is_declared_and_reverted(self) -> None:
        async def body(asked: Asked) -> None:
            await known(asked)
            body = {"changes": {"attempts_max": 3, "concurrency": 5}, **BY}
            told = (await asked.get(POLICY, method="PATCH", json=body)).json
            assert told["policy"]["attempts_max"] == 3
            tried = (await asked.get(POLICY + "?dry_run=1", method="DELETE", params=BY)).json
            assert tried["policy"]["attempts_max"] == 12
            assert tried["overrides"] == {}
            told = (await asked.get(f"/v1/handlers/{HANDLER}")).json
            override = told["overrides"]["attempts_max"]
            assert override["declared"] == 12
            assert (override["owner"], override["reason"]) == ("ada", "a bad deploy")

            told = (
                await asked.get(POLICY, method="DELETE", params={**BY, "fields": "concurrency"})
            ).json
            assert told["policy"]["concurrency"] == 0
            assert list(told["overrides"]) == ["attempts_max"]
            told = (await asked.get(POLICY, method="DELETE", params=BY)).json
            assert told["policy"]["attempts_max"] == 12

        asking(body)


def test_all_of_it_leaves_a_trace_that_is_read_page_by_page() -> None:
    async def body(asked: Asked) -> None:
        await known(asked)
        await put(asked, GATE, PAUSE)
        await asked.get(GATE, method="DELETE", params=BY)
        await asked.get(POLICY, method="PATCH", json={"changes": {"attempts_max": 3}, **BY})
        first = (await asked.get("/v1/audit?limit=2")).json
        second = (await asked.get(f"/v1/audit?limit=2&before={first['before']}")).json
        assert [row["action"] for row in first["rows"] + second["rows"]] == [
            *("policy.set", "gate.lift", "gate.pause")
        ]
        assert second["before"] is None
        assert first["rows"][0]["details"] == {"changed": {"attempts_max": [12, 3]}}

    asking(body)


@pytest.mark.parametrize(
    ("asking_for", "status", "code", "said"),
    [
        (("PUT", GATE, {"json": {**PAUSE, "kind": "stop"}}), 400, "invalid_body", "pause or drop"),
        (("PUT", GATE, {"json": {"kind": "pause"}}), 400, "invalid_body", "owner is missing"),
        (("PUT", GATE, {"json": {**PAUSE, "owner": ""}}), 400, "missing_owner", "not said"),
        (
            ("PUT", GATE, {"json": {**PAUSE, "owner": "\x1b"}}),
            400,
            "invalid_parameter",
            "printable",
        ),
        (("PUT", GATE, {"json": {**PAUSE, "reason": "x" * 300}}), 400, "invalid_parameter", "256"),
        (("PUT", GATE, {"json": {**PAUSE, "until": 3}}), 400, "invalid_body", "until_ms"),
        (("PUT", GATE, {"json": {**PAUSE, "until_ms": 3}}), 400, "invalid_body", "no time to come"),
        (("PUT", GATE, {"json": {**PAUSE, "until_ms": "3"}}), 400, "invalid_body", "an integer"),
        (("PUT", GATE, {"json": {**PAUSE, "until_ms": True}}), 400, "invalid_body", "an integer"),
        (("PUT", GATE, {"json": [1]}), 400, "invalid_body", "a JSON object"),
        (("PUT", GATE, {"data": b"{"}), 400, "invalid_body", "Content-Type"),
        (
            ("PUT", GATE, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
            400,
            "invalid_body",
            "no JSON",
        ),
        (
            ("PUT", GATE, {"json": {**PAUSE, "reason": "x" * 70_000}}),
            400,
            "invalid_body",
            "65536 bytes",
        ),
        (("PUT", "/v1/gates/handlers/A%20B", {"json": PAUSE}), 400, "invalid_parameter", "a name"),
        (("DELETE", GATE, {"params": BY}), 404, "unknown_gate", f"no gate on {HANDLER}"),
        (("GET", RED, {}), 404, "unknown_gate", f"no gate on {HANDLER}/red"),
        (("POST", GATE, {}), 405, "wrong_method", "takes GET, HEAD, PUT, DELETE"),
        (
            ("PATCH", POLICY, {"json": {"changes": {"attempts_max": 0}, **BY}}),
            400,
            "invalid_policy",
            "expected 1 to",
        ),
        (
            ("PATCH", POLICY, {"json": {"changes": {"retries": 1}, **BY}}),
            400,
            "invalid_policy",
            "no field 'retries'",
        ),
        (("PATCH", POLICY, {"json": {"changes": {}, **BY}}), 400, "invalid_body", "empty"),
        (
            ("PATCH", POLICY, {"json": {"changes": {"timeout_ms": "1"}, **BY}}),
            400,
            "invalid_body",
            "an object of integers",
        ),
        (("DELETE", POLICY, {"params": BY}), 404, "unknown_override", HANDLER),
        (("DELETE", "/v1/handlers/a.b/policy", {"params": BY}), 404, "unknown_handler", "'a.b'"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    asking_for: tuple[str, str, dict[str, Any]], status: int, code: str, said: str
) -> None:
    async def body(asked: Asked) -> None:
        method, path, how = asking_for
        await known(asked)
        got = await asked.get(path, method=method, **how)
        assert (got.status, got.json["code"]) == (status, code), got.text
        assert said in got.json["detail"]
        assert (await asked.get("/v1/audit")).json["rows"] == []

    asking(body)


def test_failure_of_the_core_ends_the_process_and_is_no_answer_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a bug")

    async def body(asked: Asked) -> None:
        monkeypatch.setattr(Shard, "_operate", fail)
        assert (await put(asked, GATE, PAUSE)).status == 500
        await asyncio.wait([asked.running.ended])
        assert str(asked.running.ended.exception()) == "a bug"

    asking(body)
