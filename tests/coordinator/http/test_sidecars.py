"""Draining sidecars over HTTP."""

import asyncio
from urllib.parse import quote

import pytest

from protocol import messages as m
from tests.coordinator.http.asking import Asked, Got, asking
from tests.coordinator.running import HANDLER, HeldStore
from tests.support.builders import a_submission

HOST = "host-1"
DRAIN = f"/v1/sidecars/{HOST}/drain"
SMILES = "%F0%9F%98%80" * 126
BY = {"owner": "ada", "reason": "a new kernel"}


async def put(asked: Asked, path: str = DRAIN, **query: str) -> Got:
    return await asked.get(path, method="PUT", json=BY, params=query)


async def states(asked: Asked) -> dict[str, str]:
    rows = (await asked.get("/v1/sidecars")).json["sidecars"]
    return {row["name"]: row["state"] for row in rows}


def test_sidecar_is_drained_shown_and_undrained() -> None:
    async def body(asked: Asked) -> None:
        await asked.line.serve(total=1)
        await asked.line.submit(a_submission(1))
        grant = await asked.line.hear_only(m.Grant)
        got = await put(asked)
        assert got.status == 200, got.text
        told = got.json["drain"]
        assert (told["owner"], told["sessions"], told["leases"]) == ("ada", 1, 1)
        assert (await asked.line.hear_only(m.Drain)).why == "ada: a new kernel"
        assert (await asked.get(DRAIN)).json == told
        [row] = (await asked.get("/v1/sidecars")).json["sidecars"]
        assert (row["state"], row["drained_by"], row["drain_reason"]) == ("draining", *BY.values())
        assert row["drained_ms"] == told["created_ms"]

        [task] = grant.groups[0].tasks
        success = m.Outcome(task.id, task.token, m.OutcomeKind.SUCCESS, 1, None)
        await asked.line.say(m.Outcomes(1, [success]))
        await asked.line.hear_only(m.Recorded)

        assert await states(asked) == {HOST: "drained"}
        assert (await asked.get(DRAIN)).json["leases"] == 0
        assert 'pillion_sidecars{state="drained"} 1' in (await asked.get("/metrics")).text
        lifted = await asked.get(DRAIN, method="DELETE", params={"owner": "bob"})
        assert lifted.json["drain"]["owner"] == "ada"
        assert not (await asked.line.hear_only(m.Drain)).on
        assert await states(asked) == {HOST: "ready"}
        rows = (await asked.get("/v1/audit")).json["rows"]
        assert [(row["owner"], row["action"], row["target"]) for row in rows] == [
            ("bob", "sidecar.undrain", HOST),
            ("ada", "sidecar.drain", HOST),
        ]

    asking(body)


def test_is_durable_before_it_is_answered() -> None:
    store = HeldStore()

    async def body(asked: Asked) -> None:
        store.hold(b"q")
        setting = asyncio.ensure_future(put(asked))
        await store.held()
        assert not setting.done()
        store.release()
        assert (await setting).status == 200

    asking(body, store=store)


def test_trying_changes_nothing() -> None:
    async def body(asked: Asked) -> None:
        await asked.line.serve(total=1)
        tried = (await put(asked, dry_run="1")).json
        assert (tried["dry_run"], tried["drain"]["sessions"]) == (True, 1)
        assert await states(asked) == {HOST: "ready"}
        await put(asked)
        tried = await asked.get(DRAIN, method="DELETE", params={**BY, "dry_run": "1"})
        assert tried.json["dry_run"]
        assert await states(asked) == {HOST: "drained"}

    asking(body)


@pytest.mark.parametrize("name", ["host-5", "a b/c%?ö", "x" * 128])
def test_name_that_is_not_there_is_drained_and_shown_as_absent(name: str) -> None:
    path = f"/v1/sidecars/{quote(name, safe='')}/drain"

    async def body(asked: Asked) -> None:
        got = await put(asked, path)
        assert got.status == 200, got.text
        assert (got.json["drain"]["sidecar"], got.json["drain"]["sessions"]) == (name, 0)
        assert await states(asked) == {name: "absent"}
        assert 'pillion_sidecars{state="absent"} 1' in (await asked.get("/metrics")).text
        assert (await asked.get(path, method="DELETE", params=BY)).status == 200
        assert await states(asked) == {}

    asking(body)


def test_what_waits_for_a_drained_sidecar_is_told_so() -> None:
    async def body(asked: Asked) -> None:
        await asked.line.serve(total=1)
        await put(asked)
        await asked.line.hear_only(m.Drain)
        await asked.line.submit(a_submission(1))
        [task] = (await asked.get("/v1/tasks?filter=state%3Dready")).json["tasks"]
        assert (await asked.get(f"/v1/tasks/{task['id']}")).json["waits_for"] == (
            f"an undrain: all that serve {HANDLER} are drained: {HOST} by ada: a new kernel"
        )
        told = (await asked.get("/v1/status")).json
        assert [(r["level"], r["code"], r["text"]) for r in told["reasons"]] == [
            ("warning", "drained", f"tasks wait and all that serve them are drained: {HANDLER}")
        ]
        assert told["sidecars"]["drained"] == 1
        await asked.get(DRAIN, method="DELETE", params=BY)
        assert (await asked.get("/v1/status")).json["reasons"] == []

    asking(body)


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "code"),
    [
        ("DELETE", DRAIN, {"params": BY}, 404, "unknown_drain"),
        ("GET", DRAIN, {}, 404, "unknown_drain"),
        ("PUT", DRAIN, {"json": {}}, 400, "invalid_body"),
        ("PUT", DRAIN, {"json": {"owner": ""}}, 400, "missing_owner"),
        ("DELETE", DRAIN, {}, 400, "missing_owner"),
        ("PUT", f"/v1/sidecars/{'x' * 129}/drain", {"json": BY}, 400, "invalid_parameter"),
        ("PUT", "/v1/sidecars/a%0Ab/drain", {"json": BY}, 400, "invalid_parameter"),
        ("PUT", f"/v1/sidecars/{SMILES}/drain", {"json": BY}, 400, "invalid_parameter"),
        ("PUT", DRAIN, {"json": {**BY, "owner": "x" * 65}}, 400, "invalid_parameter"),
        ("POST", DRAIN, {"json": BY}, 405, "wrong_method"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    method: str, path: str, how: dict[str, object], status: int, code: str
) -> None:
    async def body(asked: Asked) -> None:
        got = await asked.get(path, method=method, **how)
        assert (got.status, got.json["code"]) == (status, code), got.text
        assert (await asked.get("/v1/sidecars")).json["sidecars"] == []

    asking(body)
