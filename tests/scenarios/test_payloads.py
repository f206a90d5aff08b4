"""Payloads and results of every size travel whole, or are refused with a word."""

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from protocol.limits import PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX
from sidecar import Client
from sidecar.sdk.errors import Rejected, TaskDead
from sidecar.sdk.new_task import NewTask
from sidecar.sdk.task import BlockingTask
from tests.scenarios.stage import command, wait_for_services
from tests.support.processes import Sidecar, System

SERVICE = """
from zlib import crc32
from sidecar import Service

service = Service("work")

@service.handler()
async def check(payload: bytes) -> list[int]:
    return [len(payload), crc32(payload)]

@service.handler()
async def make(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))

service.run()
"""
SIZES = {"inline": 1_024, "apart": 1_025, "100KB": 100_000, "1MiB": PAYLOAD_BYTES_MAX}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """A sidecar whose service and coordinator are there."""
    with System() as system:
        started = system.sidecar("work", system.coordinator())
        system.service("work", started, SERVICE)
        with Client(started.socket_path) as client:
            wait_for_services(started, client)
        yield started


def some_bytes(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_payload_reaches_its_handler_whole_also_over_a_restart(system: System, size: int) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("work", coordinator)
    payload = some_bytes(size)
    with Client(sidecar.socket_path) as client:
        task = client.submit("work.check", payload)
        coordinator.restart()

        system.service("work", sidecar, SERVICE)

        assert task.result(timeout=20) == [size, crc32(payload)]


def test_many_large_payloads_at_once_all_pass(sidecar: Sidecar) -> None:
    """Together they are over every limit of one message and of what may be in flight."""
    payloads = [some_bytes(PAYLOAD_BYTES_MAX - n) for n in range(24)]
    with Client(sidecar.socket_path) as client:
        taken = client.submit_many(NewTask(handler="work.check", payload=p) for p in payloads)
        tasks = [task for task in taken if isinstance(task, BlockingTask)]

        results = [task.result(timeout=30) for task in tasks]

    assert results == [[len(p), crc32(p)] for p in payloads]


def test_payload_over_the_limit_is_rejected_and_harms_none_beside_it(
    sidecar: Sidecar,
) -> None:
    too_large = some_bytes(PAYLOAD_BYTES_MAX + 1)
    with Client(sidecar.socket_path) as client:
        first, second, third = client.submit_many(
            NewTask(handler="work.check", payload=p) for p in (b"one", too_large, b"three")
        )

        assert isinstance(second, Rejected)
        assert second.code == "payload_too_large"
        assert isinstance(first, BlockingTask) and first.result(timeout=20) == [3, crc32(b"one")]
        assert isinstance(third, BlockingTask) and third.result(timeout=20) == [5, crc32(b"three")]


def test_command_reads_payloads_from_files_and_refuses_what_is_too_large(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    file = tmp_path / "payload"
    file.write_bytes(some_bytes(PAYLOAD_BYTES_MAX))
    done = command(sidecar, "submit", "work.check", f"@{file}", "--wait", "--timeout", "20s")
    assert (done.code, done.out.splitlines()[1:]) == (
        0,
        [f"[{PAYLOAD_BYTES_MAX}, {crc32(file.read_bytes())}]"],
    )

    file.write_bytes(some_bytes(PAYLOAD_BYTES_MAX + 1))
    done = command(sidecar, "submit", "work.check", f"@{file}")
    assert (done.code, done.out) == (2, "")
    assert "[payload_too_large]" in done.err


def test_result_up_to_its_limit_comes_back_and_a_larger_one_is_fatal(
    sidecar: Sidecar,
) -> None:
    with Client(sidecar.socket_path) as client:
        largest = client.submit("work.make", {"size": RESULT_BYTES_MAX})
        too_large = client.submit("work.make", {"size": RESULT_BYTES_MAX + 1})

        assert largest.result(timeout=20) == bytes(i % 251 for i in range(RESULT_BYTES_MAX))
        with pytest.raises(TaskDead, match="InvalidResult"):
            too_large.result(timeout=20)
