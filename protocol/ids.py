"""Task ids: 128 bits in the UUIDv7 layout (RFC 9562, section 5.7), made by the submitter.

Ids made by one process only grow, even within one millisecond and when its clock steps back, so
that a store ordered by id receives them at its end.
"""

import hashlib
import os
import re
import time

from protocol.errors import InvalidId

_RANDOM_BITS = 74
_CLOCKS_APART_MS = 3_600_000
"""By how much the clock of a submitter may be ahead."""
_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0b10 << 62
_RANDOM_B = (1 << 62) - 1
_TEXT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class TaskIds:
    """A source of growing task ids; not shared between threads without a lock.

    Within one millisecond the random part grows by a random step, as RFC 9562 section 6.2,
    method 2, describes: ids stay unguessable and ordered.
    """

    def __init__(self) -> None:
        self._ms = 0
        self._random = 0

    def new(self) -> bytes:
        """Return the next id, 16 bytes."""
        return self.batch(1)[0]

    def batch(self, count: int) -> list[bytes]:
        """Return ``count`` growing ids, reading clock and randomness once for all of them."""
        ms = time.time_ns() // 1_000_000
        noise = os.urandom(9 + 4 * count)
        if ms > self._ms:
            self._ms = ms
            self._random = int.from_bytes(noise[:9], "big") >> 1  # Headroom for the steps.
        ids = []
        for i in range(count):
            start = 9 + 4 * i
            self._random += 1 + int.from_bytes(noise[start : start + 4], "big")
            if self._random >> _RANDOM_BITS:
                self._ms += 1
                self._random = int.from_bytes(noise[:9], "big") >> 1
            r = self._random
            value = self._ms << 80 | _VERSION_7 | (r >> 62) << 64 | _VARIANT_RFC | r & _RANDOM_B
            ids.append(value.to_bytes(16, "big"))
        return ids


def keyed_id(handler: str, key: str) -> bytes:
    """Return the id of the task of a handler that its submitter gave this idempotency key.

    The same two always give the same id: so a task submitted again under its key is found to be
    there already. The time in it is 0, which no id that is made by ``TaskIds`` has.
    """
    digest = hashlib.sha256(f"{handler}\0{key}".encode(errors="surrogatepass")).digest()
    r = int.from_bytes(digest, "big") >> (256 - _RANDOM_BITS)
    value = _VERSION_7 | (r >> 62) << 64 | _VARIANT_RFC | r & _RANDOM_B
    return value.to_bytes(16, "big")


def is_id(value: object) -> bool:
    """Tell whether ``value`` is 16 bytes with the version and variant bits of a UUIDv7."""
    return type(value) is bytes and len(value) == 16 and value[6] >> 4 == 7 and value[8] >> 6 == 2


def id_ms(task_id: bytes) -> int:
    """Return the submitter's wall clock inside an id, in milliseconds since 1970."""
    return int.from_bytes(task_id[:6], "big")


def why_unknown(task_id: bytes, now_ms: int) -> str:
    """Return what can be said of an id under which no task is found.

    How long tasks are kept after their end is not known to everybody who asks: so only for ids of
    the future it is sure that there was none.
    """
    made_ms, text = id_ms(task_id), to_text(task_id)
    if not made_ms:
        when = "its id is made of a key and does not tell when"
    elif made_ms > now_ms + _CLOCKS_APART_MS:
        return f"no task has the id {text}: it never existed, its id is of a time still to come"
    else:
        seconds = max(0, now_ms - made_ms) // 1000
        hours, minutes = seconds // 3600, seconds // 60 % 60
        age = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
        when = f"its id was made {age} ago"
    return (
        f"no task has the id {text}: it never existed, or it has ended and its time is over; {when}"
    )


def to_text(task_id: bytes) -> str:
    """Return the usual text form, ``018f2b4c-...`` (36 characters)."""
    h = task_id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def from_text(text: str) -> bytes:
    """Return the 16 bytes of an id given as text.

    Raises:
        InvalidId: The text is no UUID in its usual form, or not of version 7.
    """
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        raise InvalidId(text)
    value = bytes.fromhex(text.replace("-", ""))
    if not is_id(value):
        raise InvalidId(text)
    return value
