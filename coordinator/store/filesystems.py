"""Which filesystem a folder lies on; ``protocol.filesystems`` tells what that means for a store."""

from pathlib import Path

from protocol.filesystems import type_in

_MOUNTINFO = Path("/proc/self/mountinfo")


def filesystem_type(path: Path) -> str:
    """Return the type of the filesystem that holds a folder, such as ``ext4``; empty if unknown."""
    try:
        text = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return type_in(text, str(path.resolve()))
