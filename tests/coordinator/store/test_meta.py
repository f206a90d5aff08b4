import pytest

from coordinator.errors import Corrupt, Refused
from coordinator.store.meta import Meta, decode

META = Meta(uuid=bytes(range(16)), epoch=7, created_ms=1_700_000_000_000)


def test_record_comes_back_as_it_was() -> None:
    assert decode(META.encode(), "x") == META


def test_bytes_of_this_format_stay_readable() -> None:
    golden = bytes.fromhex(
        "50494c4c494f4e000002000102030405060708090a0b0c0d0e0f"
        "00000000000000070000018bcfe568003f5d3152"
    )

    assert decode(golden, "x") == META


def test_any_flipped_bit_is_noticed() -> None:
    data = META.encode()
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8

        with pytest.raises((Corrupt, Refused)):
            decode(bytes(flipped), "x")


@pytest.mark.parametrize("length", [0, 5, 10, 45])
def test_short_record_is_damage(length: int) -> None:
    with pytest.raises(Corrupt, match="x: the store's own record is damaged; restore"):
        decode(META.encode()[:length], "x")


def test_other_format_is_refused_with_both_numbers() -> None:
    later = META.encode()[:8] + b"\0\3" + b"what a later format may look like"

    with pytest.raises(Refused, match="format 3, this build reads format 2; start the Pillion"):
        decode(later, "x")


def test_store_of_format_1_is_refused_and_told_what_to_do() -> None:
    former = bytes.fromhex(
        "50494c4c494f4e000001000102030405060708090a0b0c0d0e0f"
        "00000000000000070000018bcfe56800644a8047"
    )

    with pytest.raises(Refused, match=r"format 1, this build reads format 2; .* let its tasks end"):
        decode(former, "x")
