"""What ``docs/http.md`` prints runs as printed, and its tables are those of the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.http import api, connection, reader
from sidecar.http.batch import LINES_MAX
from sidecar.http.events import COMMENT_MS
from sidecar.http.options import READERS
from sidecar.http.problems import STATUS
from tests.support.process import ROOT
from tests.support.processes import Sidecar, System
from tests.support.programs import need

TEXT = (ROOT / "docs" / "http.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAM = re.findall(r"```python\n# submit\.py\n(.*?)```", TEXT, re.DOTALL)[0]

SERVICE = """
from sidecar import Service

service = Service("email")

@service.handler()
def send(to: str) -> str:
    return to

service.run()
"""


def run(sidecar: Sidecar, *command: str) -> str:
    environment = {**os.environ, "PILLION_SIDECAR_SOCKET": str(sidecar.socket_path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_commands_work_as_printed(system: System) -> None:
    need("curl", 7, 82)
    sidecar = system.sidecar("email", system.coordinator())

    single, options, batch = (run(sidecar, "sh", "-c", command) for command in COMMANDS)

    assert json.loads(single)["durability"] in ("accepted", "spooled")
    assert json.loads(options)["state"] == "scheduled"
    good, bad = (json.loads(line) for line in batch.splitlines())
    assert good["handler"] == "email.send"
    assert (bad["line"], bad["code"]) == (2, "malformed")


def test_program_works_as_printed(system: System) -> None:
    sidecar = system.sidecar("email", system.coordinator())
    system.service("mailer", sidecar, SERVICE)
    script = Path(system.folder) / "submit.py"
    script.write_text(PROGRAM)

    assert run(sidecar, sys.executable, str(script)) == "200 succeeded\n"


@pytest.mark.parametrize("route", api.routes(), ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_table(route: Any) -> None:
    assert f"`{route.method} {route.path}`" in TEXT


@pytest.mark.parametrize("name", READERS)
def test_every_option_is_in_the_table(name: str) -> None:
    assert re.search(rf"`{name}=", TEXT)


def test_every_header_is_in_the_table() -> None:
    headers = {p["name"] for p in api.SUBMIT["parameters"] if p["in"] == "header"}
    assert [name for name in headers if f"`{name}" not in TEXT] == []


@pytest.mark.parametrize("code", STATUS)
def test_every_status_is_in_the_table(code: str) -> None:
    if STATUS[code] not in (403, 410):  # They are a handler's.
        assert re.search(rf"^\| .*{STATUS[code]}\b", TEXT, re.MULTILINE)


def test_limits_are_those_of_the_code() -> None:
    for limit in (
        f"{reader.HEAD_BYTES_MAX // 1024} KiB",
        f"{connection.REQUEST_SECONDS:g} s",
        f"{connection.IDLE_SECONDS:g} s idle",
        f"{connection.PIPELINED_MAX} are worked on",
        f"{LINES_MAX:,} lines",
        f"{COMMENT_MS // 1000} s",
    ):
        assert limit in TEXT
