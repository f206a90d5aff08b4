"""Services in other languages, each run by its sidecar as its first lines say."""

import hashlib
import sys
from pathlib import Path

import pytest

from sidecar import BlockingTask, Client, NewTask, TaskDead
from tests.examples.conftest import Connect, Serve
from tests.support.processes import System
from tests.support.programs import need

SECONDS = 20


def outcomes(client: Client, task_id: str) -> list[str]:
    return [attempt.outcome for attempt in client.status(task_id).history]


# Starlette: the status that is answered is the outcome


STARLETTE = ("--push", "welcome", "--", sys.executable, "examples/starlette/service.py")


def test_starlette_takes_what_it_can_and_gets_the_rest_again_uncharged(
    serve: Serve, connect: Connect
) -> None:
    app = connect(serve("accounts", *STARLETTE))
    tasks = [NewTask(handler="accounts.welcome", payload={"email": f"{n}@b.c"}) for n in range(4)]

    submitted = [t for t in app.submit_many(tasks) if isinstance(t, BlockingTask)]

    assert [t.result(SECONDS) for t in submitted] == [{"sent": f"{n}@b.c"} for n in range(4)]
    assert {t.status().attempts for t in submitted} == {1}
    assert "defer" in {outcome for t in submitted for outcome in outcomes(app, t.id)}


def test_exception_in_starlette_is_tried_again(serve: Serve, connect: Connect) -> None:
    app = connect(serve("accounts", *STARLETTE))

    task = app.submit("accounts.welcome", {"email": "a@flaky.example"})

    assert task.result(SECONDS) == {"sent": "a@flaky.example"}
    assert outcomes(app, task.id) == ["retry", "success"]


def test_dead_letter_holds_what_starlette_said_of_it(serve: Serve, connect: Connect) -> None:
    app = connect(serve("accounts", *STARLETTE))

    task = app.submit("accounts.welcome", {"mail": "a@b.c"})

    with pytest.raises(TaskDead):
        task.result(SECONDS)
    assert app.status(task.id).history[0].detail == 'expected {"email": ADDRESS}'


# Asking for tasks, from bash


BASH = ("--", "examples/bash/pull.sh")


def test_bash_asks_for_tasks_and_answers_them(serve: Serve, connect: Connect) -> None:
    need("curl", 7, 84)
    app = connect(serve("files", *BASH))
    payloads = [b"\0\xff\r\n", b"a" * 100_000, b"last"]

    tasks = [app.submit("files.checksum", payload) for payload in payloads]

    expected = [hashlib.sha256(payload).hexdigest().encode() for payload in payloads]
    assert [task.result(SECONDS) for task in tasks] == expected


def test_bash_says_that_trying_again_cannot_help(serve: Serve, connect: Connect) -> None:
    need("curl", 7, 84)
    app = connect(serve("files", *BASH))

    task = app.submit("files.checksum", b"")

    with pytest.raises(TaskDead, match="the file is empty"):
        task.result(SECONDS)


# A command for each task


def publishing(site: Path) -> str:
    return f"publish=env SITE={site} examples/exec/publish.sh"


def test_command_gets_the_payload_and_prints_the_result(
    system: System, serve: Serve, connect: Connect
) -> None:
    app = connect(serve("pages", "--exec", publishing(system.folder)))
    page = b"<title>Hi</title>"

    task = app.submit("pages.publish", page)

    assert task.result(SECONDS) == f"{system.folder}/{task.id}.html".encode()
    assert (system.folder / f"{task.id}.html").read_bytes() == page


def test_exit_code_65_is_a_dead_letter_with_the_end_of_stderr(
    system: System, serve: Serve, connect: Connect
) -> None:
    app = connect(serve("pages", "--exec", publishing(system.folder)))

    task = app.submit("pages.publish", b"<p>Hi</p>")

    with pytest.raises(TaskDead, match="the page has no title"):
        task.result(SECONDS)
    assert not list(system.folder.glob("*.html*"))


def test_exit_code_75_comes_again_uncharged(system: System, serve: Serve, connect: Connect) -> None:
    site = system.folder / "site"
    sidecar = serve("pages", "--exec", publishing(site))
    app = connect(sidecar)
    task = app.submit("pages.publish", b"<title>Hi</title>")
    sidecar.wait_until(lambda: app.inspect()["outcomes_recorded"] != 0, "tells the first outcome")

    site.mkdir()

    task.result(SECONDS)
    assert set(outcomes(app, task.id)) == {"defer", "success"}
    assert app.status(task.id).attempts == 1
