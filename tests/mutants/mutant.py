"""A bug put back on purpose: what it is, where, which promise it breaks, what must see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutants.instrument import Instrument


class Promise(StrEnum):
    """The promises of docs/guarantees.md, by their numbers there."""

    DURABLE = "1 durable"
    AT_LEAST_ONCE = "2 at least once"
    NEVER_TWICE = "3 never twice at once"
    ISOLATION = "4 isolation"
    PROMPT = "5 prompt"
    SUBMITTING = "6 submitting stays possible"
    BOUNDED = "7 bounded"


class Moved(Exception):
    """Raised when a mutant's place is not in the source any more: mend the catalogue."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines of one module, and what stands in their place while the bug is in."""

    module: str
    old: str
    new: str
    times: int = 1
    """How often ``old`` occurs; all of it is replaced."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug."""

    name: str
    says: str
    """What is wrong, in one sentence."""
    promise: Promise
    edits: Sequence[Edit]
    instrument: Instrument
    """The smallest one that must fail while the bug is in."""

    @property
    def in_a_core(self) -> bool:
        """Whether it is in the pure cores only, which the simulation runs."""
        return all(".core." in edit.module for edit in self.edits)

    def sources(self, tree: Path) -> dict[str, str]:
        """Return the text of each changed module of a tree, with the bug in it.

        Raises:
            Moved: A place is not there, or not as often as it should be, or the text is no Python.
        """
        sources: dict[str, str] = {}
        for edit in self.edits:
            text = sources.get(edit.module) or _source_of(tree, edit.module)
            found = text.count(edit.old)
            if found != edit.times:
                raise Moved(
                    f"{self.name}: {edit.module} has {found} times, not {edit.times} times, "
                    f"{edit.old!r}"
                )
            sources[edit.module] = text.replace(edit.old, edit.new)
        for module, text in sources.items():
            try:
                compile(text, module, "exec", dont_inherit=True)
            except SyntaxError as error:
                raise Moved(f"{self.name}: {module} does not compile: {error}") from None
        return sources


def _source_of(tree: Path, module: str) -> str:
    return tree.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
