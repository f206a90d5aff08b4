"""The model of a disk that loses its power: what it may lose, and what it must keep."""

import random
from pathlib import PurePosixPath

import pytest

from tests.crash_images.disk import SECTOR, Disk, File
from tests.crash_images.log import DSYNC, Event, Kind
from tests.crash_images.recording import Step

ROOT = PurePosixPath("/store")
FILE = PurePosixPath("a")
TIMES = 300


def a_disk(*events: Event) -> Disk:
    disk = Disk(ROOT)
    disk.apply(Step(Event(Kind.CREATE, 0, 1, 0, b"/store/a"), False))
    for event in events:
        disk.apply(Step(event, False))
        if event.kind in (Kind.SYNC, Kind.SYNC_FOLDER) or event.flags & DSYNC:
            disk.apply(Step(event, True))
    return disk


def wrote(offset: int, data: bytes, flags: int = 0) -> Event:
    return Event(Kind.WRITE, flags, 1, offset, data)


SYNC = Event(Kind.SYNC, 0, 1, 0, b"")
SYNC_FOLDER = Event(Kind.SYNC_FOLDER, 0, 99, 0, b"")


def left_by(disk: Disk) -> set[bytes | None]:
    """Return all that many power cuts leave of the file."""
    left: set[bytes | None] = set()
    for seed in range(TIMES):
        data = disk.image(random.Random(seed)).get(FILE)
        left.add(None if data is None else bytes(data))
    return left


def sector(letter: bytes) -> bytes:
    return letter * SECTOR


def test_what_was_flushed_with_its_name_is_left_in_every_case() -> None:
    disk = a_disk(wrote(0, b"hello"), SYNC, SYNC_FOLDER)
    assert left_by(disk) == {b"hello"}


def test_flush_of_a_file_does_not_keep_its_name() -> None:
    assert left_by(a_disk(wrote(0, b"hello"), SYNC)) == {None, b"hello"}


def test_unflushed_sectors_arrive_in_any_order_and_version() -> None:
    first, second = sector(b"a") + sector(b"b"), sector(b"c") + sector(b"d")
    disk = a_disk(SYNC_FOLDER, wrote(0, first), SYNC, wrote(0, second), wrote(0, sector(b"e")))

    left = left_by(disk)

    assert {(d[:1] + d[-1:]) for d in left if d} == {b"ab", b"cb", b"eb", b"ad", b"cd", b"ed"}


def test_write_through_keeps_its_own_sectors_only() -> None:
    disk = a_disk(
        SYNC_FOLDER,
        wrote(0, sector(b"a") * 2),
        SYNC,
        wrote(0, sector(b"b")),
        wrote(SECTOR + 10, b"meta", DSYNC),
    )

    left = left_by(disk)

    assert {d[:1] for d in left if d} == {b"a", b"b"}
    assert all(d is not None and d[SECTOR + 10 : SECTOR + 14] == b"meta" for d in left)


def test_file_may_have_grown_before_its_bytes_arrived() -> None:
    left = left_by(a_disk(SYNC_FOLDER, wrote(0, sector(b"a"))))
    assert {b"", bytes(SECTOR), sector(b"a")} <= left


def test_rename_is_there_or_not() -> None:
    rename = Event(Kind.RENAME, 0, 0, 0, b"/store/a\0/store/b")
    disk = a_disk(wrote(0, b"hello"), SYNC, SYNC_FOLDER, rename)

    images = [disk.image(random.Random(seed)) for seed in range(TIMES)]

    assert {tuple(str(path) for path in image) for image in images} == {("a",), ("b",)}


def test_cut_file_keeps_nothing_beyond_its_size() -> None:
    file = File()
    file.write(0, sector(b"a") * 3)
    file.flush()

    file.resize(700)
    file.flush()

    assert bytes(file.durable) == (sector(b"a") * 2)[:700]


def test_file_that_is_written_through_a_map_is_refused() -> None:
    with pytest.raises(AssertionError, match="through a map"):
        a_disk(Event(Kind.MAPPED, 0, 1, 0, b""))
