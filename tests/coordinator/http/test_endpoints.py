"""What the API answers, as its own OpenAPI document says."""

import asyncio
import re
from typing import Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.core.sidecar_view import STATES
from coordinator.http import event_stream, metrics, status
from coordinator.http.changes import ChangeBody, RescheduleBody
from coordinator.http.endpoints import ROUTES
from coordinator.http.gates import GateBody
from coordinator.http.openapi import document
from coordinator.http.operations import OperationBody
from coordinator.http.policies import PolicyBody
from coordinator.http.sidecars import DrainBody
from coordinator.store.memory_store import MemoryDisk, MemoryStore
from protocol import messages as m
from protocol.ids import TaskIds, to_text
from tests.coordinator.http.asking import Asked, asking
from tests.coordinator.running import HANDLER
from tests.support.builders import a_submission, task_id

DOCUMENT = document(ROUTES)


def schema_of(path: str, status: int, method: str = "get") -> Any:
    content = DOCUMENT["paths"][path][method]["responses"][str(status)]["content"]
    (form,) = content.values()
    return form["schema"] | {"components": DOCUMENT["components"]}


async def a_dead_task(asked: Asked) -> None:
    """Let the first task die, and leave two that wait."""
    await asked.line.serve(total=1)
    await asked.line.submit(a_submission(1), a_submission(2), a_submission(3))
    grant = await asked.line.hear_only(m.Grant)
    (task,) = grant.groups[0].tasks
    failure = m.Failure("ValueError", "no room")
    outcome = m.Outcome(task.id, task.token, m.OutcomeKind.FATAL, 2_000, failure)
    await asked.line.say(m.Outcomes(1, [outcome]))
    await asked.line.hear_only(m.Recorded)


BY = {"owner": "ada", "reason": "a test"}
BODIES = {
    GateBody: {"kind": "pause", **BY},
    PolicyBody: {"changes": {"attempts_max": 3}, **BY},
    ChangeBody: BY,
    DrainBody: BY,
    RescheduleBody: {"delay_ms": 1_000, **BY},
    OperationBody: {"action": "requeue", "filter": "state=dead", "rate": 1, **BY},
}


A_SLOW_ONE = {"action": "cancel", "filter": "handler=*", "rate": 1, **BY}
"""An operation that is not done for seconds."""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_path_answers_as_the_document_says(route: Any) -> None:
    async def body(asked: Asked) -> None:
        await a_dead_task(asked)
        if route.stream is not None:
            return
        path = route.path.replace("{id}", to_text(task_id(1))).replace("{name}", HANDLER)
        path = path.replace("{collection}", "red")
        if "/gates/" in path and route.method != "PUT":
            await asked.get(path, method="PUT", json=BODIES[GateBody])
        elif "/policy" in path and route.method == "DELETE":
            await asked.get(path, method="PATCH", json=BODIES[PolicyBody])
        elif path.endswith("/drain") and route.method != "PUT":
            await asked.get(path, method="PUT", json=BY)
        path = path.replace("{number}", "1")
        if route.path.endswith(("/cancel", "/reschedule")):
            path = path.replace(to_text(task_id(1)), to_text(task_id(2)))
        if "{number}" in route.path:
            await asked.get("/v1/operations", method="POST", json=A_SLOW_ONE)
        how: dict[str, Any] = {"json": BODIES[route.body]} if route.body else {}
        if route.method == "DELETE":
            how["params"] = BY

        got = await asked.get(path, method=route.method, **how)

        assert got.status == 200, got.text
        if not isinstance(route.answers, str):
            jsonschema_rs.validate(schema_of(route.path, 200, route.method.lower()), got.json)
        else:
            assert got.headers["Content-Type"] == route.answers

    asking(body)


