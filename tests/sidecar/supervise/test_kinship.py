"""Whose child a process is, told of real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sidecar.supervise.kinship import leader_of, memory_bytes

SOURCE = """
import os, subprocess, sys
new_session = sys.argv[1] == "session"
child = subprocess.Popen(["sleep", "1000"], start_new_session=new_session)
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


@pytest.fixture(params=["group", "session"])
def family(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A leader and its child, which is in the same group or in a session of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None
        yield leader.pid, int(leader.stdout.readline())
        leader.communicate(timeout=10)


def test_process_and_its_child_belong_to_it(family: tuple[int, int]) -> None:
    leader, child = family
    assert leader_of(leader, {leader}) == leader
    assert leader_of(child, {leader}) == leader


def test_others_belong_to_nobody(family: tuple[int, int]) -> None:
    leader, _ = family
    assert leader_of(os.getpid(), {leader}) == 0
    assert leader_of(1, {leader}) == 0
    assert leader_of(0, {leader}) == 0


def test_process_that_is_gone_belongs_to_nobody() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(10)
    assert leader_of(gone.pid, {os.getpid()}) == 0
    assert memory_bytes(gone.pid) == 0


def test_memory_is_what_is_resident() -> None:
    before = memory_bytes(os.getpid())
    block = bytearray(os.urandom(1)) * (64 * 2**20)
    grown = memory_bytes(os.getpid()) - before
    assert len(block) * 0.9 < grown < len(block) * 1.5
