"""The protocol versions this build speaks.

To change a message: raise ``VERSION_MAX``, keep decoding the old form, add golden bytes under
``tests/protocol/golden/`` (existing bytes are never edited), and edit ``docs/protocol.md``.
"""

VERSION_MIN = 1
VERSION_MAX = 1
SOFTWARE = "0.1.0"

LOCAL_MAGIC = b"PLN\x01"
"""First four bytes on ``sidecar.sock`` of a native connection."""


def negotiate(peer_min: int, peer_max: int) -> int | None:
    """Return the highest version both sides speak, or None when there is none."""
    version = min(peer_max, VERSION_MAX)
    return version if version >= max(peer_min, VERSION_MIN) else None
