"""Which filesystem holds a folder, and which may hold a store."""

import pytest

from protocol.filesystems import is_forgetful, type_in, why_refused

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw shared:2 - proc proc rw
24 22 0:22 / /srv/data rw,relatime shared:3 master:1 - nfs4 host:/x rw,vers=4.2
25 22 0:23 / /srv/with\\040space rw - fuse.sshfs host: rw
26 22 0:24 / /srv/twice rw - tmpfs tmpfs rw
27 26 8:2 / /srv/twice rw - xfs /dev/sdb rw
a broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/srv/data", "nfs4"),
        ("/srv/data/store", "nfs4"),
        ("/srv/database", "ext4"),
        ("/srv/with space/x", "fuse.sshfs"),
        ("/srv/twice/x", "xfs"),
    ],
)
def test_deepest_and_latest_mount_decides(path: str, kind: str) -> None:
    assert type_in(MOUNTINFO, path) == kind


def test_unknown_type_is_empty_and_not_refused() -> None:
    assert type_in("", "/srv") == ""
    assert why_refused("") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "overlay"])
def test_filesystem_that_cannot_keep_a_store_is_refused_with_the_reason(kind: str) -> None:
    assert kind in why_refused(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs"])
def test_local_filesystem_may_hold_a_store(kind: str) -> None:
    assert why_refused(kind) == ""


def test_only_filesystems_in_memory_forget() -> None:
    assert is_forgetful("tmpfs")
    assert not is_forgetful("ext4")
