"""Messages to bytes and back: MessagePack arrays whose first element is the message's number.

Decoding checks every field and bounds what it allocates; whatever the bytes, it returns a message
or raises ``ProtocolError``.
"""

from collections.abc import Callable
from typing import Any

import msgpack

from protocol import fields as f
from protocol import limits
from protocol import messages as m
from protocol.errors import InvalidField, LimitExceeded, Malformed, ProtocolError

_SPECS: dict[int, tuple[type[Any], tuple[tuple[str, f.Check], ...]]] = {
    # Hop S, from the sidecar.
    1: (
        m.Hello,
        (
            ("version_min", f.integer),
            ("version_max", f.integer),
            ("sidecar", f.label),
            ("incarnation", f.id16),
            ("service", f.name),
            ("software", f.label),
            ("store", f.optional(f.id16)),
            ("epoch", f.integer),
            ("session", f.integer),
            ("held", f.leases),
        ),
    ),
    2: (m.Handlers, (("declarations", f.declarations),)),
    3: (m.Demand, (("limits", f.limits_),)),
    4: (
        m.Heartbeat,
        (("clock_ms", f.integer), ("limits", f.limits_), ("running", f.running)),
    ),
    # Hop S, from the coordinator.
    16: (
        m.Welcome,
        (
            ("version", f.integer),
            ("session", f.integer),
            ("resumed", f.boolean),
            ("epoch", f.integer),
            ("store", f.id16),
            ("timeout_ms", f.integer),
            ("lost", f.leases),
            ("software", f.label),
        ),
    ),
    17: (m.Grant, (("session", f.integer), ("number", f.integer), ("groups", f.groups))),
    18: (m.Recorded, (("number", f.integer), ("exceptions", f.unrecorded))),
    19: (
        m.Beat,
        (("session", f.integer), ("clock_ms", f.integer), ("grant_number", f.integer)),
    ),
    20: (m.Drain, (("session", f.integer), ("on", f.boolean), ("why", f.message))),
    # Hop L.
    32: (
        m.Attach,
        (
            ("version_min", f.integer),
            ("version_max", f.integer),
            ("service", f.name_or_empty),
            ("software", f.label),
            ("declarations", f.declarations),
            ("slots", f.limits_),
        ),
    ),
    33: (
        m.Attached,
        (("version", f.integer), ("sidecar", f.label), ("frame_bytes_max", f.integer)),
    ),
    34: (m.Tasks, (("groups", f.groups),)),
    35: (m.Recall, (("leases", f.leases),)),
    36: (m.Inspect, ()),
    37: (m.Inspected, (("facts", f.facts),)),
    38: (m.Validity, (("until_ms", f.integer),)),
    # Both hops.
    48: (m.Submit, (("batches", f.batches),)),
    49: (m.Accepted, (("verdicts", f.verdicts),)),
    50: (m.Outcomes, (("number", f.integer), ("outcomes", f.outcomes))),
    51: (m.Query, (("questions", f.questions),)),
    52: (m.Answer, (("replies", f.replies),)),
    53: (m.Revoke, (("revoked", f.revoked),)),
    54: (m.Refused, (("code", f.label), ("detail", f.text), ("retry_after_ms", f.integer))),
    55: (m.Goodbye, (("reason", f.label),)),
    56: (m.Progress, (("updates", f.updates),)),
    57: (m.Cancel, (("requests", f.cancellations),)),
}
_TRUSTED_BYTES_MAX = 512
"""So few bytes are not worth a walk: what they can claim stays under a megabyte."""

_NUMBERS: dict[type[Any], tuple[int, tuple[str, ...]]] = {
    kind: (number, tuple(name for name, _ in spec)) for number, (kind, spec) in _SPECS.items()
}


def encode(message: m.Message) -> bytes:
    """Return the bytes of a message.

    Raises:
        LimitExceeded: The message is over ``FRAME_BYTES_MAX``; the sender must split it.
    """
    number, names = _NUMBERS[type(message)]
    data = pack([number, *[getattr(message, name) for name in names]])
    if len(data) > limits.FRAME_BYTES_MAX:
        raise LimitExceeded(
            f"{type(message).__name__} of {len(data)} bytes; the limit is {limits.FRAME_BYTES_MAX}"
        )
    return data


def decode(data: bytes) -> m.Message:
    """Return the message in ``data``.

    Raises:
        ProtocolError: ``data`` is no message; says what was wrong with it.
    """
    raw = unpack(data)
    if type(raw) is not list or not raw or type(raw[0]) is not int:
        raise Malformed("a message is a list that begins with its number")
    entry = _SPECS.get(raw[0])
    if entry is None:
        raise UnknownMessage(raw[0])
    kind, spec = entry
    if len(raw) != len(spec) + 1:
        raise InvalidField(f"{kind.__name__} has {len(raw) - 1} fields; expected {len(spec)}")
    values = [check(name, value) for (name, check), value in zip(spec, raw[1:], strict=True)]
    message: m.Message = kind(*values)
    return message


class UnknownMessage(ProtocolError):
    """Raised when a message has a number that this version does not know."""

    code = "unknown_message"

    def __init__(self, number: int) -> None:
        super().__init__(f"no message has the number {number}")


def pack(value: Any) -> bytes:
    """Return plain values as MessagePack.

    Text that is no Unicode (a lone surrogate in an exception's message) loses what cannot be sent.
    """
    try:
        data: bytes = msgpack.packb(value)
    except UnicodeEncodeError:
        data = msgpack.packb(value, unicode_errors="replace")
    return data


def new_packer() -> Callable[[Any], bytes]:
    """Return a function that packs plain values, for one thread that packs very many."""
    pack_own: Callable[[Any], bytes] = msgpack.Packer().pack
    return pack_own


def unpack(data: bytes) -> Any:
    """Return the plain value in ``data``, with everything bounded.

    Raises:
        ProtocolError: Not MessagePack, too large, or with too many lists and maps in it.
    """
    if len(data) > limits.FRAME_BYTES_MAX:
        raise LimitExceeded(f"{len(data)} bytes; the limit is {limits.FRAME_BYTES_MAX}")
    left = limits.FRAME_ITEMS_MAX

    def count(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise LimitExceeded(f"more than {limits.FRAME_ITEMS_MAX} lists and maps")
        return value

    try:
        if len(data) > _TRUSTED_BYTES_MAX:
            _walk(data)
        return msgpack.unpackb(
            data,
            list_hook=count,
            object_hook=count,
            ext_hook=_refuse_ext,
            max_array_len=min(limits.FRAME_ITEMS_MAX, len(data)),
            max_map_len=limits.MAP_ITEMS_MAX,
            max_str_len=limits.FRAME_BYTES_MAX,
            max_bin_len=limits.FRAME_BYTES_MAX,
            max_ext_len=0,
        )
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises many types, see its documentation.
        raise Malformed(f"not MessagePack: {type(error).__name__}") from None


def _walk(data: bytes) -> None:
    """Pass over one value without making it; raises as msgpack does when it is not complete.

    A list is allocated at the length that it claims, before its items are seen: a few bytes of
    nested claims cost a gigabyte. After this walk every claim has its bytes.
    """
    unpacker = msgpack.Unpacker(read_size=len(data), max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def unpack_own(data: bytes) -> Any:
    """Return the plain value in bytes that this process wrote itself and whose checksum it checked.

    Faster than ``unpack``, and without its bounds: never for what a peer has sent.
    """
    return msgpack.unpackb(data)


def _refuse_ext(code: int, data: bytes) -> Any:
    raise Malformed(f"MessagePack extension type {code} is not used here")
