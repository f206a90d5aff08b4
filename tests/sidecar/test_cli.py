"""The ``pillion-sidecar`` command against real processes: output, exit codes, what is said."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from protocol.version import SOFTWARE
from tests.support.processes import Sidecar, System

ROOT = Path(__file__).parents[2]
SERVICE = """
from sidecar import Fatal, Service

service = Service("email")

@service.handler("send")
def send(to: str) -> str:
    return f"sent to {to}"

@service.handler("fail")
def fail() -> None:
    raise Fatal("it cannot be")

service.run()
"""
SEND = ["submit", "email.send", '{"to": "a@b.c"}']
LONG_AGO = "018f2b4c-5d6e-7abc-8def-0123456789ab"
FAR_FUTURE = "01ffffff-ffff-7000-8000-000000000001"


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with System() as system:
        running = system.sidecar("email", system.coordinator())
        system.service("email-1", running, SERVICE)
        yield running


def run(*arguments: str, socket: Path | None = None, stdin: str = "") -> Result:
    """Run the command as a user would."""
    options = ["--socket", str(socket)] if socket is not None else []
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments, *options],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=50,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def submitted(sidecar: Sidecar, *arguments: str) -> str:
    """Submit a task and return its id."""
    result = run("submit", *arguments, socket=sidecar.socket_path)
    assert result.code == 0, result.err
    return result.out.strip()


def test_version_and_help_need_no_sidecar() -> None:
    assert run("--version") == (0, f"pillion-sidecar, version {SOFTWARE}\n", "")
    text = run("--help").out
    assert all(command in text for command in ("run", "submit", "status", "wait"))


def test_submit_prints_the_id_and_status_shows_the_task(sidecar: Sidecar) -> None:
    task_id = submitted(sidecar, "email.send", '{"to": "a@b.c"}')

    assert run("wait", task_id, socket=sidecar.socket_path) == (0, "sent to a@b.c\n", "")
    result = run("status", task_id, socket=sidecar.socket_path)

    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.out.splitlines())
    assert result.code == 0
    assert rows.keys() >= {"id", "handler", "state", "attempts", "delivery 1"}
    assert (rows["id"], rows["state"]) == (task_id, "succeeded")


def test_json_is_for_scripts(sidecar: Sidecar) -> None:
    result = run(*SEND, "-o", "json", "--wait", socket=sidecar.socket_path)
    submitted_line, waited_line = result.out.splitlines()
    task_id = json.loads(submitted_line)["id"]
    assert json.loads(waited_line) == {
        "id": task_id,
        "state": "succeeded",
        "result": "sent to a@b.c",
    }

    status = json.loads(run("status", task_id, "-o", "json", socket=sidecar.socket_path).out)
    assert (status["state"], status["handler"]) == ("succeeded", "email.send")


@pytest.mark.parametrize("source", ["-", "@file"])
def test_payload_comes_from_standard_input_or_a_file(
    sidecar: Sidecar, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"to": "file"}')
    argument = "-" if source == "-" else f"@{file}"

    result = run(
        *("submit", "email.send", argument, "--wait"),
        socket=sidecar.socket_path,
        stdin='{"to": "file"}',
    )

    assert result.out.splitlines()[1:] == ["sent to file"]


def test_task_that_failed_has_exit_code_1_and_says_why(sidecar: Sidecar) -> None:
    result = run("submit", "email.fail", "{}", "--wait", socket=sidecar.socket_path)

    assert result.code == 1
    assert "it cannot be" in result.err
    assert len(result.out.splitlines()) == 1


def test_ready_task_says_that_nobody_serves_its_handler(sidecar: Sidecar) -> None:
    task_id = submitted(sidecar, "nobody.serves", "{}", "--collection", "spring")

    result = run("status", task_id, socket=sidecar.socket_path)

    assert result.code == 0
    assert "no sidecar serves its handler" in result.out
    assert "spring" in result.out


def test_delayed_task_is_scheduled(sidecar: Sidecar) -> None:
    options = ["--delay", "10m", "--priority", "high", "--expires", "1h", "--attempts", "3"]
    task_id = submitted(sidecar, "email.send", '{"to": "a"}', *options)

    result = run("status", task_id, socket=sidecar.socket_path)

    for word in ("scheduled", "high", "0 of 3", "expires"):
        assert word in result.out


def test_wait_that_is_over_first_has_exit_code_124(sidecar: Sidecar) -> None:
    task_id = submitted(sidecar, "email.send", '{"to": "a"}', "--delay", "10m")

    result = run("wait", task_id, "--timeout", "50ms", socket=sidecar.socket_path)

    assert (result.code, result.out) == (124, "")
    assert result.err


def test_status_without_an_id_shows_the_sidecar(sidecar: Sidecar) -> None:
    facts = json.loads(run("status", "-o", "json", socket=sidecar.socket_path).out)

    assert (facts["service"], facts["link"]) == ("email", "open")
    assert run("status", socket=sidecar.socket_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status", FAR_FUTURE], 3, "it never existed, its id is of a time still to come"),
        (["status", LONG_AGO], 3, "or it has ended and its time is over; its id was made"),
        (["status", "nonsense"], 2, "nonsense"),
        (["submit", "E-Mail", "{}"], 2, "E-Mail"),
        (["submit", "email.send", "{}", "--delay", "soon"], 2, "soon"),
        (["submit", "email.send", "{}", "--at", "noon"], 2, "--at 'noon'"),
        (["submit", "email.send", "{}", "--priority", "huge"], 2, "huge"),
        (["submit", "email.send", "@/nowhere"], 1, "/nowhere"),
        (["wait", FAR_FUTURE], 3, "no task has the id"),
    ],
)
def test_what_is_wrong_is_said_on_stderr_with_its_exit_code(
    sidecar: Sidecar, arguments: list[str], code: int, said: str
) -> None:
    result = run(*arguments, socket=sidecar.socket_path)

    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert "Traceback" not in result.err


def test_sidecar_that_is_not_there_has_exit_code_5(tmp_path: Path) -> None:
    result = run("status", socket=tmp_path / "none.sock")

    assert result.code == 5
    assert "none.sock" in result.err
    assert "--socket" in result.err


def test_which_sidecar_must_be_said_somehow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILLION_SIDECAR_SOCKET", raising=False)

    result = run("status")

    assert result.code == 2
    assert "PILLION_SIDECAR_SOCKET" in result.err


def test_settings_that_cannot_be_used_have_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('servce = "email"\n')

    result = run("run", "--config", str(file))

    assert result.code == 2
    assert "servce" in result.err
    assert "'service'" in result.err
    assert run("run", "--config", str(tmp_path / "none.toml")).code == 2
    assert run("run").code == 2


def test_socket_that_cannot_be_served_has_exit_code_1_and_names_the_fix() -> None:
    result = run("run", "--service", "email", socket=Path("/tmp", "x" * 120))

    assert result.code == 1
    assert "108" in result.err
    assert "--socket" in result.err
