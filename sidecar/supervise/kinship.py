"""What the system tells of processes: whose child one is, and how much memory it uses."""

import os
from collections.abc import Container
from pathlib import Path

GENERATIONS_MAX = 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def leader_of(pid: int, leaders: Container[int]) -> int:
    """Return which of ``leaders`` a process belongs to, or 0.

    It belongs to one whose group or session it is in, or whose descendant it is. A process that is
    gone, or lives in a namespace that cannot be seen, belongs to none.
    """
    for _ in range(GENERATIONS_MAX):
        if pid <= 1:
            break
        try:
            for candidate in (pid, os.getpgid(pid), os.getsid(pid)):
                if candidate in leaders:
                    return candidate
            pid = _parent_of(pid)
        except (OSError, ValueError, IndexError):
            break
    return 0


def _parent_of(pid: int) -> int:
    # The name, in parentheses, may hold anything; the state and the parent follow it.
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def memory_bytes(pid: int) -> int:
    """Return how much memory a process has resident; 0 if that cannot be told."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
