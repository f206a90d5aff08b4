"""What cannot be taken is refused with its own code, by every way in, and harms nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest

from protocol.ids import TaskIds, to_text
from sidecar import Client
from sidecar.sdk.errors import Rejected
from sidecar.sdk.new_task import NewTask
from sidecar.sdk.task import BlockingTask
from tests.protocol.peers import ForeignService
from tests.scenarios.stage import command
from tests.support.processes import Sidecar, System

LONG_AGO = datetime(2001, 9, 9, tzinfo=UTC)
BAD: dict[str, tuple[dict[str, Any], list[str] | None, str]] = {
    # name: what the client is given, what the command is given, the code
    "name": ({"handler": "Email Send"}, ["Email Send"], "invalid_handler"),
    "long name": ({"handler": "a" * 65}, ["a" * 65], "invalid_handler"),
    "id": ({"id": "no-id"}, ["email.send", "--id", "no-id"], "invalid_id"),
    "old id": (
        {"id": "00000000-0000-4000-8000-000000000000"},
        ["email.send", "--id", "00000000-0000-4000-8000-000000000000"],
        "invalid_id",
    ),
    "payload": ({"payload": object()}, None, "invalid_payload"),
    "priority": ({"priority": "urgent"}, None, "invalid_option"),
    "collection": (
        {"collection": "Blue Ones"},
        ["email.send", "--collection", "Blue Ones"],
        "invalid_option",
    ),
    "attempts": ({"attempts": 0}, ["email.send", "--attempts", "0"], "invalid_option"),
    "attempts' type": ({"attempts": "many"}, None, "invalid_option"),
    "delay's unit": ({"delay": "soon"}, ["email.send", "--delay", "soon"], "invalid_option"),
    "long delay": (
        {"delay": timedelta(days=4000)},
        ["email.send", "--delay", "4000d"],
        "due_out_of_range",
    ),
    "past": (
        {"at": LONG_AGO},
        ["email.send", "--at", LONG_AGO.isoformat()],
        "due_out_of_range",
    ),
    "far future": (
        {"at": datetime.now(UTC) + timedelta(days=4000)},
        ["email.send", "--at", (datetime.now(UTC) + timedelta(days=4000)).isoformat()],
        "due_out_of_range",
    ),
    "delay and at": (
        {"delay": "1s", "at": datetime.now(UTC) + timedelta(hours=1)},
        ["email.send", "--delay", "1s", "--at", "2030-01-01T00:00+00:00"],
        "invalid_option",
    ),
}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with System() as system:
        yield system.sidecar("email", system.coordinator())


def test_client_tells_each_code_and_takes_what_stands_beside(sidecar: Sidecar) -> None:
    given = [{"handler": "email.send"} | options for options, _, _ in BAD.values()]
    good = {"handler": "email.send", "payload": {"to": "a"}}
    with Client(sidecar.socket_path) as client:
        verdicts = client.submit_many(
            NewTask(**options) for bad in given for options in (bad, good)
        )

        codes = [v.code if isinstance(v, Rejected) else str(v) for v in verdicts[::2]]
        assert dict(zip(BAD, codes, strict=True)) == {n: code for n, (_, _, code) in BAD.items()}
        assert all(isinstance(verdict, BlockingTask) for verdict in verdicts[1::2])


def test_command_tells_each_code_and_exits_with_2(sidecar: Sidecar) -> None:
    told = {}
    expected = {}
    for name, (_, arguments, code) in BAD.items():
        if arguments is not None:
            done = command(sidecar, "submit", *arguments)
            told[name] = (done.code, done.out, f"[{code}]" in done.err)
            expected[name] = (2, "", True)

    assert told == expected


def test_id_is_taken_once_and_the_task_that_had_it_first_is_unharmed(sidecar: Sidecar) -> None:
    task_id = to_text(TaskIds().batch(1)[0])
    with Client(sidecar.socket_path) as client:
        first = client.submit("email.send", {"to": "a"}, id=task_id)
        again = client.submit("email.send", {"to": "a"}, id=task_id)
        assert first.id == again.id == task_id
        for handler, payload in (("email.send", {"to": "b"}), ("email.other", {"to": "a"})):
            with pytest.raises(Rejected) as caught:
                client.submit(handler, payload, id=task_id)
            assert caught.value.code == "duplicate_id"
        assert first.status().handler == "email.send"

    same = command(sidecar, "submit", "email.send", '{"to":"a"}', "--id", task_id)
    other = command(sidecar, "submit", "email.send", '{"to":"b"}', "--id", task_id)

    assert (same.code, same.out.strip()) == (0, task_id)
    assert other.code == 2
    assert "[duplicate_id]" in other.err


ATTACH, ATTACHED, SUBMIT, ACCEPTED, REFUSED = 32, 33, 48, 49, 54
"""The numbers of ``docs/protocol.md``; checked by its own tests."""


def test_coordinator_checks_for_itself_what_a_foreign_app_sends(sidecar: Sidecar) -> None:
    """No SDK stands between, and the sidecar passes bytes on unread."""
    ids = TaskIds().batch(9)
    tasks: list[Any] = [
        [ids[0], "email.send", b"good"],
        [b"short", "email.send", b""],
        [ids[1], "No Name", b""],
        [ids[2], "email.send", "text"],
        [ids[3], "email.send", b"", None, {"prioritty": 1}],
        [ids[4], "email.send", b"", None, {"priority": 9}],
        [ids[5], "email.send", b"", None, {"at_ms": 1}],
        [ids[6], "email.send", b"", 7],
        "no task",
        [ids[7], "email.send", b"good"],
        [ids[0], "email.send", b"another"],
    ]
    with ForeignService(sidecar.socket_path) as app:
        app.send(ATTACH, 1, 1, "", "foreign", [], [])
        app.receive_only(ATTACHED)
        batches = (msgpack.packb(tasks), b"\xc1", msgpack.packb([]))
        app.send(SUBMIT, [[n, batch, False] for n, batch in enumerate(batches, 1)])
        verdicts: dict[int, Any] = {}
        while len(verdicts) < 3:
            (some,) = app.receive_only(ACCEPTED)
            verdicts |= {verdict[0]: verdict[1:] for verdict in some}

    assert {place: code for place, code, _ in verdicts[1][3]} == {
        1: "invalid_id",
        2: "invalid_handler",
        3: "invalid_payload",
        4: "unknown_option",
        5: "invalid_option",
        6: "due_out_of_range",
        7: "invalid_option",
        8: "malformed",
        10: "duplicate_id",
    }
    assert verdicts[1][0] is None
    assert (verdicts[2][0], verdicts[3][0]) == ("malformed", "malformed")
    with Client(sidecar.socket_path) as client:
        assert client.status(ids[0]).state == client.status(ids[7]).state == "ready"


def test_app_that_breaks_the_protocol_is_told_and_harms_no_other(sidecar: Sidecar) -> None:
    with Client(sidecar.socket_path) as client:
        client.submit("email.send", {"to": "before"})
        for garbage in (b"\x00\x00\x00\x02\xc1\xc1", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\x90"):
            with ForeignService(sidecar.socket_path) as app:
                app.send_bytes(garbage)
                code, detail, _ = app.receive_only(REFUSED)
                assert code in ("malformed", "limit_exceeded")
                assert detail
                assert app.closed()
        client.submit("email.send", {"to": "after"})
        assert client.inspect()["link"] == "open"
