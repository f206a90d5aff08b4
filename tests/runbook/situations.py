"""The situations of the runbook, each made of real processes, by the titles of its sections."""

from collections.abc import Callable

from sidecar import Busy, Client, NewTask, PillionError
from tests.runbook.shell import Shell
from tests.scenarios.stage import wait_for_services
from tests.support.processes import Coordinator, Sidecar, System

TIMEOUT = "2s"
SMALL, LARGE = "16MiB", "64MiB"
SERVICE = """
import asyncio, os, sys
from sidecar import Fatal, Service

service = Service(sys.argv[1])

@service.handler(concurrency=4)
async def send(to: str) -> None:
    if os.path.exists("broken"):
        raise Fatal(f"no such template for {to}")

@service.handler(concurrency=1)
async def scale(name: str) -> None:
    await asyncio.sleep(60)

service.run()
"""


class Stage:
    """What runs, the shell beside it, and what the shell cannot do in a test."""

    def __init__(self, system: System, *options: str, timeout: str = TIMEOUT) -> None:
        self.system = system
        self.coordinator: Coordinator = system.coordinator("--session-timeout", timeout, *options)
        self.shell = Shell(
            system.folder,
            {
                "PILLION_COORDINATOR_DATA_DIR": str(self.coordinator.data_folder),
                "PILLION_COORDINATOR_ALLOW_FILESYSTEM": "true",  # A container's layer will do.
            },
        )
        self.by_hand: dict[str, Callable[[], object]] = {
            "systemctl stop pillion-coordinator": self.coordinator.terminate,
            "systemctl start pillion-coordinator": self.coordinator.start,
        }
        """What commands of the machine stand for."""
        self.awaits: dict[int, str] = {}
        """By the number of a step, a pattern: its command is run until its answer has that."""

    def serve(self, service: str, name: str = "") -> Sidecar:
        """Start a sidecar, named as its host, and its service."""
        named = ("--name", f"{name or 'host-1'}.{service}")
        sidecar = self.system.sidecar(service, self.coordinator, *named, name=name or None)
        self.system.service(f"{sidecar.name}-service", sidecar, SERVICE, service)
        with Client(sidecar.socket_path) as client:
            wait_for_services(sidecar, client)
        return sidecar


def submit(sidecar: Sidecar, *tasks: NewTask) -> list[str]:
    """Submit tasks; return their ids."""
    with Client(sidecar.socket_path) as client:
        verdicts = client.submit_many(tasks)
        failed = [verdict for verdict in verdicts if isinstance(verdict, PillionError)]
        assert not failed, failed
        return [verdict.id for verdict in verdicts if not isinstance(verdict, PillionError)]


Situation = Callable[[System], Stage]


def tasks_pile_up(system: System) -> Stage:
    """One slot for what takes a minute, and a handler that nobody serves."""
    stage = Stage(system)
    sidecar = stage.serve("image")
    submit(sidecar, *[NewTask(handler="image.scale", payload={"name": "a.png"})] * 40)
    submit(sidecar, *[NewTask(handler="report.render")] * 5)
    stage.awaits[0] = " 1 leased"
    return stage


def a_handler_fails(system: System) -> Stage:
    """Every task of a handler fails for the same reason, until the service is mended."""
    stage = Stage(system)
    broken = system.folder / "broken"
    broken.touch()
    sidecar = stage.serve("mail")
    submit(
        sidecar,
        *[NewTask(handler="mail.send", payload={"to": f"{n}@b.c"}) for n in range(20)],
    )
    stage.by_hand["systemctl restart mail"] = broken.unlink
    stage.awaits[0] = " 20 "
    return stage


def a_sidecar_is_gone(system: System) -> Stage:
    """Two sidecars serve a handler, and the host of one is lost."""
    stage = Stage(system, timeout="6s")
    first, second = stage.serve("image", "host-1"), stage.serve("image", "host-2")
    submit(first, *[NewTask(handler="image.scale", payload={"name": "a.png"})] * 2)
    running = "pillion-coordinator tasks state=running -o id"
    second.wait_until(lambda: len(stage.shell.run(running).split()) == 2, "both run a task")
    first.kill()
    stage.awaits |= {0: "silent", 2: "lost"}
    return stage


def the_disk_fills(system: System) -> Stage:
    """The store has reached what it may hold."""
    stage = Stage(system, "--store-map-size", SMALL)
    sidecar = system.sidecar("image", stage.coordinator)
    parcel = NewTask(handler="image.scale", payload=b"x" * 2**16)
    with Client(sidecar.socket_path, timeout="1s") as client:
        while not [x for x in client.submit_many([parcel] * 16) if isinstance(x, Busy)]:
            pass

    def raise_and_start() -> None:
        stage.coordinator.options += ["--store-map-size", LARGE]
        stage.coordinator.start()

    stage.by_hand["systemctl start pillion-coordinator"] = raise_and_start
    stage.awaits[4] = "1 ready"
    return stage


def restore(system: System) -> Stage:
    """A store with a backup."""
    stage = Stage(system)
    sidecar = stage.serve("mail")
    submit(sidecar, *[NewTask(handler="mail.send", payload={"to": "a@b.c"}, delay="1d")] * 100)
    stage.awaits[4] = "1 ready"
    return stage


def upgrade(system: System) -> Stage:
    """Two sidecars of a service, one of which is to be exchanged."""
    stage = Stage(system)
    first, _ = stage.serve("mail", "host-1"), stage.serve("mail", "host-2")
    stage.by_hand["systemctl restart pillion-sidecar@mail"] = first.exchange
    stage.by_hand["pip install --upgrade pillion"] = lambda: None
    stage.awaits |= {4: "2 ready", 8: r"(?s)mail\.send.*mail\.send"}
    return stage


SITUATIONS: dict[str, Situation] = {
    "Tasks pile up": tasks_pile_up,
    "A handler fails": a_handler_fails,
    "A sidecar is gone": a_sidecar_is_gone,
    "The disk fills": the_disk_fills,
    "Restore": restore,
    "Upgrade": upgrade,
}
