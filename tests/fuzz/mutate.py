"""Make frames that are nearly right from frames that are.

Half of the changes are made to the bytes: bits, slices, lengths that lie, bombs. The other half is
made to the values, which are packed again: what arrives is well-formed, and wrong further in.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

INTEGERS = (
    *(-(2**63), -(2**31), -1, 0, 1, 2, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32),
    *(2**53, 2**55, 2**58, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
OTHERS: tuple[Any, ...] = (
    *(None, True, False, 1.5, float("nan"), float("inf"), "", "x", "a.b", "x" * 65, "x" * 5_000),
    *("\x1b[31m\n", "\u202e", b"", b"x", bytes(16), bytes(range(16)), b"x" * 300, [], [[]], {}),
    *({"a": 1}, {"": None}, {1: 2}, [1, 2, 3], [[1, 2]] * 3),
)
HEADS = bytes((0x90, 0x9F, 0x80, 0x8F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0x00, 0x7F, 0xFF))
"""First bytes of MessagePack values of every kind."""
LYING_HEADS = (
    *(b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x10\x00\x00", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff"),
    *(b"\xde\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xdb\xff\xff\xff\xff"),
    *(b"\xc9\xff\xff\xff\xff\x01", b"\xc5\xff\xff", b"\xda\xff\xff", b"\xd9\xff", b"\xc4\xff"),
)
CALM_SHARE = 0.1
"""Frames that stay as they are, so that the receiver's state moves on."""
VALUES_SHARE = 0.58
INTEGERS_SHARE = 0.5
BOMB_SHARE = 0.004
HUGE_SHARE = 0.0002
SPARE_PLACES = 4096


class Template:
    """A frame that is right, as bytes and as values."""

    __slots__ = ("data", "integers", "places", "plain")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.plain = msgpack.unpackb(data, strict_map_key=False)
        self.places: list[tuple[Any, Any]] = []
        """Container and index (or key) of every value in it."""
        self._collect(self.plain)
        self.integers = [
            place
            for place in self.places
            if type(place[0][place[1]]) is int and place[0] is not self.plain
        ]

    def _collect(self, value: Any) -> None:
        if len(self.places) > SPARE_PLACES:
            return
        if isinstance(value, list):
            for i, item in enumerate(value):
                self.places.append((value, i))
                self._collect(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.places.append((value, key))
                self._collect(item)


class Mutator:
    """A source of frames.

    Args:
        rng: Decides everything.
        templates: What the frames are made from; may be replaced at any time.
    """

    def __init__(self, rng: random.Random, templates: Sequence[Template]) -> None:
        self.templates = templates
        self._rng = rng
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._byte_changes = (
            self._flip,
            self._flip,
            self._overwrite,
            self._cut,
            self._splice,
            self._insert,
            self._remove,
            self._repeat,
            self._lie,
        )

    def next(self) -> bytes:
        """Return the next frame."""
        rng = self._rng
        chance = rng.random()
        template = self._one_of(self.templates)
        if chance < CALM_SHARE:
            calm: bytes = template.data
            return calm
        if chance < CALM_SHARE + VALUES_SHARE:
            return self._change_values(template)
        if chance < CALM_SHARE + VALUES_SHARE + BOMB_SHARE:
            return self._bomb(template.data)
        data = bytearray(template.data)
        for _ in range(1 + int(rng.random() * 3)):
            data = self._one_of(self._byte_changes)(data)
        return bytes(data)

    def _one_of(self, items: Sequence[Any]) -> Any:
        return items[int(self._rng.random() * len(items))]

    def _place(self, data: bytearray) -> int:
        return int(self._rng.random() * len(data))

    # Bytes

    def _flip(self, data: bytearray) -> bytearray:
        if data:
            data[self._place(data)] ^= 1 << int(self._rng.random() * 8)
        return data

    def _overwrite(self, data: bytearray) -> bytearray:
        if data:
            data[self._place(data)] = self._one_of(HEADS)
        return data

    def _cut(self, data: bytearray) -> bytearray:
        del data[self._place(data) :]
        return data

    def _splice(self, data: bytearray) -> bytearray:
        other: bytes = self._one_of(self.templates).data
        return data[: self._place(data)] + other[int(self._rng.random() * len(other)) :]

    def _insert(self, data: bytearray) -> bytearray:
        place = self._place(data)
        data[place:place] = self._rng.randbytes(1 + int(self._rng.random() * 8))
        return data

    def _remove(self, data: bytearray) -> bytearray:
        place = self._place(data)
        del data[place : place + 1 + int(self._rng.random() * 8)]
        return data

    def _repeat(self, data: bytearray) -> bytearray:
        place = self._place(data)
        part = data[place : place + 1 + int(self._rng.random() * 40)]
        data[place:place] = part * (1 + int(self._rng.random() * 20))
        return data

    def _lie(self, data: bytearray) -> bytearray:
        place = self._place(data)
        lie = self._one_of(LYING_HEADS)
        data[place : place + (len(lie) if self._rng.random() < 0.5 else 1)] = lie
        return data

    def _bomb(self, data: bytes) -> bytes:
        rng = self._rng
        count = int(10 ** (1 + 3 * rng.random()))
        if rng.random() < HUGE_SHARE / BOMB_SHARE:
            count *= 400
        head = self._one_of(
            (b"\x91", b"\x81\xa1a", b"\x9f", b"\xdc\xff\xff", b"\xdd\x00\x01\x00\x00", b"\x92\x90")
        )
        kind = int(rng.random() * 4)
        if kind == 0:
            return bytes(head * count)  # Deep, and without an end.
        if kind == 1:
            return bytes(b"\x91" * count + b"\x90")
        if kind == 2:
            return bytes(data[:1] + b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count)
        return bytes(data + head * count)

    # Values

    def _change_values(self, template: Template) -> bytes:
        # Integers are where a well-formed message is wrong in the most ways.
        places = (self._rng.random() < INTEGERS_SHARE and template.integers) or template.places
        changed = []
        for _ in range(1 if self._rng.random() < 0.7 else 3):
            if not places:
                break
            container, key = self._one_of(places)
            if isinstance(container, list) and key >= len(container):
                continue
            changed.append((container, key, container[key]))
            container[key] = self._other(container[key])
        number = template.plain
        if self._rng.random() < 0.05 and isinstance(number, list) and number:
            changed.append((number, 0, number[0]))
            number[0] = self._one_of(self.templates).plain[0]
        try:
            return self._pack(template.plain)
        except (OverflowError, ValueError):  # An integer that MessagePack does not have, too deep.
            return template.data
        finally:
            for container, key, value in reversed(changed):
                container[key] = value

    def _other(self, value: Any) -> Any:  # noqa: PLR0911 (one per kind of change)
        rng = self._rng
        chance = rng.random()
        if type(value) is int and chance < 0.7:
            if chance < 0.2:
                return value + (1 if chance < 0.1 else -1)
            return self._one_of(INTEGERS)
        if type(value) is list and value and chance < 0.6:
            if chance < 0.2:
                return value * (2 + int(rng.random() * 30))
            if chance < 0.35:
                return value[:-1]
            return [*value, self._one_of(value)]
        if isinstance(value, bytes | str) and value and chance < 0.3:
            return value[: int(rng.random() * len(value))]
        if chance < 0.45:
            return self._one_of(INTEGERS)
        if chance < 0.6:
            container, key = self._one_of(self._one_of(self.templates).places or [([None], 0)])
            return container[key] if not isinstance(container, list) or key < len(container) else 0
        return self._one_of(OTHERS)
