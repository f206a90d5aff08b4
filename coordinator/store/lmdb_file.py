"""How long an LMDB 0.9 file must be, by its own meta pages, without mapping it.

A page of the map that lies beyond the end of the file is a SIGBUS when it is touched, not an error.
"""

import struct
from pathlib import Path

_MAGIC = 0xBEEFC0DE
_META = struct.Struct("=16x I I 16x I 92x Q Q")
"""Behind the page's header: magic, version, (address, size), page size, (the rest of the roots),
last page, transaction."""


def bytes_missing(path: Path) -> int:
    """Return by how many bytes a file is shorter than its last commit has left it.

    A few pages may be missing at the end of a sound file: pages that a transaction took and gave
    back are free, and were never written. 0 also if this is no LMDB file, which is LMDB's to say.
    """
    with path.open("rb") as file:
        first = _META.unpack(file.read(_META.size).ljust(_META.size, b"\0"))
        page_bytes: int = first[2]
        file.seek(page_bytes)
        second = _META.unpack(file.read(_META.size).ljust(_META.size, b"\0"))
    metas = [meta for meta in (first, second) if meta[0] == _MAGIC]
    if not metas:
        return 0
    last_page: int = max(metas, key=lambda meta: meta[4])[3]
    return max(0, (last_page + 1) * page_bytes - path.stat().st_size)
