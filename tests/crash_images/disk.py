"""A disk that may lose its power: what is certainly on it, and what may be.

The model is as unkind as a disk and a filesystem may be by POSIX:

- A file is sectors of 512 bytes. What was written since the last flush may be there or not, sector
  by sector, in any order, and of a sector that was written twice either version.
- A flush of a file makes its bytes and its size durable, and nothing else: not its name. A write
  through an O_DSYNC descriptor makes those bytes durable, and nothing that was written before.
- Names are durable after a flush of their folder. Before it a part of the changes of one folder is
  there, in the order in which they were made; folders do not wait for each other.
- A file may have grown before its bytes arrived: it then holds zeros, or what lay there before.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from tests.crash_images.log import Event, Kind
from tests.crash_images.recorder import MAP
from tests.crash_images.recording import Step

SECTOR = 512
_ZEROS = bytes(SECTOR)


class Change(NamedTuple):
    """One sector as one write left it; not durable yet."""

    sector: int
    data: bytes


@dataclass(eq=False)
class File:
    """One file, whatever its name."""

    live: bytearray = field(default_factory=bytearray)
    """What a reader sees while the power is on."""
    durable: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Sizes since the last flush."""

    def write(self, offset: int, data: bytes) -> None:
        """Write; nothing of it is durable."""
        live, end = self.live, offset + len(data)
        if end > len(live):
            live.extend(bytes(end - len(live)))
            self.sizes.append(end)
        live[offset:end] = data
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            self.changes.append(Change(sector, self._sector(sector)))

    def _sector(self, sector: int) -> bytes:
        return bytes(self.live[sector * SECTOR : (sector + 1) * SECTOR]).ljust(SECTOR, b"\0")

    def resize(self, size: int) -> None:
        """Cut short, or extend with zeros."""
        kept = min(size, len(self.live))
        for sector in range(kept // SECTOR, -(-len(self.live) // SECTOR)):
            self.changes.append(Change(sector, _ZEROS))
        del self.live[size:]
        self.live.extend(bytes(size - len(self.live)))
        if kept % SECTOR:
            self.changes.append(Change(kept // SECTOR, self._sector(kept // SECTOR)))
        self.sizes.append(size)

    def flush(self) -> None:
        """Make everything durable."""
        self._keep(self.changes)
        size = len(self.live)
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))
        self.changes = []
        self.sizes = []

    def flush_range(self, offset: int, size: int) -> None:
        """Make the sectors of one write durable, with as much of the size as they need."""
        first, last = offset // SECTOR, (offset + size - 1) // SECTOR
        kept = [change for change in self.changes if first <= change.sector <= last]
        self.changes = [change for change in self.changes if not first <= change.sector <= last]
        end = max(len(self.durable), min(offset + size, len(self.live)))
        self._keep(kept)
        self.durable.extend(bytes(max(0, end - len(self.durable))))
        del self.durable[end:]

    def _keep(self, changes: list[Change]) -> None:
        durable = self.durable
        for sector, data in changes:
            start = sector * SECTOR
            if len(durable) < start + SECTOR:
                durable.extend(bytes(start + SECTOR - len(durable)))
            durable[start : start + SECTOR] = data


class Entry(NamedTuple):
    """A change of one name in a folder: a new meaning, or None."""

    name: str
    node: "Node | None"


@dataclass(eq=False)
class Folder:
    """One folder."""

    live: "dict[str, Node]" = field(default_factory=dict)
    durable: "dict[str, Node]" = field(default_factory=dict)
    changes: list[list[Entry]] = field(default_factory=list)
    """Each is made as a whole: a rename has two entries."""

    def change(self, *entries: Entry) -> None:
        """Change names; not durable."""
        _rename(self.live, entries)
        self.changes.append(list(entries))

    def flush(self) -> None:
        """Make the names durable."""
        self.durable = dict(self.live)
        self.changes = []


Node = File | Folder


def _rename(names: "dict[str, Node]", entries: "list[Entry] | tuple[Entry, ...]") -> None:
    for name, node in entries:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """The folder that was watched, at one moment of its log."""

    def __init__(self, root: PurePosixPath) -> None:
        self._top = root
        self.root = Folder()
        self._nodes: dict[int, Node] = {}

    def apply(self, step: Step) -> None:
        """Let one step happen."""
        if step.flush:
            self._flush(step.event)
        else:
            self._change(step.event)

    def _change(self, event: Event) -> None:
        match event.kind:
            case Kind.CREATE:
                file = self._nodes[event.inode] = File()
                folder, name = self._place(event.data)
                folder.change(Entry(name, file))
            case Kind.MAKE_FOLDER:
                made = self._nodes[event.inode] = Folder()
                folder, name = self._place(event.data)
                folder.change(Entry(name, made))
            case Kind.WRITE:
                self._file(event).write(event.offset, event.data)
            case Kind.TRUNCATE:
                self._file(event).resize(event.offset)
            case Kind.RENAME:
                before, after = event.data.split(b"\0")
                folder, name = self._place(before)
                other, new_name = self._place(after)
                node = folder.live[name]
                if other is folder:
                    folder.change(Entry(name, None), Entry(new_name, node))
                else:
                    other.change(Entry(new_name, node))
                    folder.change(Entry(name, None))
            case Kind.UNLINK:
                folder, name = self._place(event.data)
                folder.change(Entry(name, None))
            case Kind.MAPPED:
                names = [n for n, _ in self._names(self.root) if n.name == MAP]
                maps = [self._find(name) for name in names]
                assert self._nodes[event.inode] in maps, "a file is written through a map"
            case _:
                pass

    def _flush(self, event: Event) -> None:
        if event.kind is Kind.SYNC:
            self._file(event).flush()
        elif event.kind is Kind.WRITE:
            self._file(event).flush_range(event.offset, len(event.data))
        else:
            folder = self._nodes.get(event.inode, self.root)  # The root was there before the log.
            assert isinstance(folder, Folder)
            folder.flush()

    def _file(self, event: Event) -> File:
        file = self._nodes[event.inode]
        assert isinstance(file, File)
        return file

    def _place(self, path: bytes) -> tuple[Folder, str]:
        *folders, name = PurePosixPath(path.decode()).relative_to(self._top).parts
        return self._walk(folders), name

    def _walk(self, parts: list[str]) -> Folder:
        folder = self.root
        for part in parts:
            found = folder.live[part]
            assert isinstance(found, Folder)
            folder = found
        return folder

    def _find(self, path: PurePosixPath) -> Node:
        return self._walk(list(path.parts[:-1])).live[path.name]

    def _names(self, folder: Folder) -> Iterator[tuple[PurePosixPath, File]]:
        for name, node in folder.live.items():
            if isinstance(node, File):
                yield PurePosixPath(name), node
            else:
                yield from ((PurePosixPath(name) / path, file) for path, file in self._names(node))

    # The power cut

    def image(self, rng: random.Random) -> "Image":
        """Return what a power cut now could leave."""
        image: Image = {}
        how = Choice(rng)
        self._add(image, PurePosixPath(), self.root, how)
        return image

    def _add(self, image: "Image", at: PurePosixPath, folder: Folder, how: "Choice") -> None:
        names = dict(folder.durable)
        for entries in folder.changes[: how.count(len(folder.changes))]:
            _rename(names, entries)
        for name, node in sorted(names.items()):
            if isinstance(node, Folder):
                image[at / name] = None
                self._add(image, at / name, node, how)
            elif name == MAP:
                left = how.map_file()
                if left is not None:
                    image[at / name] = left
            else:
                image[at / name] = how.file(node)


Image = dict[PurePosixPath, "bytearray | None"]
"""Files by path, and folders as None."""


class Choice:
    """What of all that may be lost is lost, in one power cut."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._mode = rng.choice(
            ("all", "none", "some", "some", "first", "first", "last", "one", "all but one")
        )
        self._share = rng.choice((0.05, 0.3, 0.5, 0.7, 0.95))
        self._stale = rng.random() < 0.2
        """Whether sectors that were never written hold what lay there before."""
        self._names = rng.random() < 0.5
        """Whether all names are there: with a journal, often sooner than the bytes."""

    def count(self, most: int) -> int:
        """Return how many changes of a folder are there."""
        if self._names or self._mode == "all":
            return most
        if self._mode == "none":
            return 0
        return self._rng.randint(0, most)

    def file(self, file: File) -> bytearray:
        """Return a file's bytes after the cut."""
        rng = self._rng
        size = len(file.durable)
        if file.sizes:
            if self._mode == "all":
                size = file.sizes[-1]
            elif self._mode != "none":
                size = rng.choice((size, file.sizes[-1], rng.choice(file.sizes)))
        data = bytearray(file.durable)
        if size > len(data):
            missing = size - len(data)
            data.extend(rng.randbytes(missing) if self._stale else bytes(missing))
        for sector, content in self.changes(file.changes):
            start = sector * SECTOR
            if start < size:
                data[start : start + SECTOR] = content[: size - start]
        del data[size:]
        return data

    def changes(self, changes: list[Change]) -> list[Change]:
        """Return those changes that arrived; where two are of one sector, the later one wins."""
        rng, count = self._rng, len(changes)
        if not count or self._mode == "all":
            return changes
        match self._mode:
            case "first":
                return changes[: rng.randint(0, count)]
            case "last":
                return changes[rng.randint(0, count) :]
            case "one":
                chosen = [rng.choice(changes)]
            case "all but one":
                lost = rng.randrange(count)
                chosen = changes[:lost] + changes[lost + 1 :]
            case "some":
                chosen = [change for change in changes if rng.random() < self._share]
            case _:
                chosen = []
        return chosen

    def map_file(self) -> bytearray | None:
        """Return what LMDB's lock file holds after the cut: anything."""
        kind = self._rng.randrange(4)
        if kind == 0:
            return None
        if kind == 1:
            return bytearray()
        return bytearray(8192 if kind == 2 else self._rng.randbytes(8192))
