"""Ways to break durability on purpose: the instrument must see each of them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import lmdb

from coordinator.core.effects import Read
from coordinator.store import directory
from coordinator.store.base import Result, Writes
from coordinator.store.directory import StoreDirectory
from tests.crash_images.shell import Shell


def no_flush_of_the_meta_page() -> None:
    """Let LMDB leave the last page of a commit unflushed: the last acknowledged commit is lost."""
    _open_with(metasync=False)


def no_flush_at_all() -> None:
    """Let LMDB never flush: what is left is in no order."""
    _open_with(sync=False)


def _open_with(**options: Any) -> None:
    setattr(lmdb, "open", functools.partial(lmdb.open, **options))  # noqa: B010 (a patch)


def acknowledge_first() -> None:
    """Answer before the commit."""

    async def apply(self: Shell, writes: Writes, reads: Sequence[Read]) -> Sequence[Result]:
        if writes and self.witness is not None:
            self.witness.begins(writes)
            self.witness.done()
        return await self.store.apply(writes, reads)

    Shell.apply = apply  # type: ignore[method-assign]


def no_flush_of_names() -> None:
    """Never flush a folder: the store's file may have no name after a power cut."""
    setattr(directory, "sync_directory", lambda _: None)  # noqa: B010 (a patch)


def make_the_store_in_its_place() -> None:
    """Write the first pages of a new store where they can be found before they are whole."""
    setattr(StoreDirectory, "begin_new", lambda self: self.path)  # noqa: B010
    setattr(StoreDirectory, "finish_new", lambda self: None)  # noqa: B010


KINDS: dict[str, Callable[[], None]] = {
    sabotage.__name__.replace("_", "-"): sabotage
    for sabotage in (
        no_flush_of_the_meta_page,
        no_flush_at_all,
        acknowledge_first,
        no_flush_of_names,
        make_the_store_in_its_place,
    )
}
