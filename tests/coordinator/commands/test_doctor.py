"""The doctor finds what is wrong and names a fix; a healthy place gets a clean bill."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from protocol.findings import BAD, OK, WARNING
from tests.support.process import ROOT
from tests.support.processes import System

SECONDS = 60.0


def ask(folder: Path, *options: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Return the exit code and the findings by what was looked at."""
    place = ["--data-dir", str(folder), "--allow-filesystem"]
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "doctor", "-o", "json", *place, *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(done.stdout):
        found.setdefault(row["check"], []).append(row)
    return done.returncode, found


def test_running_coordinator_gets_a_clean_bill(system: System) -> None:
    coordinator = system.coordinator()

    code, found = ask(coordinator.data_folder)

    levels = {check: [row["level"] for row in rows] for check, rows in found.items()}
    assert code == 0
    for check in ("versions", "data_dir", "map", "descriptors", "socket", "coordinator", "clock"):
        assert levels[check] == [OK], found[check]
    assert not list(coordinator.data_folder.glob("pillion.doctor"))


def test_folder_that_others_may_read_and_a_missing_coordinator_are_warnings(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)

    code, found = ask(tmp_path)

    assert code == 0
    assert [row["level"] for row in found["data_dir"]] == [WARNING]
    assert found["data_dir"][0]["fix"] == "chmod 700 it"
    assert [row["level"] for row in found["coordinator"]] == [WARNING]


def test_store_that_is_cut_short_is_bad_and_so_is_a_full_disk(system: System) -> None:
    coordinator = system.coordinator()
    assert coordinator.terminate() == 0
    os.truncate(coordinator.data_folder / "data.mdb", 4096)

    code, found = ask(coordinator.data_folder, "--disk-free-min", "60TiB")

    assert code == 1
    assert [row["level"] for row in found["store"]] == [BAD]
    assert [row["level"] for row in found["disk"]] == [BAD]
    assert all(row["fix"] for rows in found.values() for row in rows if row["level"] != OK)


def test_token_that_others_may_read_is_told(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123\n")
    token.chmod(0o644)

    _, found = ask(tmp_path, "--http-token-file", str(token))

    assert [row["level"] for row in found["token"]] == [WARNING]
