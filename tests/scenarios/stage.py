"""What scenarios need around their processes: clients, the command, and conditions to wait for."""

from pathlib import Path

from sidecar import Client
from tests.support import commands
from tests.support.commands import Done
from tests.support.process import ROOT, Process
from tests.support.processes import Sidecar

COMMAND_SECONDS = 30.0


def command(sidecar: Sidecar | Path, *arguments: str, stdin: str = "") -> Done:
    """Run ``pillion-sidecar`` against a sidecar, or the path of its socket."""
    path = sidecar if isinstance(sidecar, Path) else sidecar.socket_path
    return commands.run(
        "sidecar",
        *(*arguments, "--socket", path),
        stdin=stdin,
        environment={"PYTHONPATH": str(ROOT), "PATH": ""},
        folder=path.parent,
        seconds=COMMAND_SECONDS,
    )


def wait_for_facts(sidecar: Sidecar, client: Client, what: str, **least: int) -> None:
    """Wait until the sidecar says of itself that each of these numbers is at least so high."""

    def reached() -> bool:
        facts = client.inspect()
        return all(int(facts[name]) >= number for name, number in least.items())

    sidecar.wait_until(reached, what)


def wait_for_services(sidecar: Sidecar, client: Client, count: int = 1) -> None:
    """Wait until so many services are attached and the coordinator is there."""

    def reached() -> bool:
        facts = client.inspect()
        return facts["services"] == count and facts["link"] == "open"

    sidecar.wait_until(reached, f"has {count} services and a session")


def lines(path: Path) -> list[str]:
    """Return the complete lines that handlers have appended to a file."""
    return path.read_text().splitlines() if path.exists() else []


def wait_for_lines(process: Process, path: Path, count: int) -> list[str]:
    """Wait until a file has at least so many lines, which a process brings about."""
    process.wait_until(lambda: len(lines(path)) >= count, f"has written {count} lines")
    return lines(path)
