"""The native protocol of ``sidecar.sock``: bytes in, messages out, no I/O.

A connection begins with the four bytes of ``LOCAL_MAGIC`` from the side that connected. Then both
sides send frames:

    +----------------+------------------------------+
    | length, 4 bytes| message, MessagePack          |
    | big-endian     | (protocol.codec), length bytes|
    +----------------+------------------------------+
"""

from protocol import codec, limits
from protocol.errors import LimitExceeded, Malformed
from protocol.messages import Message
from protocol.version import LOCAL_MAGIC

HEADER_BYTES = 4


def frame(message: Message) -> bytes:
    """Return a message as one frame."""
    data = codec.encode(message)
    return len(data).to_bytes(HEADER_BYTES, "big") + data


class Reader:
    """Collects received bytes and gives the messages that are complete.

    Args:
        expect_magic: True at the side that was connected to.
    """

    def __init__(self, *, expect_magic: bool) -> None:
        self._buffer = bytearray()
        self._magic_due = expect_magic

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """Take received bytes; return the messages they complete, in order.

        Raises:
            ProtocolError: The peer broke the protocol; the connection is of no further use.
        """
        buffer = self._buffer
        buffer += data
        position = 0
        if self._magic_due:
            if not LOCAL_MAGIC.startswith(bytes(buffer[:HEADER_BYTES])):
                raise Malformed("the connection does not begin with the native magic")
            if len(buffer) < len(LOCAL_MAGIC):
                return []
            self._magic_due = False
            position = len(LOCAL_MAGIC)
        messages: list[Message] = []
        while len(buffer) - position >= HEADER_BYTES:
            size = int.from_bytes(buffer[position : position + HEADER_BYTES], "big")
            if size > limits.FRAME_BYTES_MAX:
                raise LimitExceeded(
                    f"a frame of {size} bytes; the limit is {limits.FRAME_BYTES_MAX}"
                )
            end = position + HEADER_BYTES + size
            if len(buffer) < end:
                break
            messages.append(codec.decode(bytes(buffer[position + HEADER_BYTES : end])))
            position = end
        del buffer[:position]
        return messages
