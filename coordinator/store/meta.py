"""The store's own record: which store it is, in which format, and who owns it now.

    8 bytes    magic "PILLION" and a zero byte
    2 bytes    format version
    16 bytes   uuid
    8 bytes    epoch
    8 bytes    wall-clock time of creation, milliseconds
    4 bytes    CRC-32 of all that precedes

Integers are big-endian. Magic and format never move, so that each build can say which format it
met. To change anything in a store: raise ``FORMAT``, keep reading the old form, add an old store to
the tests.
"""

import struct
import zlib
from dataclasses import dataclass

from coordinator.errors import Corrupt, Refused
from coordinator.store.base import FORMAT

META_KEY = b"\0pillion"
_MAGIC = b"PILLION\0"
_HEAD = struct.Struct(">8sH")
_BODY = struct.Struct(">8sH16sQQ")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Meta:
    """What the store says about itself."""

    uuid: bytes
    epoch: int
    created_ms: int

    def encode(self) -> bytes:
        """Return the record's bytes."""
        body = _BODY.pack(_MAGIC, FORMAT, self.uuid, self.epoch, self.created_ms)
        return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes, where: str) -> Meta:
    """Return the record in ``data``; ``where`` names the store in errors.

    Raises:
        Refused: The store has a format that this build does not read.
        Corrupt: The record is damaged.
    """
    damaged = Corrupt(
        f"{where}: the store's own record is damaged; restore the store from a backup"
    )
    if len(data) < _HEAD.size:
        raise damaged
    magic, version = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise damaged
    if version != FORMAT:
        raise Refused(
            f"{where}: the store has format {version}, this build reads format {FORMAT}; start "
            "the Pillion version that wrote it and let its tasks end, then move the store away, or "
            "set data_dir to a new folder, and start this one"
        )
    if len(data) != _BODY.size + _CRC.size or data[-4:] != _CRC.pack(zlib.crc32(data[:-4])):
        raise damaged
    _, _, uuid, epoch, created_ms = _BODY.unpack_from(data)
    return Meta(uuid, epoch, created_ms)
