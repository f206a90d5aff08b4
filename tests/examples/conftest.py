"""Examples as they are run: a coordinator, and a sidecar that starts the program."""

from collections.abc import Callable, Iterator

import pytest

from sidecar import Client
from tests.support.process import ROOT
from tests.support.processes import Sidecar, System

Serve = Callable[..., Sidecar]
Connect = Callable[[Sidecar], Client]


@pytest.fixture
def serve(system: System) -> Serve:
    """Start the sidecar of a service; what is named ``examples/...`` is found wherever it runs."""

    def start(service: str, *options: str) -> Sidecar:
        placed = [option.replace("examples/", f"{ROOT}/examples/") for option in options]
        return system.sidecar(service, system.coordinator(), *placed)

    return start


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make a client of a sidecar, which is closed after the test."""
    clients: list[Client] = []

    def make(sidecar: Sidecar) -> Client:
        clients.append(Client(str(sidecar.socket_path)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def echo(serve: Serve) -> Sidecar:
    """A service that is a command: its handler ``echo.say`` answers with the payload."""
    return serve("echo", "--exec", "say=cat")
