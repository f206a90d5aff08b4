"""Programs in other languages: run one, and skip a test where this machine cannot.

A test asks when it begins, not when it is collected, so that nothing is started for tests that do
not run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.support.process import ROOT, Process

RUN_SECONDS_MAX = 30
_VERSION = re.compile(r"(\d+)\.(\d+)")


def need(program: str, major: int, minor: int = 0) -> None:
    """Skip the test if a program is not installed, or is older than this."""
    found = version(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    if found < (major, minor):
        pytest.skip(f"{program} is {found[0]}.{found[1]}; the example needs {major}.{minor}")


@cache
def version(program: str) -> tuple[int, int] | None:
    """Return a program's version; None if it is not installed, or tells none."""
    if shutil.which(program) is None:
        return None
    told = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )
    found = _VERSION.search(told.stdout)
    return None if told.returncode or found is None else (int(found[1]), int(found[2]))


class Program(Process):
    """A program of any language that goes on running."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        environment: dict[str, str | None] | None = None,
    ) -> None:
        super().__init__(name, (), folder, environment=environment)
        self.command = list(command)


def place(path: Path, arguments: str) -> None:
    """Make a command that is this Python with some arguments."""
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
    path.chmod(0o755)


def run(
    *command: str, socket: Path, stdin: str = "", expect: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Run a program that submits from the project's folder; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PILLION_")}
    ended = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, "PILLION_SIDECAR_SOCKET": str(socket)},
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert ended.returncode == expect, f"{command}: {ended.returncode}\n{ended.stderr}"
    return ended
