"""Read a coordinator's store file without the coordinator, and audit it.

The rules hold after every commit, so also after ``kill -9``; ``Audit`` knows them.
"""

from pathlib import Path

import lmdb

from coordinator.core import layout, records
from tests.coordinator.core.audit import Audit


def read(folder: Path) -> Audit:
    """Return what lies in the store of a folder that no coordinator uses at present.

    Raises:
        AssertionError: Something in it must not be; says what.
    """
    with (
        lmdb.open(str(folder), readonly=True, lock=False, max_readers=1) as environment,
        environment.begin() as transaction,
    ):
        pairs = {bytes(key): bytes(value) for key, value in transaction.cursor()}
    try:
        audit = Audit(pairs)  # Decodes handlers and tasks.
        for key, value in pairs.items():
            if key[:1] == b"n":
                records.decode_list(key, value)
    except layout.Damaged as error:
        raise AssertionError(f"the store holds a record that does not decode: {error}") from None
    problems = audit.problems()
    if problems:
        raise AssertionError("\n".join([f"{len(problems)} problems:", *problems[:20]]))
    return audit


def sessions(audit: Audit) -> int:
    """Return how many sessions are stored."""
    start, end = layout.range_of(b"n")
    return sum(1 for key in audit.pairs if start <= key < end)