def test_document_is_an_openapi_document_of_all_routes_and_nothing_else() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    documented = [
        (path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods
    ]
    assert sorted(documented) == sorted((route.path, route.method) for route in ROUTES)
    referred = set(re.findall(r"'#/components/schemas/(\w+)'", repr(DOCUMENT)))
    assert referred <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/v1/tasks?filter=handlr%3Da", 400, "invalid_filter", "did you mean 'handler'?"),
        ("/v1/tasks?filter=state%3Dded", 400, "invalid_filter", "did you mean 'dead'?"),
        ("/v1/tasks?limit=0", 400, "invalid_parameter", "a number from 1 to 1000"),
        ("/v1/tasks?limit=x", 400, "invalid_parameter", "limit='x'"),
        ("/v1/tasks?fliter=x", 400, "unknown_parameter", "it takes: filter, cursor, limit"),
        ("/v1/tasks?cursor=%00", 400, "invalid_cursor", "not one that a page has named"),
        ("/v1/tasks?cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400, "invalid_cursor", "another filter"),
        ("/v1/tasks/17", 400, "invalid_parameter", "'17' is not a task id"),
        (f"/v1/tasks/{to_text(task_id(9))}", 404, "unknown_task", "its time was over"),
        ("/v1/handlers/mail.nobody", 404, "unknown_handler", "no task of 'mail.nobody'"),
        ("/v2/tasks", 404, "unknown_path", "GET /v2/tasks"),
        ("/readyz?verbose=maybe", 400, "invalid_parameter", "expected true or false"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(path: str, status: int, code: str, said: str) -> None:
    async def body(asked: Asked) -> None:
        got = await asked.get(path)

        assert got.status == got.json["status"] == status
        assert got.headers["Content-Type"] == "application/problem+json"
        assert got.json["code"] == code
        assert got.json["type"] == f"urn:pillion:problem:{code}"
        assert said in got.json["detail"]
        assert got.json["hint"]

    asking(body)


def test_paths_that_only_tell_take_no_other_method() -> None:
    async def body(asked: Asked) -> None:
        got = await asked.get("/v1/tasks", method="DELETE")
        assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD")

    asking(body)


def test_id_that_is_too_young_to_have_been_removed_was_never_accepted() -> None:
    async def body(asked: Asked) -> None:
        got = await asked.get(f"/v1/tasks/{to_text(TaskIds().new())}")
        assert "never accepted here: its id is younger" in got.json["detail"]

    asking(body)


def test_task_is_found_in_memory_and_in_the_store_and_never_tells_its_payload() -> None:
    async def body(asked: Asked) -> None:
        await a_dead_task(asked)

        dead = await asked.get(f"/v1/tasks/{to_text(task_id(1))}")
        ready = await asked.get(f"/v1/tasks/{to_text(task_id(2))}")

        assert dead.json["task"]["state"] == "dead"
        assert dead.json["task"]["error"] == "ValueError: no room"
        assert dead.json["history"][0]["outcome"] == "fatal"
        assert ready.json["task"]["state"] == "ready"
        assert "of its handler would take no more now" in ready.json["waits_for"]
        assert "a@b.c" not in dead.text + ready.text

    asking(body)


def test_pages_are_turned_by_their_cursors() -> None:
    async def body(asked: Asked) -> None:
        await asked.line.serve()
        await asked.line.submit(*[a_submission(number) for number in range(1, 8)])
        found: list[str] = []
        query = {"filter": f"handler={HANDLER}", "limit": "3"}
        while True:
            page = (await asked.get("/v1/tasks", params=query)).json
            found += [task["id"] for task in page["tasks"]]
            assert len(page["tasks"]) <= 3
            if page["cursor"] is None:
                break
            query["cursor"] = page["cursor"]

        assert found == [to_text(task_id(number)) for number in range(7, 0, -1)]

    asking(body)


def test_status_tells_what_is_wrong_and_what_to_do() -> None:
    async def body(asked: Asked) -> None:
        calm = (await asked.get("/v1/status")).json
        await asked.line.hello()
        await asked.line.submit(a_submission())

        told = (await asked.get("/v1/status")).json

        assert (calm["verdict"], calm["reasons"]) == ("ok", [])
        assert told["verdict"] == "warning"
        assert told["reasons"][0]["text"] == f"tasks wait and no sidecar serves {HANDLER}"
        assert told["tasks"]["ready"] == told["backlog"][0]["ready"] == 1
        assert told["oldest"]["handler"] == HANDLER
        assert told["sidecars"] == dict.fromkeys(STATES, 0) | {"ready": 1}
        assert told["address"] == await asked.running.address

    asking(body)


class TestLateness:
    def test_tasks_that_wait_beyond_their_objective_are_a_reason(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve(total=0, start_within_ms=1)
            await asked.line.submit(a_submission())
            told = await a_reason(asked, "late")

            assert told["level"] == "warning"
            assert told["text"].startswith(f"tasks wait longer than they should: {HANDLER} (")
            assert told["text"].endswith(", within 1ms)")
            assert f"/v1/scale/{HANDLER} tells" in told["hint"]
            (row,) = (await asked.get("/v1/handlers")).json["handlers"]
            assert (row["start_within_ms"], row["late"], row["desired"]) == (1, 0, 1)

        asking(body)

    def test_what_a_gate_holds_is_not_late(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve(total=0, start_within_ms=1)
            await asked.line.submit(a_submission())
            await a_reason(asked, "late")
            path = f"/v1/gates/handlers/{HANDLER}"
            await asked.get(path, method="PUT", json=BODIES[GateBody])

            told = (await asked.get("/v1/status")).json
            scraped = (await asked.get("/metrics")).text

            assert [reason["code"] for reason in told["reasons"]] == ["gate_pause"]
            assert told["oldest"] is None
            assert f'pillion_oldest_ready_age_seconds{{handler="{HANDLER}"}} 0' in scraped

        asking(body)

    def test_late_leases_are_counted_beside_the_objective(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve(total=0, start_within_ms=1)
            await asked.line.submit(a_submission())
            await a_reason(asked, "late")
            await asked.line.say(m.Demand([m.Limit(HANDLER, 1)]))
            await asked.line.hear_only(m.Grant)

            scraped = (await asked.get("/metrics")).text

            assert f'pillion_slo_breach_total{{handler="{HANDLER}"}} 1' in scraped
            assert f'pillion_start_objective_seconds{{handler="{HANDLER}"}} 0.001' in scraped
            assert f'pillion_handler_sidecars{{handler="{HANDLER}"}} 1' in scraped

        asking(body)

    def test_without_an_objective_nothing_is_promised(self) -> None:
        async def body(asked: Asked) -> None:
            await asked.line.serve(total=0, start_within_ms=0)
            await asked.line.submit(a_submission())
            scraped = (await asked.get("/metrics")).text
            assert f'pillion_tasks{{handler="{HANDLER}",state="ready"}} 1' in scraped
            assert "pillion_start_objective_seconds{" not in scraped

        asking(body)


async def a_reason(asked: Asked, code: str) -> Any:
    """Ask until something is told; each answer takes a moment in which tasks grow older."""
    while True:
        for reason in (await asked.get("/v1/status")).json["reasons"]:
            if reason["code"] == code:
                return reason


def test_number_of_sidecars_that_a_handler_wants_is_told_with_its_reasons() -> None:
    async def body(asked: Asked) -> None:
        await asked.line.hello()
        await asked.line.submit(a_submission(1), a_submission(2))

        told = (await asked.get(f"/v1/scale/{HANDLER}")).json
        unknown = await asked.get("/v1/scale/mail.nobody")

        assert (told["handler"], told["desired"], told["load"]["ready"]) == (HANDLER, 1, 2)
        assert told["why"].startswith("as many as there are, at least 1")
        assert (unknown.status, unknown.json["code"]) == (404, "unknown_handler")

    asking(body)


def test_it_has_started_once_it_answers() -> None:
    async def body(asked: Asked) -> None:
        started = await asked.get("/startupz")
        assert (started.status, started.json["ok"]) == (200, True)

    asking(body)


def test_age_of_the_oldest_is_known_also_when_it_is_in_the_store_only() -> None:
    disk = MemoryDisk()

    async def first(asked: Asked) -> None:
        await asked.line.hello()
        await asked.line.submit(a_submission())

    async def second(asked: Asked) -> None:
        told = (await asked.get("/v1/status")).json
        scraped = (await asked.get("/metrics")).text
        assert told["oldest"]["handler"] == HANDLER
        assert f'pillion_oldest_ready_age_seconds{{handler="{HANDLER}"}}' in scraped

    asking(first, MemoryStore(disk))
    asking(second, MemoryStore(disk))


def test_full_store_is_critical_and_not_ready_but_alive() -> None:
    async def body(asked: Asked) -> None:
        asked.running._seen.refusal = "the store holds too much"
        told = (await asked.get("/v1/status")).json
        ready = await asked.get("/readyz")
        live = await asked.get("/livez")

        assert told["verdict"] == "critical"
        assert told["reasons"][0]["code"] == "store_full"
        assert ready.status == 503
        jsonschema_rs.validate(schema_of("/readyz", 503), ready.json)
        assert {"name": "room", "ok": False, "detail": "the store holds too much"} in ready.json[
            "checks"
        ]
        assert (live.status, live.json) == (200, {"ok": True, "checks": []})

    asking(body)


def test_metrics_can_be_read_and_say_what_happened() -> None:
    async def body(asked: Asked) -> None:
        await a_dead_task(asked)

        text = (await asked.get("/metrics")).text

        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        handler = ("handler", HANDLER)
        assert samples["pillion_tasks_submitted_total", handler] == 3
        assert samples["pillion_tasks_finished_total", handler, ("outcome", "dead")] == 1
        assert samples["pillion_attempts_total", handler, ("result", "fatal")] == 1
        assert samples["pillion_task_run_seconds_count", handler] == 1
        assert samples["pillion_task_run_seconds_bucket", handler, ("le", "0.004")] == 1
        assert samples["pillion_task_run_seconds_bucket", handler, ("le", "0.002")] == 0
        assert samples["pillion_tasks", handler, ("state", "ready")] == 2
        assert samples["pillion_sidecars", ("state", "ready")] == 1
        assert samples[("pillion_commit_seconds_count",)] >= 3
        assert samples[("process_open_fds",)] > 0

    asking(body)


class TestEvents:
    def test_come_as_they_happen(self) -> None:
        async def body(asked: Asked) -> None:
            async with asked.lines("/v1/events") as lines:
                assert await anext(lines) == "retry: 1000"
                await a_dead_task(asked)
                names = []
                async for line in lines:
                    if line.startswith("event: "):
                        names.append(line)
                    if line == "event: task_dead":
                        break
                assert "event: session_opened" in names
                data = await anext(lines)
                assert f'"handler": "{HANDLER}"' in data

        asking(body)

    def test_go_on_from_the_last_that_was_seen(self) -> None:
        async def body(asked: Asked) -> None:
            await a_dead_task(asked)
            ring = asked.running._seen.events
            epoch = 1
            seen = {"Last-Event-ID": f"{epoch}-{ring.latest - 1}"}
            async with asked.lines("/v1/events", headers=seen) as lines:
                ids = [line async for line in first(lines, 3)]
            assert f"id: {epoch}-{ring.latest}" in ids

        asking(body)

    def test_that_were_forgotten_are_told_as_a_gap(self) -> None:
        async def body(asked: Asked) -> None:
            ring = asked.running._seen.events
            for _ in range(1_500):
                ring.add(0, "noise", {})
            async with asked.lines("/v1/events", headers={"Last-Event-ID": "1-0"}) as lines:
                found = [line async for line in first(lines, 4)]
            assert found[2] == "event: gap"
            assert found[3].startswith('data: {"missed": ')

        asking(body)

    def test_end_when_the_coordinator_stops(self) -> None:
        async def body(asked: Asked) -> None:
            async with asked.lines("/v1/events") as lines:
                await anext(lines)
                ending = asyncio.create_task(asked.running.end())
                assert [line async for line in lines if line.startswith("event: x")] == []
                await ending

        asking(body)


async def first(lines: Any, count: int) -> Any:
    for _ in range(count):
        yield await anext(lines)


def test_handlers_beyond_the_first_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "HANDLERS_MAX", 2)

    async def body(asked: Asked) -> None:
        await asked.line.hello()
        for number in range(1, 6):
            await asked.line.submit(a_submission(number, handler=f"email.h{number}"))

        text = (await asked.get("/metrics")).text

        assert 'pillion_tasks_submitted_total{handler="email.h2"} 1' in text
        assert 'pillion_tasks_submitted_total{handler="other"} 3' in text
        assert 'pillion_tasks{handler="other",state="ready"} 3' in text
        assert "email.h3" not in text

    asking(body)


def test_too_many_watchers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "WATCHERS_MAX", 1)

    async def body(asked: Asked) -> None:
        async with asked.lines("/v1/events") as lines:
            await anext(lines)
            refused = await asked.get("/v1/events")
            assert (refused.status, refused.json["code"]) == (503, "too_many_watchers")

    asking(body)


def test_watcher_that_has_gone_is_forgotten() -> None:
    async def body(asked: Asked) -> None:
        ring = asked.running._seen.events
        async with asked.lines("/v1/events") as lines:
            await anext(lines)
            assert ring.watchers == 1
        async with asyncio.timeout(20):
            while ring.watchers:
                ring.add(0, "noise", {})  # Whoever has gone is found at the next write.
                await asyncio.sleep(0)

    asking(body)


def test_endpoint_that_fails_ends_its_request_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(asked: Asked) -> None:
        monkeypatch.setattr(status, "report", None)
        failed = await asked.get("/v1/status")
        assert (failed.status, failed.json["code"]) == (500, "internal")
        assert failed.json["detail"] == "TypeError"
        await asked.line.hello()
        assert (await asked.get("/livez")).status == 200

    asking(body)
