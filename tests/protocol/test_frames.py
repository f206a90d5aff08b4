import pytest

from protocol import codec, frames, limits
from protocol import messages as m
from protocol.errors import LimitExceeded, Malformed


def test_router_receives_the_routing_id_and_one_frame() -> None:
    data = codec.encode(m.Goodbye("stopping"))
    assert frames.from_dealer([b"peer", data]) == (b"peer", data)


@pytest.mark.parametrize("parts", [[], [b"peer"], [b"peer", b"", b""], [b"peer"] + [b""] * 99])
def test_any_other_number_of_frames_breaks_the_protocol(parts: list[bytes]) -> None:
    with pytest.raises(Malformed, match=rf"a message of {len(parts) - 1} frames; expected 1"):
        frames.from_dealer(parts)


def test_message_for_a_peer_is_its_routing_id_and_one_frame() -> None:
    message = m.Refused("busy", "", 500)
    assert frames.to_dealer(b"peer", message) == (b"peer", codec.encode(message))


def test_message_too_large_for_one_frame_is_not_sent() -> None:
    with pytest.raises(LimitExceeded):
        frames.to_dealer(b"peer", m.Submit([m.Batch(1, bytes(limits.FRAME_BYTES_MAX))]))
