"""Traces of real sidecars, as a collector gets them: every transport, every end, no collector."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import Client
from sidecar.sdk.errors import TaskDead
from sidecar.sdk.task import BlockingTask
from tests.support.collector import Collector, Span
from tests.support.process import ROOT
from tests.support.processes import Sidecar, System

DEADLINE_SECONDS = 20.0
END_SECONDS = 6.0
"""In which a sidecar without work ends, whatever its collector does."""
TRACE, PARENT = "ab" * 16, "cd" * 8
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVICE = """
import os, signal
from sidecar import Fatal, Service, current

service = Service("mail")


@service.handler()
async def send():
    return current().traceparent


@service.handler(attempts=1)
async def fail(secret):
    raise Fatal("canary-error " + secret)


@service.handler(attempts=1, crashes=1)
async def die():
    os.kill(os.getpid(), signal.SIGKILL)


service.run()
"""
APP = """
import os, socketserver
from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'"%s"' % self.headers["traceparent"].encode()
        self.send_response(503 if self.path.endswith("/refuse") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "sidecar"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


Server(os.environ["PILLION_APP_SOCKET"], Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def traced(system: System, endpoint: str, *options: str) -> Sidecar:
    return system.sidecar("mail", system.coordinator(), "--otel-endpoint", endpoint, *options)


def done(sidecar: Sidecar, handler: str, *, traceparent: str | None = TRACEPARENT) -> str:
    """Run a task; return the text that it came to."""
    with Client(str(sidecar.socket_path)) as client:
        task: BlockingTask[object] = client.submit(handler, traceparent=traceparent)
        result = client.wait(task.id, timeout=DEADLINE_SECONDS)
    return result.decode().strip() if isinstance(result, bytes) else str(result)


def dead(sidecar: Sidecar, handler: str, payload: object, **options: object) -> None:
    with Client(str(sidecar.socket_path)) as client:
        task: BlockingTask[object] = client.submit(handler, payload, **options)  # type: ignore[arg-type]
        with pytest.raises(TaskDead):
            client.wait(task.id, timeout=DEADLINE_SECONDS)


def facts(sidecar: Sidecar) -> dict[str, int | str]:
    with Client(str(sidecar.socket_path)) as client:
        return client.inspect()


def ends(sidecar: Sidecar) -> float:
    """End a sidecar by SIGTERM; return the seconds that it took."""
    began = time.monotonic()
    assert sidecar.terminate() == 0
    return time.monotonic() - began


def assert_child(span: Span, told: str) -> None:
    assert (span.trace_id, span.parent_id, span.failed) == (TRACE, PARENT, False)
    assert told == f"00-{TRACE}-{span.span_id}-01"
    assert span.start_ns < span.end_ns


def test_native_handler_is_traced_and_told_its_span(system: System, collector: Collector) -> None:
    sidecar = traced(system, collector.endpoint, "--name", "host-1")
    system.service("service", sidecar, SERVICE)

    told = done(sidecar, "mail.send")

    [span] = collector.wait(1)
    assert_child(span, told)
    assert span.name == "process mail.send"
    assert span.resource["service.name"] == "mail"
    assert span.attributes["messaging.destination.name"] == "mail.send"
    assert span.attributes["messaging.client.id"] == "host-1"
    assert span.attributes["pillion.outcome"] == "success"
    assert (span.attributes["pillion.attempt"], span.attributes["pillion.delivery"]) == (1, 1)


def test_command_is_traced_and_told_its_span(system: System, collector: Collector) -> None:
    sidecar = traced(system, collector.endpoint, "--exec", "send=sh -c 'echo $TRACEPARENT'")

    told = done(sidecar, "mail.send")

    [span] = collector.wait(1)
    assert_child(span, told)


def test_service_that_is_pushed_to_is_traced_and_told_its_span(
    system: System, collector: Collector
) -> None:
    sidecar = traced(system, collector.endpoint, "--push", "send")
    app = str(sidecar.socket_path.with_name("app.sock"))
    system.service("app", sidecar, APP, environment={"PILLION_APP_SOCKET": app})

    told = done(sidecar, "mail.send")

    [span] = collector.wait(1)
    assert_child(span, told)


class Unix(http.client.HTTPConnection):
    """HTTP on a sidecar's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_SECONDS)
        self.sock.connect(str(self._path))


def test_reader_that_pulls_is_traced_and_told_its_span(
    system: System, collector: Collector
) -> None:
    sidecar = traced(system, collector.endpoint)
    with Client(str(sidecar.socket_path)) as client:
        client.submit("mail.send", {"n": 1}, traceparent=TRACEPARENT)

    http_ = Unix(sidecar.socket_path)
    http_.request("GET", "/v1/next?handler=send&wait=20")
    response = http_.getresponse()
    response.read()
    path = f"/v1/tasks/{response.headers['Task-Id']}/complete"
    http_.request("POST", path, b"", {"Task-Token": response.headers["Task-Token"]})
    assert http_.getresponse().status == 200
    http_.close()

    [span] = collector.wait(1)
    assert_child(span, response.headers["traceparent"])


def test_failures_are_errors_that_say_no_more_than_their_type(
    system: System, collector: Collector
) -> None:
    sidecar = traced(
        system,
        collector.endpoint,
        *("--exec", "slow=sleep 60", "--exec", "status=sh -c 'echo canary-log >&2; exit 64'"),
    )
    system.service("service", sidecar, SERVICE)

    dead(sidecar, "mail.fail", {"secret": "canary-payload"}, key="canary-key")
    dead(sidecar, "mail.slow", {}, attempts=1, timeout="200ms")
    dead(sidecar, "mail.status", {})

    spans = collector.wait(3)
    assert [span.failed for span in spans] == [True] * 3
    assert [(span.message, span.events) for span in spans] == [("", 0)] * 3
    types = [span.attributes["error.type"] for span in spans]
    assert types == ["Fatal", "timeout", "exit-64"]
    outcomes = [span.attributes["pillion.outcome"] for span in spans]
    assert outcomes == ["fatal", "retry", "fatal"]
    assert spans[1].end_ns - spans[1].start_ns >= 200_000_000
    assert not any(b"canary" in body for body in collector.bodies)


def test_service_that_dies_leaves_the_span_of_a_crash(system: System, collector: Collector) -> None:
    sidecar = traced(system, collector.endpoint)
    system.service("service", sidecar, SERVICE).end_expected = True

    dead(sidecar, "mail.die", {})

    [span] = collector.wait(1)
    assert span.failed
    assert (span.attributes["pillion.outcome"], span.attributes["error.type"]) == ("lost", "crash")


def test_attempts_of_one_task_have_a_span_each(system: System, collector: Collector) -> None:
    options = ("--exec", "send=sh -c 'test $TASK_ATTEMPT = 2'")
    sidecar = traced(system, collector.endpoint, *options)
    with Client(str(sidecar.socket_path)) as client:
        task: BlockingTask[object] = client.submit(
            "mail.send", {}, traceparent=TRACEPARENT, backoff=("1ms", "2ms")
        )
        client.wait(task.id, timeout=DEADLINE_SECONDS)

    first, second = collector.wait(2)
    assert [span.attributes["pillion.attempt"] for span in (first, second)] == [1, 2]
    assert [span.failed for span in (first, second)] == [True, False]
    assert first.trace_id == second.trace_id == TRACE
    assert first.parent_id == second.parent_id == PARENT


def test_trace_of_its_own_where_that_is_asked_for(system: System, collector: Collector) -> None:
    options = ("--exec", "send=sh -c 'echo $TRACEPARENT'", "--trace-relation", "link")
    sidecar = traced(system, collector.endpoint, *options)

    told = done(sidecar, "mail.send")

    [span] = collector.wait(1)
    assert (span.parent_id, span.links) == ("", ((TRACE, PARENT),))
    assert told.split("-")[1:3] == [span.trace_id, span.span_id]
    assert span.trace_id != TRACE


def test_variables_of_opentelemetry_hold(
    system: System, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "post office")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    sidecar = traced(system, collector.endpoint, "--exec", "send=sh -c 'echo $TRACEPARENT'")

    unsampled = done(sidecar, "mail.send", traceparent=None)
    told = done(sidecar, "mail.send")

    [span] = collector.wait(1)
    assert_child(span, told)
    assert unsampled.split("-")[3] in ("00", "02")
    assert span.resource["service.name"] == "post office"
    assert span.resource["deployment.environment"] == "test"


def test_last_spans_are_sent_before_the_sidecar_ends(
    system: System, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    sidecar = traced(system, collector.endpoint, "--exec", "send=true")
    done(sidecar, "mail.send")
    assert facts(sidecar)["spans_waiting"] == 1

    ends(sidecar)

    collector.wait(1)


def test_tasks_go_on_without_a_collector_and_the_log_says_it_once(system: System) -> None:
    with socket.socket() as closed:  # Bound and not listening: nobody else gets the port.
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        sidecar = traced(system, endpoint, "--exec", "send=true")

        done(sidecar, "mail.send")
        sidecar.wait_until(lambda: bool(facts(sidecar)["spans_trouble"]), "has tried")
        done(sidecar, "mail.send")

        assert "refused" in str(facts(sidecar)["spans_trouble"])
        assert facts(sidecar)["spans_sent"] == 0
        assert ends(sidecar) < END_SECONDS
    lines = [json.loads(line) for line in sidecar.output().splitlines()]
    assert [line["event"] for line in lines].count("spans_not_sent") == 1
    assert not any(str(line.get("part", "")).startswith("opentelemetry") for line in lines)


def test_collector_that_does_not_answer_holds_nothing_back(
    system: System, collector: Collector
) -> None:
    collector.answers.clear()
    sidecar = traced(system, collector.endpoint, "--exec", "send=true")

    done(sidecar, "mail.send")
    collector.wait_for_request()
    done(sidecar, "mail.send")

    assert ends(sidecar) < END_SECONDS


def test_collector_that_refuses_is_told_of_and_its_spans_are_counted(
    system: System, collector: Collector
) -> None:
    collector.status = 401
    sidecar = traced(system, collector.endpoint, "--exec", "send=true")

    done(sidecar, "mail.send")
    sidecar.wait_until(lambda: facts(sidecar)["spans_dropped"] == 1, "has dropped it")
    assert "401" in str(facts(sidecar)["spans_trouble"])
    collector.status = 200
    done(sidecar, "mail.send")
    collector.wait(1)

    sidecar.wait_until(lambda: facts(sidecar)["spans_sent"] == 1, "has sent it")
    assert facts(sidecar)["spans_trouble"] == ""
    assert '"spans_sent_again"' in sidecar.output()


def test_second_signal_waits_for_no_span(system: System, collector: Collector) -> None:
    collector.answers.clear()
    options = ("--exec", "send=true", "--exec", "slow=sleep 60")
    sidecar = traced(system, collector.endpoint, *options)
    with Client(str(sidecar.socket_path)) as client:
        client.submit("mail.slow", {})
    done(sidecar, "mail.send")
    sidecar.wait_until(lambda: facts(sidecar)["tasks_running"] == 1, "runs it")

    sidecar.signal(signal.SIGTERM)
    sidecar.wait_until(lambda: '"drain_began"' in sidecar.output(), "drains")
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)

    assert sidecar.wait() == 0
    assert time.monotonic() - began < END_SECONDS
    assert '"spans_left_behind"' in sidecar.output()


def run(program: list[str], path: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": os.environ["HOME"]}
    command = [sys.executable, *program]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_missing_library_is_named_at_the_start(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "opentelemetry"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").touch()
    command = ["-m", "sidecar", "run", "--service", "mail", "--no-spool"]
    command += ["--socket", str(tmp_path / "s"), "--otel-endpoint", "http://127.0.0.1:4318"]

    ended = run(command, f"{shadow.parent}:{ROOT}")

    assert ended.returncode == 2
    assert "pip install 'pillion[otel]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_variable_of_opentelemetry_that_cannot_be_used_is_named_at_the_start(
    tmp_path: Path,
) -> None:
    command = ["-m", "sidecar", "run", "--service", "mail", "--no-spool"]
    command += ["--socket", str(tmp_path / "s"), "--otel-endpoint", "http://127.0.0.1:4318"]
    program = "import os, runpy, sys; os.environ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE'] = '0'; "
    program += (
        f"sys.argv = ['x', *{command[2:]!r}]; runpy.run_module('sidecar', run_name='__main__')"
    )

    ended = run(["-c", program], str(ROOT))

    assert ended.returncode == 2
    assert "OTEL_*" in ended.stderr
    assert "max_export_batch_size" in ended.stderr


def test_nothing_of_the_library_is_loaded_where_it_is_not_asked_for() -> None:
    program = (
        "import sys, sidecar.runtime; from sidecar.tracing.start import start; "
        "start(None, 'mail', 'host-1', ''); sys.exit('opentelemetry' in sys.modules)"
    )

    assert run(["-c", program], str(ROOT)).returncode == 0
