"""Messages on ZeroMQ: one message is one frame, and nothing else travels beside it.

At the coordinator's ROUTER the frame stands behind the routing id that ZeroMQ adds:

    ROUTER   [ routing id | message ]
    DEALER              [ message ]

A message of any other number of frames breaks the protocol: a limit on the size of one frame
says nothing about a message of many.
"""

from collections.abc import Sequence

from protocol import codec
from protocol.errors import Malformed
from protocol.messages import Message


def from_dealer(parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the routing id and the message's bytes of what a ROUTER received.

    Raises:
        Malformed: Not exactly one frame stands behind the routing id.
    """
    if len(parts) != 2:
        raise Malformed(f"a message of {len(parts) - 1} frames; expected 1")
    return parts[0], parts[1]


def to_dealer(peer: bytes, message: Message) -> tuple[bytes, bytes]:
    """Return the frames that send a message through a ROUTER.

    Raises:
        LimitExceeded: The message is too large for one frame.
    """
    return peer, codec.encode(message)
