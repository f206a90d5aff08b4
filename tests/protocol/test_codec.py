import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits
from protocol import messages as m
from protocol.errors import Code, InvalidField, LimitExceeded, Malformed, ProtocolError
from tests.protocol import strategies
from tests.protocol.examples import MESSAGES

KINDS = sorted(strategies.MESSAGES, key=lambda kind: kind.__name__)
EXAMPLES = [codec.encode(message) for message in MESSAGES.values()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_decoding_what_was_encoded_gives_the_same_message(
    kind: type[m.Message], data: st.DataObject
) -> None:
    message = data.draw(strategies.MESSAGES[kind])
    decoded = codec.decode(codec.encode(message))
    assert decoded == message
    assert type(decoded) is kind


def test_every_message_has_a_strategy_and_an_example() -> None:
    everything = set(m.Message.__args__)
    assert set(strategies.MESSAGES) == everything
    assert {type(message) for message in MESSAGES.values()} == everything


@given(st.binary(max_size=2_000))
def test_garbage_raises_nothing_but_a_protocol_error(data: bytes) -> None:
    decode_or_refuse(data)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(strategies.plain)
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(strategies.plain), inner),
    ),
    st.integers(0, 60),
)
def test_well_formed_nonsense_raises_nothing_but_a_protocol_error(
    value: object, number: int
) -> None:
    decode_or_refuse(codec.pack(value))
    decode_or_refuse(codec.pack([number, value]))
    decode_or_refuse(codec.pack([number, *(value if isinstance(value, list) else [])]))


@given(st.sampled_from(EXAMPLES), st.data())
def test_mutated_messages_raise_nothing_but_a_protocol_error(
    example: bytes, data: st.DataObject
) -> None:
    mutated = bytearray(example)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(mutated))


@pytest.mark.parametrize("example", EXAMPLES, ids=list(MESSAGES))
def test_cut_or_lengthened_messages_are_refused(example: bytes) -> None:
    for size in range(len(example)):
        with pytest.raises(ProtocolError):
            codec.decode(example[:size])
    with pytest.raises(Malformed, match="ExtraData"):
        codec.decode(example + b"\xc0")


def decode_or_refuse(data: bytes) -> None:
    try:
        message = codec.decode(data)
    except ProtocolError as error:
        assert error.code in (Code.MALFORMED, Code.LIMIT_EXCEEDED, Code.UNKNOWN_MESSAGE)
        assert len(error.detail) < 400, "an error repeats little of what was wrong"
    else:
        assert codec.decode(codec.encode(message)) == message


