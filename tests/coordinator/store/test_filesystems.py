"""Where the type of a folder's filesystem is read from."""

from pathlib import Path

from coordinator.store.filesystems import filesystem_type


def test_this_machine_knows_what_proc_is() -> None:
    assert filesystem_type(Path("/proc")) == "proc"
