"""An operator's shell: the two commands on the path, and names of places as the page has them."""

import os
import re
import subprocess
from pathlib import Path

from tests.support.process import ROOT
from tests.support.programs import place

SECONDS = 60.0
_DATA_FOLDER = "/var/lib/pillion"


class Shell:
    """Where commands are run.

    Args:
        folder: A folder for what it needs.
        environment: What its commands find.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._data_folder = environment["PILLION_COORDINATOR_DATA_DIR"]
        places = folder / "bin"
        places.mkdir(exist_ok=True)
        for package in ("coordinator", "sidecar"):
            place(places / f"pillion-{package}", f"-m {package}")
        self._environment = {
            "PATH": f"{places}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "USER": "ada",
            "COLUMNS": "200",
            **environment,
        }

    def run(self, command: str) -> str:
        """Run a command as the page has it; return what it wrote, and how it failed."""
        placed = command.replace("/backups/", f"{self._folder}/")
        placed = placed.replace(_DATA_FOLDER, self._data_folder)
        done = subprocess.run(
            ["bash", "-c", placed],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.replace(self._data_folder, _DATA_FOLDER)
        said = said.replace(f"{self._folder}/", "/backups/")
        said = re.sub(r"tcp://127\.0\.0\.1:\d+", "tcp://127.0.0.1:7711", said)
        return said + (f"(exit code {done.returncode})\n" if done.returncode else "")
