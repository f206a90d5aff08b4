"""The two programs as commands that end by themselves, and what came of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.process import ROOT

SECONDS = 60.0


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """The JSON that it wrote."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of JSON that it wrote."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(
    package: str,
    *arguments: object,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    seconds: float = SECONDS,
) -> Done:
    """Run the command of a package to its end.

    Args:
        package: ``coordinator`` or ``sidecar``.
        arguments: What stands behind its name.
        stdin: What it reads.
        environment: All that it finds; by default what the test has.
        folder: Where it runs.
        seconds: How long it may take.
    """
    done = subprocess.run(
        [sys.executable, "-m", package, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=folder,
        env=os.environ if environment is None else environment,
    )
    return Done(done.returncode, done.stdout, done.stderr)
