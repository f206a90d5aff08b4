import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits, local
from protocol import messages as m
from protocol.errors import Code, LimitExceeded, Malformed, ProtocolError
from protocol.version import LOCAL_MAGIC
from tests.protocol import strategies
from tests.protocol.examples import MESSAGES

STREAM = b"".join(local.frame(message) for message in MESSAGES.values())


def test_frame_is_the_length_in_four_bytes_and_the_message() -> None:
    assert local.frame(m.Inspect()) == b"\x00\x00\x00\x02" + codec.encode(m.Inspect())


def test_byte_at_a_time_gives_the_same_messages_as_all_at_once() -> None:
    reader = local.Reader(expect_magic=True)
    slowly = []
    for byte in LOCAL_MAGIC + STREAM:
        slowly += reader.feed(bytes([byte]))
    at_once = local.Reader(expect_magic=True).feed(LOCAL_MAGIC + STREAM)
    assert slowly == at_once == list(MESSAGES.values())
    assert reader.buffered_bytes == 0


@given(st.lists(strategies.messages, max_size=5), st.data())
def test_any_division_into_chunks_gives_the_same_messages(
    messages: list[m.Message], data: st.DataObject
) -> None:
    stream = LOCAL_MAGIC + b"".join(local.frame(message) for message in messages)
    reader = local.Reader(expect_magic=True)
    received = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == messages


@given(st.binary(max_size=500), st.booleans())
def test_garbage_raises_nothing_but_a_protocol_error(data: bytes, expect_magic: bool) -> None:
    with contextlib.suppress(ProtocolError):
        local.Reader(expect_magic=expect_magic).feed(data)


@given(st.integers(0, len(STREAM) - 1), st.integers(0, 255))
def test_stream_with_one_wrong_byte_raises_nothing_but_a_protocol_error(
    place: int, byte: int
) -> None:
    stream = bytearray(STREAM)
    stream[place] = byte
    reader = local.Reader(expect_magic=False)
    with contextlib.suppress(ProtocolError):
        reader.feed(bytes(stream))


def test_incomplete_message_waits_for_its_rest() -> None:
    reader = local.Reader(expect_magic=False)
    whole = local.frame(m.Goodbye("stopping"))
    assert reader.feed(whole[:-1]) == []
    assert reader.buffered_bytes == len(whole) - 1
    assert reader.feed(whole[-1:] + whole[:2]) == [m.Goodbye("stopping")]
    assert reader.buffered_bytes == 2


@pytest.mark.parametrize("begin", [b"GET ", b"G", b"PLN\x02", b"PLM", b"\x00\x00\x00\x02"])
def test_connection_without_the_magic_is_refused_at_its_first_wrong_byte(begin: bytes) -> None:
    with pytest.raises(Malformed, match="does not begin with the native magic"):
        local.Reader(expect_magic=True).feed(begin)


def test_magic_is_expected_once_and_only_from_the_side_that_connected() -> None:
    reader = local.Reader(expect_magic=True)
    assert reader.feed(LOCAL_MAGIC) == []
    with pytest.raises(LimitExceeded):
        reader.feed(LOCAL_MAGIC)
    with pytest.raises(LimitExceeded):
        local.Reader(expect_magic=False).feed(LOCAL_MAGIC)


def test_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    reader = local.Reader(expect_magic=False)
    assert reader.feed(limits.FRAME_BYTES_MAX.to_bytes(4, "big")) == []
    with pytest.raises(LimitExceeded, match="a frame of 4194305 bytes") as caught:
        local.Reader(expect_magic=False).feed((limits.FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    assert caught.value.code == Code.LIMIT_EXCEEDED


def test_empty_frame_is_refused() -> None:
    with pytest.raises(Malformed):
        local.Reader(expect_magic=False).feed(bytes(4))