LONG_LIST = b"\xdd\x00\x02\x49\xf0"  # Claims 150,000 items.
BOMBS = {
    "nested-claims": LONG_LIST * 1_000,
    "nested-claims-small": LONG_LIST * 100,
    "nested-claims-large": LONG_LIST * 800_000,
    "nested-claims-in-a-message": b"\x92\x03" + LONG_LIST * 200,
    "nested-maps": b"\x81\xa1k" * 2_000,
    "claims-4-billion-items": b"\xdd\xff\xff\xff\xff",
    "claims-4-billion-entries": b"\xdf\xff\xff\xff\xff",
    "claims-4-billion-bytes": b"\xc6\xff\xff\xff\xff",
    "claims-4-billion-characters": b"\xdb\xff\xff\xff\xff",
    "too-deep": b"\x91" * 5_000 + b"\x01",
    "deep-in-a-field": b"\x92\x03" + b"\x91" * 1_000 + b"\x01",
    "extension": b"\xc7\x04\x01abcd",
    "extension-empty": b"\xc7\x00\x01",
    "timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "invalid-text": b"\x92\x37\xa2\xff\xfe",
    "integer-keys": b"\x92\x25\x81\x01\x02",
    "unhashable-key": b"\x92\x25\x81\x90\x02",
    "never-used-byte": b"\xc1",
    "nothing": b"",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_cost_little_memory_and_raise_a_protocol_error(bomb: bytes) -> None:
    assert peak_bytes(bomb) < max(limits.MIB, 8 * len(bomb))


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_cost_little_time(bomb: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ProtocolError):
        codec.decode(bomb)
    assert time.process_time() - began < 0.2


TEXTS = b"\xdd\x00\x02\x00\x00" + b"\xa2ab" * 131_072
WORST = {
    "texts": b"\xdc\x00\x0a" + TEXTS * 10,
    "maps": b"\xdd" + (149_998).to_bytes(4, "big") + b"\x80" * 149_998,
    "large-maps": b"\xdc\xff\xff"
    + (b"\x8f" + b"".join(b"\xa1%c\x01" % i for i in range(15))) * 65_535,
}


@pytest.mark.parametrize("worst", WORST.values(), ids=WORST)
def test_worst_complete_message_costs_a_bounded_multiple_of_the_frame_limit(worst: bytes) -> None:
    assert len(worst) <= limits.FRAME_BYTES_MAX
    assert peak_bytes(worst) < 25 * limits.FRAME_BYTES_MAX


def peak_bytes(data: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            codec.decode(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_more_lists_and_maps_than_allowed_are_refused() -> None:
    def nested(count: int) -> bytes:
        inner: bytes = msgpack.packb([[]] * (count - 1))
        return inner

    assert codec.unpack(nested(limits.FRAME_ITEMS_MAX))
    with pytest.raises(LimitExceeded, match="150000 lists and maps"):
        codec.unpack(nested(limits.FRAME_ITEMS_MAX + 1))


def test_map_of_more_entries_than_allowed_is_refused() -> None:
    assert codec.unpack(msgpack.packb({str(i): 1 for i in range(limits.MAP_ITEMS_MAX)}))
    with pytest.raises(Malformed):
        codec.unpack(msgpack.packb({str(i): 1 for i in range(limits.MAP_ITEMS_MAX + 1)}))


def test_message_over_the_frame_limit_is_refused_by_both_sides() -> None:
    def submit(size: int) -> m.Submit:
        return m.Submit([m.Batch(1, bytes(size))])

    overhead = len(codec.encode(submit(100_000))) - 100_000
    largest = codec.encode(submit(limits.FRAME_BYTES_MAX - overhead))
    assert len(largest) == limits.FRAME_BYTES_MAX
    assert codec.decode(largest) == submit(limits.FRAME_BYTES_MAX - overhead)
    with pytest.raises(LimitExceeded, match="Submit of 4194305 bytes; the limit is 4194304"):
        codec.encode(submit(limits.FRAME_BYTES_MAX - overhead + 1))
    with pytest.raises(LimitExceeded, match="4194305 bytes; the limit is 4194304"):
        codec.decode(largest + b"\x00")


@pytest.mark.parametrize("value", [None, 5, {}, [], ["hello"], [True], [[1]]])
def test_what_does_not_begin_with_a_number_is_no_message(value: object) -> None:
    with pytest.raises(Malformed, match="a list that begins with its number"):
        codec.decode(codec.pack(value))


@pytest.mark.parametrize("number", [0, 5, 15, 21, 39, 58, -1, 2**64 - 1])
def test_unknown_message_is_refused_with_its_own_code(number: int) -> None:
    with pytest.raises(ProtocolError, match=f"no message has the number {number}") as caught:
        codec.decode(codec.pack([number]))
    assert caught.value.code == Code.UNKNOWN_MESSAGE


def test_wrong_number_of_fields_is_refused() -> None:
    with pytest.raises(InvalidField, match="Beat has 2 fields; expected 3"):
        codec.decode(codec.pack([19, 1, 2]))


def test_text_that_is_no_unicode_is_sent_without_what_cannot_be_sent() -> None:
    refused = m.Refused("busy", "a \ud800 lone surrogate", 0)
    assert codec.decode(codec.encode(refused)) == m.Refused("busy", "a ? lone surrogate", 0)


def test_own_bytes_are_unpacked_without_bounds() -> None:
    value = {str(i): [i, b"x", None] for i in range(limits.MAP_ITEMS_MAX + 1)}
    assert codec.unpack_own(codec.pack(value)) == value


def test_packer_gives_the_same_bytes_and_survives_what_it_cannot_pack() -> None:
    pack = codec.new_packer()
    value = [1, "two", b"three", None, {"four": 4}]
    with pytest.raises(TypeError):
        pack([value, object()])
    assert pack(value) == pack(value) == codec.pack(value)
