"""The programs in ``docs/sdk.md`` run against real processes, and its names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sidecar
from sidecar.sdk import errors
from tests.support.processes import System

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "sdk.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))


def test_programs_run_as_the_document_says(system: System) -> None:
    for name, source in PROGRAMS.items():
        (system.folder / name).write_text(source)
    beside = system.sidecar("files", system.coordinator())
    system.service("files", beside, PROGRAMS["service.py"])
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PILLION_SIDECAR_SOCKET": str(beside.socket_path),
    }

    told = {
        name: subprocess.run(
            [sys.executable, str(system.folder / name)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        for name in ("app.py", "script.py")
    }

    assert [t.returncode for t in told.values()] == [0, 0], told
    lines = told["app.py"].stdout.splitlines()
    assert lines[0].endswith("hello: ann@example.org")
    assert lines[1:] == ["done: bob", "Fatal: no such disk", "1000 accepted"]
    first, *verdicts = told["script.py"].stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f]{64} 2", first)
    assert verdicts[0] == "accepted"
    assert verdicts[1].endswith("[invalid_handler]")


def test_long_attempt_of_the_document_runs(system: System) -> None:
    beside = system.sidecar("pages", system.coordinator())
    system.service("pages", beside, PROGRAMS["pages.py"])
    with sidecar.Client(beside.socket_path) as client:
        assert client.submit("pages.count", {"pages": 3}).result(timeout=30) == 3


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_explained(name: str) -> None:
    if name not in ("PillionError", "NoContext"):
        assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_drawn_in_the_tree(name: str) -> None:
    assert re.search(rf"^ +{name}\b", errors.__doc__ or "", re.MULTILINE)


def test_every_public_name_is_exported_once() -> None:
    assert sorted(set(sidecar.__all__)) == sorted(sidecar.__all__)
    assert all(hasattr(sidecar, name) for name in sidecar.__all__)


def test_importing_the_sdk_loads_no_library_that_apps_do_not_need() -> None:
    banned = ["zmq", "lmdb", "click", "structlog", "uvloop"]
    program = f"import sidecar, sys; assert not [m for m in {banned} if m in sys.modules]"

    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert found.returncode == 0
