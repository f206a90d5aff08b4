"""Completion as shells ask for it, of real commands with a real coordinator."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator.commands.names import terms
from sidecar import Client
from tests.support.process import ROOT
from tests.support.processes import Coordinator, Sidecar, System

SECONDS = 30.0
SERVICE = """
from sidecar import Service

service = Service("mail")

@service.handler()
async def send(to: str) -> None: ...

service.run()
"""


class Stage(NamedTuple):
    coordinator: Coordinator
    sidecar: Sidecar


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("mail", coordinator)
        system.service("mail-1", sidecar, SERVICE)
        with Client(sidecar.socket_path, accepted_only=True) as client:
            client.submit("image.scale", {}, delay="1h")
            client.wait(client.submit("mail.send", {"to": "a"}).id, timeout=SECONDS)
        done = run("coordinator", "pause", "mail.send/spring", data_dir(coordinator.data_folder))
        assert done.returncode == 0, done.stderr
        yield Stage(coordinator, sidecar)


def data_dir(folder: Path) -> dict[str, str]:
    return {"PILLION_COORDINATOR_DATA_DIR": str(folder), "PILLION_COORDINATOR_HTTP_BIND": "[::1]:9"}


def run(
    program: str, *words: str | dict[str, str], shell: str = "bash"
) -> subprocess.CompletedProcess[str]:
    environment: dict[str, str] = {}
    for given in words:
        environment |= given if isinstance(given, dict) else {}
    return subprocess.run(
        [sys.executable, "-m", program, *[word for word in words if isinstance(word, str)]],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PILLION_")} | environment,
    )


def complete(words: list[str], place: dict[str, str], program: str = "coordinator") -> list[str]:
    """Return what bash is told; the last word is the one that is being typed."""
    variable = f"_PILLION_{program.upper()}_COMPLETE"
    asked = {
        variable: "bash_complete",
        "COMP_WORDS": " ".join([f"pillion-{program}", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = run(program, asked | place)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stat"], ["status"]),
        (["policy", "show", "mail"], ["mail.send"]),
        (["policy", "show", ""], ["image.scale", "mail.send"]),
        (["dead", "list", "im"], ["image.scale"]),
        (["pause", "mail"], ["mail.send", "mail.send/spring"]),
        (["resume", ""], ["mail.send/spring"]),
        (["top", "--every", "1s", "im"], ["image.scale"]),
        (["policy", "set", "mail.send", "attempts"], ["attempts_max=12"]),
        (["policy", "revert", "mail.send", "concu"], ["concurrency"]),
        (["tasks", "prio"], [f"priority={x}" for x in ("critical", "high", "normal", "low")]),
        (["tasks", "state", "=", "de"], ["dead"]),
        (["tasks", "priority", "="], ["critical", "high", "normal", "low"]),
        (["tasks", "state=dead,exp"], ["state=dead,expired"]),
        (["tasks", "state!=le"], ["state!=leased"]),
        (["tasks", "state=dead", "handler=ma"], ["handler=mail.send"]),
        (["tasks", "handler", "=", ""], ["image.scale", "mail.send"]),
        (["tasks", "-o", "nd"], ["ndjson"]),
        (["cancel", "-f", "'state=ready handler=ma"], ["state=ready handler=mail.send"]),
    ],
    ids=str,
)
def test_words_are_completed(stage: Stage, words: list[str], expected: list[str]) -> None:
    assert complete(words, data_dir(stage.coordinator.data_folder)) == expected


def test_sidecars_are_completed(stage: Stage) -> None:
    (name,) = complete(["sidecars", "drain", ""], data_dir(stage.coordinator.data_folder))
    assert (
        name
        in run(
            "coordinator", "sidecars", "-o", "id", data_dir(stage.coordinator.data_folder)
        ).stdout.split()
    )


def test_place_that_the_words_before_name_is_asked(stage: Stage, tmp_path: Path) -> None:
    words = ["policy", "show", "--data-dir", str(stage.coordinator.data_folder), "ma"]
    assert complete(words, data_dir(tmp_path)) == ["mail.send"]


def test_without_a_coordinator_nothing_is_said(tmp_path: Path) -> None:
    assert complete(["policy", "show", ""], data_dir(tmp_path)) == []
    wrong = {"PILLION_COORDINATOR_SESSION_TIMEOUT": "soon"}
    assert complete(["policy", "show", ""], wrong) == []
    assert complete(["tasks", "sta"], data_dir(tmp_path))[0] == "state=scheduled"


def test_coordinator_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "http.sock"))
        server.listen()
        assert complete(["policy", "show", ""], data_dir(tmp_path)) == []
        connection, _ = server.accept()  # It was asked, and it has given up.
        with connection:
            assert connection.recv(65536).startswith(b"GET /v1/handlers ")
            assert connection.recv(1) == b""


def test_handlers_of_a_sidecar_are_completed(stage: Stage, tmp_path: Path) -> None:
    place = {"PILLION_SIDECAR_SOCKET": str(stage.sidecar.socket_path)}
    assert complete(["submit", "mail"], place, "sidecar") == ["mail.send"]
    nowhere = {"PILLION_SIDECAR_SOCKET": str(tmp_path / "x.sock")}
    assert complete(["submit", "mail"], nowhere, "sidecar") == []


@pytest.mark.parametrize("program", ["coordinator", "sidecar"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_one_that_its_shell_takes(program: str, shell: str) -> None:
    done = run(program, "completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"_PILLION_{program.upper()}_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_bash_completes_with_the_script(stage: Stage, tmp_path: Path) -> None:
    script = run("coordinator", "completion", "bash").stdout
    command = tmp_path / "pillion-coordinator"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m coordinator "$@"\n')
    command.chmod(0o755)
    lines = [
        *(script, "COMP_WORDS=(pillion-coordinator policy show ma)", "COMP_CWORD=3"),
        *("_pillion_coordinator_completion pillion-coordinator", 'echo "${COMPREPLY[@]}"'),
    ]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        | data_dir(stage.coordinator.data_folder),
    )
    assert done.stdout.split() == ["mail.send"], done.stderr


def test_one_field_is_never_the_only_completion_without_a_value() -> None:
    assert terms([], "", lambda _: [])[:2] == ["id=", "handler="]
    assert terms([], "coll", lambda _: []) == ["collection=", "collection~"]
    assert terms([], "since=", lambda _: [])[0] == "since=10m"
    assert terms(["state!", "="], "dea", lambda _: []) == ["dead"]
    assert terms([], "colour=", lambda _: []) == []
