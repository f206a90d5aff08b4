"""``check``, ``doctor`` and ``config`` of the sidecar, as real processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidecar.commands.check import CRITICAL, OK, UNKNOWN, WARNING, judge
from tests.support import commands
from tests.support.commands import Done
from tests.support.process import ROOT
from tests.support.processes import Coordinator, Sidecar, System

SECONDS = 30.0
SERVICE = """
from sidecar import Service

service = Service("email")

@service.handler()
async def send(to: str) -> None: ...

service.run()
"""
FACTS: dict[str, int | str] = {
    "coordinator": "tcp://c:1",
    "drained_by": "",
    "draining": 0,
    "link": "open",
    "link_trouble": "",
    "spool": "ready",
    "spool_left_alone": 0,
}


class Pair(NamedTuple):
    coordinator: Coordinator
    sidecar: Sidecar


def command(*arguments: str, **environment: str) -> Done:
    own = {k: v for k, v in os.environ.items() if not k.startswith("PILLION_")}
    return commands.run("sidecar", *arguments, environment=own | environment)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("email", coordinator)
        service = system.service("email-1", sidecar, SERVICE)
        path = str(sidecar.socket_path)
        service.wait_until(lambda: "handlers=1" in command("check", "--socket", path).out, "serves")
        yield Pair(coordinator, sidecar)


def test_sidecar_that_is_well_is_ok(pair: Pair) -> None:
    done = command("check", "--socket", str(pair.sidecar.socket_path))
    assert done.code == OK, done.out
    assert done.out.startswith("PILLION OK - all is well | handlers=1 connections=")

    by_environment = command(
        "check", "--live", PILLION_SIDECAR_SOCKET=str(pair.sidecar.socket_path)
    )
    assert by_environment == (OK, "PILLION OK - the sidecar answers\n", "")


def test_sidecar_without_its_coordinator_lives_and_is_warned_of() -> None:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("email", coordinator)
        coordinator.kill()
        path = str(sidecar.socket_path)
        sidecar.wait_until(lambda: command("check", "--socket", path).code == WARNING, "is alone")

        told = command("check", f"--socket={path}").out
        live = command("check", "--live", "--socket", path)
        code, found = doctor("--service", "email", "--socket", path, sidecar=sidecar)

    assert "WARNING - no coordinator at tcp://127.0.0.1:" in told
    assert "submissions are spooled" in told
    assert live.code == OK
    assert code == 1
    assert found["sidecar"][0]["level"] == "warning"


def test_sidecar_that_is_not_there_is_critical_and_one_that_is_not_named_unknown(
    tmp_path: Path,
) -> None:
    gone = command("check", "--live", "--socket", str(tmp_path / "x.sock"))
    assert (gone.code, gone.err) == (CRITICAL, "")
    assert f"no sidecar serves {tmp_path}/x.sock" in gone.out

    unnamed = command("check")
    assert (unnamed.code, unnamed.err) == (UNKNOWN, "")
    assert "Say --socket PATH, or set PILLION_SIDECAR_SOCKET" in unnamed.out


def test_help_and_mistakes_get_the_parser(pair: Pair) -> None:
    assert "0 if all is well" in command("check", "--help").out
    wrong = command("check", "--lvie")
    assert wrong.code == 2
    assert "--live" in wrong.err


def test_probe_imports_next_to_nothing(pair: Pair) -> None:
    """Cheaper than any measure of time: what it does not load costs nothing."""
    program = (
        "import sys; from sidecar import cli\n"
        f"sys.argv[1:] = ['check', '--live', '--socket', {str(pair.sidecar.socket_path)!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "for name in ('click', 'asyncio', 'json', 'zmq', 'lmdb', 'msgpack', 'protocol'):\n"
        "    assert name not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, OK, ""),
        ({"draining": 1}, WARNING, "it stops"),
        ({"drained_by": "ada: new disk"}, WARNING, "it takes no tasks: ada: new disk"),
        ({"link": "hello", "link_trouble": "no answer"}, WARNING, "no coordinator at tcp://c:1"),
        ({"link": "hello", "spool": "none"}, CRITICAL, "nothing can be submitted"),
        ({"spool": "failed"}, WARNING, "the spool has failed"),
        ({"spool_left_alone": 3}, WARNING, "3 spooled batches are left alone"),
        (
            {"processes": '[{"state": "waiting", "last_end": "exit code 3"}]'},
            CRITICAL,
            "1 of 1 processes do not serve; the last end: exit code 3",
        ),
        (
            {"processes": '[{"state": "starting", "last_end": ""}, {"state": "serving"}]'},
            WARNING,
            "1 of 2 processes",
        ),
    ],
)
def test_check_judges(changes: dict[str, int | str], level: int, said: str) -> None:
    judged, findings = judge({**FACTS, **changes})
    assert judged == level
    assert said in "; ".join(findings)


def doctor(
    *arguments: str, sidecar: Sidecar | None = None
) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    place = {} if sidecar is None else {"XDG_STATE_HOME": str(sidecar.folder)}
    done = command("doctor", "-o", "json", *arguments, **place)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(done.out):
        found.setdefault(row["check"], []).append(row)
    return done.code, found


def test_running_sidecar_gets_a_clean_bill(pair: Pair) -> None:
    code, found = doctor(
        *("--service", "email", "--socket", str(pair.sidecar.socket_path)),
        *("--coordinator", pair.coordinator.address),
        sidecar=pair.sidecar,
    )

    assert code == 0
    for name in ("versions", "folder", "socket", "spool", "flush", "descriptors", "clock"):
        assert [row["level"] for row in found[name]] == ["ok"], found[name]
    assert "connects in" in found["coordinator"][0]["detail"]
    assert found["sidecar"][0]["detail"].startswith("session ")
    assert not list(pair.sidecar.folder.rglob("pillion.doctor"))


def test_doctor_names_a_fix_for_what_is_wrong(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as server:
        # It takes connections and says nothing that ZeroMQ would.
        port = server.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sidecar", "doctor", "-o", "json", "--service", "x"),
                *("--socket", str(tmp_path / ("long" * 30)), "--spool-dir", str(spool)),
                *("--coordinator", f"tcp://127.0.0.1:{port}"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        out, _ = process.communicate(timeout=SECONDS)

    rows = json.loads(out)
    bad = {row["check"] for row in rows if row["level"] == "bad"}
    assert process.returncode == 1
    assert bad >= {"socket", "spool", "coordinator"}
    assert all(row["fix"] for row in rows if row["level"] != "ok")


@pytest.mark.parametrize("stdout", ['"$@" >&-', '"$@" >/dev/full', '"$@" | head -c 1'])
@pytest.mark.parametrize(
    "words", [["status"], ["check"], ["--help"], ["config"], ["doctor", "--service", "x"]], ids=str
)
def test_stdout_that_takes_nothing_gives_no_traceback(
    pair: Pair, words: list[str], stdout: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", stdout, "bash", sys.executable, "-m", "sidecar", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PILLION_SIDECAR_SOCKET": str(pair.sidecar.socket_path)},
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if words == ["check"] and "head" not in stdout:
        assert done.returncode == OK


def test_errors_are_json_where_json_is_asked_for(pair: Pair, tmp_path: Path) -> None:
    place = ["--socket", str(pair.sidecar.socket_path)]
    unknown = command("status", "01ffffff-ffff-7000-8000-000000000001", "--json", *place)
    assert (unknown.code, unknown.out) == (3, "")
    assert json.loads(unknown.err)["code"] == "unknown_task"

    gone = command("status", "-o", "json", "--socket", str(tmp_path / "x.sock"))
    assert json.loads(gone.err).items() >= {"code": "unreachable", "exit_code": 5}.items()
    usage = command("submit", "-o", "json")
    assert json.loads(usage.err).items() >= {"code": "usage", "exit_code": 2}.items()


def test_config_prints_the_settings_with_their_origin(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('log_level = "debug"\n')
    done = command(
        *("config", "--config", str(file), "--drain", "3s"), PILLION_SIDECAR_SERVICE="email"
    )
    assert done.code == 0, done.err
    assert 'drain = "3s"  # flag --drain' in done.out
    assert 'service = "email"  # environment PILLION_SIDECAR_SERVICE' in done.out
    assert f'log_level = "debug"  # file {file}' in done.out

    told = json.loads(command("config", "-o", "json").out)
    assert told["drain"] == {"value": 25_000, "origin": "default"}
    assert command("config", "--drain", "soon").code == 2
