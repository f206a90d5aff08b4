"""The commands of the README work as printed, in its order."""

import json
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT, Process
from tests.support.processes import System
from tests.support.programs import Program, need, place

TEXT = (ROOT / "README.md").read_text()
FIRST_SCREEN_LINES = 30
CURL = "curl --unix-socket"


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block(start: str) -> str:
    """Return the one block that begins so."""
    (found,) = (x for x in blocks(TEXT) if x.startswith(start))
    return found


@pytest.fixture
def environment(system: System) -> dict[str, str | None]:
    """What differs from a reader's machine: where things are, and a port that is free."""
    places = system.folder / "bin"
    places.mkdir()
    for name, module in (("coordinator", "-m coordinator"), ("sidecar", "-m sidecar")):
        place(places / f"pillion-{name}", module)
    place(places / "python", "")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    return {
        "PATH": f"{places}:/usr/bin:/bin",
        "PILLION_COORDINATOR_BIND": address,
        "PILLION_COORDINATOR_HTTP_BIND": "127.0.0.1:0",
        "PILLION_COORDINATOR_ALLOW_FILESYSTEM": "true",  # A container's own layer will do.
        "PILLION_SIDECAR_COORDINATOR": address,
    }


@pytest.fixture
def reader(system: System, environment: dict[str, str | None]) -> "Reader":
    return Reader(system, environment)


class Reader:
    """Somebody who pastes the blocks of the README, one after the other."""

    def __init__(self, system: System, environment: dict[str, str | None]) -> None:
        self._system = system
        self._environment = environment

    def paste(self, text: str) -> Process:
        """Run a block; what it exports holds for the next ones."""
        placed = text.replace("/tmp/", f"{self._system.folder}/")
        for name, value in re.findall(r"(PILLION_\w+)=(\S+)", placed):
            self._environment[name] = value
        lines = [f"cd {shlex.quote(str(ROOT))}", placed, "wait"]
        name = f"block-{len(self._system.processes)}"
        command = ["bash", "-e", "-c", "\n".join(lines)]
        folder = self._system.folder
        return self._system.add(Program(name, command, folder, environment=self._environment))


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_first_screen_shows_how_to_submit() -> None:
    first_screen = "".join(TEXT.splitlines(keepends=True)[:FIRST_SCREEN_LINES])

    assert any(x.startswith(CURL) for x in blocks(first_screen))


def test_commands_work_as_printed(system: System, reader: Reader) -> None:
    need("curl", 7, 82)
    at_the_top, waiting = (x for x in blocks(TEXT) if x.startswith(CURL))

    daemons = reader.paste(block("export PATH="))
    daemons.wait_until(lambda: accepts(system.folder / "email.sock"), "serves")
    daemons.wait_until(lambda: "session_opened" in daemons.output(), "has met its coordinator")

    assert answer(reader.paste(at_the_top))["durability"] == "accepted"
    assert answer(reader.paste(waiting))["result"].strip() == '{"sent_to": "a@b.c"}'

    hello = reader.paste(block("export PILLION_SIDECAR_SOCKET=/tmp/hello.sock"))
    hello.wait_until(lambda: "Hello, world!" in hello.output(), "greets")


def answer(block: Process) -> Any:
    """Return what curl printed first, without its talk of how fast it was."""
    assert block.wait() == 0, block.failure("failed")
    (first, *_) = re.findall(r"\{.*\}", block.output())
    return json.loads(first)
