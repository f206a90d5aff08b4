"""The service and the submitter in Node.js, which tell and see how a task goes."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from examples.python.submit import Sidecar as Http
from tests.examples.conftest import Connect, Serve
from tests.support.processes import Sidecar
from tests.support.programs import need, run

SECONDS = 20
NODE = ("--push", "render", "--", "node", "examples/node/service.mjs")


def test_node_submits_and_follows_to_the_end(echo: Sidecar) -> None:
    need("node", 18)

    ended = run("node", "examples/node/submit.mjs", "echo.say", '"hi"', socket=echo.socket_path)

    task_id, *states, result = ended.stdout.splitlines()
    assert UUID(task_id).version == 7
    assert states[-1].strip() == "succeeded"
    assert result == '"hi"'


def test_node_prints_what_to_do_when_a_task_is_refused(echo: Sidecar) -> None:
    need("node", 18)
    command = ("node", "examples/node/submit.mjs", "Echo!", "1")

    ended = run(*command, socket=echo.socket_path, expect=1)

    assert "service.name" in ended.stderr


def test_progress_that_node_streams_is_seen_while_it_runs(serve: Serve) -> None:
    need("node", 18)
    sidecar = serve("reports", *NODE)
    payload = '{"title": "Spring", "pages": 20}'

    ended = run(
        *("node", "examples/node/submit.mjs", "reports.render", payload),
        socket=sidecar.socket_path,
    )

    assert "running page 1 of 20" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "{ title: 'Spring', pages: 20, resumed_after: 0 }"


def test_node_notices_that_its_task_was_cancelled(serve: Serve, connect: Connect) -> None:
    need("node", 18)
    sidecar = serve("reports", *NODE)
    task = connect(sidecar).submit("reports.render", {"title": "Endless", "pages": 100_000})
    follow(sidecar, task.id, lambda status: status.get("progress", 0) > 0)

    with closing(Http(str(sidecar.socket_path))) as http:
        http.request("DELETE", f"/v1/tasks/{task.id}")
        assert http.getresponse().status in (200, 202)

    follow(sidecar, task.id, lambda status: status["state"] == "cancelled")
    sidecar.wait_until(lambda: f"{task.id} was told to stop" in sidecar.output(), "stopped")


def test_node_goes_on_where_its_killed_process_was(serve: Serve, connect: Connect) -> None:
    need("node", 18)
    sidecar = serve("reports", *NODE)
    app = connect(sidecar)
    task = app.submit("reports.render", {"title": "Long", "pages": 50})
    follow(sidecar, task.id, lambda status: "checkpoint" in status)

    (node,) = children_of(sidecar)
    os.kill(node, signal.SIGKILL)

    assert task.result(SECONDS)["resumed_after"] > 0
    assert [attempt.outcome for attempt in task.status().history] == ["lost", "success"]


def children_of(sidecar: Sidecar) -> list[int]:
    children = Path(f"/proc/{sidecar.pid}/task/{sidecar.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def follow(
    sidecar: Sidecar, task_id: str, is_it: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return a task's status as soon as it is as asked for; its end must not come before."""
    status: dict[str, Any] = {}
    with closing(Http(str(sidecar.socket_path))) as http:
        http.request("GET", f"/v1/tasks/{task_id}/events")
        for line in http.getresponse():
            if line.startswith(b"data: "):
                status = json.loads(line[6:])
                if is_it(status):
                    return status
    raise AssertionError(f"ended as {status}")
