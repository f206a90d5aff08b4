"""Handlers that are pushed to, and that are commands, in real processes with a real coordinator."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import Client
from sidecar.sdk.task import BlockingTask
from tests.support.processes import Sidecar, System

DEADLINE_SECONDS = 20.0
APP = """
import os, socketserver, sys
from http.server import BaseHTTPRequestHandler

PATH = os.environ["PILLION_APP_SOCKET"]
GATE = sys.argv[1] if len(sys.argv) > 1 else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if GATE:
            open(GATE + ".begun", "w").close()
            open(GATE).read()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "sidecar"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(PATH):
    os.unlink(PATH)
Server(PATH, Handler).serve_forever()
"""


def until(holds: Callable[[], object], sidecar: Sidecar) -> None:
    sidecar.wait_until(lambda: bool(holds()), "did what is waited for", DEADLINE_SECONDS)


def submitted(sidecar: Sidecar, handler: str) -> BlockingTask[object]:
    with Client(str(sidecar.socket_path)) as client:
        return client.submit(handler, {"n": 1})


def result(sidecar: Sidecar, task: BlockingTask[object]) -> object:
    with Client(str(sidecar.socket_path)) as client:
        return client.wait(task.id, timeout=DEADLINE_SECONDS)


def facts(sidecar: Sidecar) -> dict[str, int | str]:
    with Client(str(sidecar.socket_path)) as client:
        return client.inspect()


def environment(sidecar: Sidecar) -> dict[str, str | None]:
    return {"PILLION_APP_SOCKET": str(sidecar.socket_path.with_name("app.sock"))}


def test_task_waits_for_a_service_that_starts_later(system: System) -> None:
    sidecar = system.sidecar("email", system.coordinator(), "--push", "send")
    task = submitted(sidecar, "email.send")
    assert str(facts(sidecar)["app"]).startswith("waiting for")

    system.service("app", sidecar, APP, environment=environment(sidecar))

    assert result(sidecar, task) == {"n": 1}
    assert str(facts(sidecar)["app"]).startswith("answers at")


def test_service_that_is_restarted_costs_no_attempt_of_what_waits(system: System) -> None:
    sidecar = system.sidecar("email", system.coordinator(), "--push", "send")
    app = system.service("app", sidecar, APP, environment=environment(sidecar))
    result(sidecar, submitted(sidecar, "email.send"))
    app.kill()
    task = submitted(sidecar, "email.send")

    app.start()

    assert result(sidecar, task) == {"n": 1}
    with Client(str(sidecar.socket_path)) as client:
        assert client.status(task.id).attempts == 1


def test_sigterm_lets_a_pushed_attempt_finish(system: System) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("email", coordinator, "--push", "send")
    other = system.sidecar("email", coordinator, name="other")
    gate = system.folder / "gate"
    os.mkfifo(gate)
    system.service("app", sidecar, APP, str(gate), environment=environment(sidecar))
    task = submitted(sidecar, "email.send")
    until(Path(f"{gate}.begun").exists, sidecar)

    sidecar.end_expected = True
    os.kill(sidecar.pid, 15)
    until(lambda: "drain_began" in sidecar.output(), sidecar)
    gate.write_text("go")

    assert sidecar.wait(DEADLINE_SECONDS) == 0
    assert result(other, task) == {"n": 1}


def test_supervised_service_is_told_where_to_listen(system: System) -> None:
    script = system.folder / "app.py"
    script.write_text(APP)
    options = ("--push", "send", "--", sys.executable, str(script))
    sidecar = system.sidecar("email", system.coordinator(), *options)

    assert result(sidecar, submitted(sidecar, "email.send")) == {"n": 1}
    assert '"state": "serving"' in str(facts(sidecar))  # It is who listens.


def test_command_dies_with_its_sidecar(system: System) -> None:
    pids = system.folder / "pids"
    command = f"nap=sh -c 'echo $$ > {pids}; exec sleep 60'"
    sidecar = system.sidecar("email", system.coordinator(), "--exec", command)
    submitted(sidecar, "email.nap")
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), sidecar)
    pid = int(pids.read_text())

    sidecar.end_expected = True
    os.kill(sidecar.pid, 9)

    deadline = time.monotonic() + DEADLINE_SECONDS
    while os.path.exists(f"/proc/{pid}") and _state(pid) != "Z":
        assert time.monotonic() < deadline, "the command outlives its sidecar"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def test_handlers_of_the_file_are_served(system: System) -> None:
    config = system.folder / "sidecar.toml"
    config.write_text('[handlers."email.up"]\ncommand = "tr a-z A-Z"\ntimeout = "5s"\n')
    sidecar = system.sidecar("email", system.coordinator(), "--config", str(config))
    with Client(str(sidecar.socket_path)) as client:
        task = client.submit("email.up", "abc")
        assert client.wait(task.id, timeout=DEADLINE_SECONDS) == "ABC"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--push", "other.send"), "is not of service 'email'"),
        (("--push", "send", "--app", "http://10.0.0.1:80"), "expected a socket's path"),
        (("--exec", "up"), "expected HANDLER=COMMAND"),
    ],
)
def test_bad_settings_end_the_start_with_what_is_wrong(
    system: System, options: tuple[str, ...], problem: str
) -> None:
    sidecar = system.sidecar("email", "tcp://127.0.0.1:1", *options, start=False)
    sidecar.end_expected = True
    sidecar.start(wait=False)

    assert sidecar.wait(DEADLINE_SECONDS) == 2
    assert problem in sidecar.output()
