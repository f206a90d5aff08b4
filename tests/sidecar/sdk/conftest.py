"""Run asynchronous tests, each on asyncio's own loop and on uvloop: both are used by apps."""

import asyncio
import inspect
from pathlib import Path

import pytest
import uvloop

from tests.sidecar.sdk.peer import Peer

_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def loop_kind(request: pytest.FixtureRequest) -> str:
    """The name of the event loop a test runs on."""
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", sorted(_LOOPS), indirect=True)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    kind = str(pyfuncitem.callspec.params["loop_kind"])
    with asyncio.Runner(loop_factory=_LOOPS[kind]) as runner:
        runner.run(test(**arguments))
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the sidecar's socket is."""
    return tmp_path / "sidecar.sock"


@pytest.fixture
def peer(path: Path) -> Peer:
    """A scripted sidecar, not started."""
    return Peer(path)
