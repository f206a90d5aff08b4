"""Which filesystems keep a store: what both processes ask before they trust a folder.

Filesystems across a network break the locks and the shared memory map that LMDB stands on; an
overlay is thrown away with its container; one that lives in memory forgets at a restart. Nothing is
read here: the caller brings the text of ``/proc/self/mountinfo``.
"""

import re
from collections.abc import Iterator

OVERLAY = "overlay"
_REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"}
    | {"prl_fs", "vboxsf", "virtiofs", "vmhgfs"}  # Folders that a virtual machine's host shares.
)
_FORGETFUL = frozenset({"tmpfs", "ramfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


def type_in(mountinfo: str, path: str) -> str:
    """Return the type of the deepest, and of those the latest, mount that holds ``path``.

    Args:
        mountinfo: The text of ``/proc/self/mountinfo``.
        path: Absolute, without links.
    """
    best = ("", "")
    for point, kind in _mounts(mountinfo):
        if f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _mounts(mountinfo: str) -> Iterator[tuple[str, str]]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 4 and kinds[0]:
            yield _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4]), kinds[0]


def why_refused(kind: str) -> str:
    """Return why a store may not lie on a type of filesystem, or an empty text if it may."""
    if kind in _REMOTE:
        return f"{kind} is shared or remote: its locks and memory maps do not protect a store"
    if kind.startswith("fuse"):
        return f"{kind} runs in a user process that may not keep what was flushed"
    if kind == OVERLAY:
        return f"{kind} is a container's own layer, which is thrown away with the container"
    return ""


def is_forgetful(kind: str) -> bool:
    """Say whether a type of filesystem loses everything when the machine restarts."""
    return kind in _FORGETFUL
