"""Bugs in what is on the disk: commits, locks, checksums, ownership."""

from tests.mutants.instrument import a_test, crash_images
from tests.mutants.mutant import Edit, Mutant, Promise

_LMDB = "coordinator/store/test_lmdb_store.py::"
_IMAGES = 200
_OPEN = "                lib_version=_LIB_VERSION,\n"

MUTANTS = (
    Mutant(
        "meta-page-not-synced",
        "LMDB is opened with metasync=False: the last acknowledged commit may go in a power cut.",
        Promise.DURABLE,
        [Edit("coordinator.store.lmdb_store", _OPEN, f"{_OPEN}                metasync=False,\n")],
        crash_images(_IMAGES, subject="store"),
    ),
    Mutant(
        "nothing-synced",
        "LMDB is opened with sync=False: what a power cut leaves is in no order.",
        Promise.DURABLE,
        [Edit("coordinator.store.lmdb_store", _OPEN, f"{_OPEN}                sync=False,\n")],
        crash_images(_IMAGES, subject="store"),
    ),
    Mutant(
        "batch-committed-in-parts",
        "The writes of one commit are committed one by one.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.store.lmdb_store",
                "        env = self._check_thread()\n        try:\n",
                "        env = self._check_thread()\n        try:\n"
                "            for key, value in list(writes.items())[:-1]:\n"
                "                with env.begin(write=True) as part:\n"
                "                    self._stage(part, {key: value})\n",
            )
        ],
        crash_images(_IMAGES, subject="store"),
    ),
    Mutant(
        "store-opened-twice",
        "The folder's lock is not taken, so that two coordinators have one store.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.store.directory",
                "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                "            pass\n",
            )
        ],
        a_test(f"{_LMDB}test_second_opener_is_refused_and_told_the_pid_of_the_first"),
    ),
    Mutant(
        "later-owner-not-noticed",
        "A commit does not look whether the store has a later owner.",
        Promise.NEVER_TWICE,
        [Edit("coordinator.store.lmdb_store", "if record != self._own_record:", "if False:")],
        a_test(f"{_LMDB}test_later_owner_fences_this_one_inside_its_transaction"),
    ),
    Mutant(
        "epoch-not-raised",
        "Opening the store does not raise its epoch, so that tokens may be given a second time.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.store.lmdb_store",
                "meta.Meta(found.uuid, found.epoch + 1, found.created_ms)",
                "meta.Meta(found.uuid, found.epoch or 1, found.created_ms)",
            )
        ],
        a_test(
            "coordinator/store/test_store_contract.py::"
            "test_each_opening_raises_the_epoch_and_keeps_the_uuid"
        ),
    ),
    Mutant(
        "record-checksum-not-checked",
        "A record whose checksum is wrong is taken for good data.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.records",
                "    body = unseal(key, record)\n",
                "    body = record[4:]\n",
            )
        ],
        a_test(
            "coordinator/core/test_records.py::test_flipped_byte_is_noted_and_harms_no_other_task"
        ),
    ),
    Mutant(
        "row-checksum-not-checked",
        "A row of an index whose checksum is wrong is taken for good data.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.layout",
                "    body = unseal(key, value)\n",
                "    body = value[_CRC:]\n",
                times=3,
            )
        ],
        a_test("coordinator/test_flipped_bits.py"),
    ),
    Mutant(
        "payload-checksum-not-checked",
        "A payload that has changed in the store is handed to its handler.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.payloads",
                "elif content_crc(handler_crc, payload) != expected:",
                "elif False:",
            )
        ],
        a_test("coordinator/test_flipped_bits.py"),
    ),
    Mutant(
        "damaged-row-not-made-up-for",
        "A damaged row is told and removed, and its tasks are found by nobody.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.reindexing",
                "                ledger.touch(task.handler)\n        self.begin()\n",
                "                ledger.touch(task.handler)\n",
            )
        ],
        a_test("coordinator/core/test_reindexing.py"),
    ),
    Mutant(
        "walk-forgotten-at-a-restart",
        "A start does not go on with finding the rows of tasks again.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.recovery",
                "if layout.REINDEX_KEY in found or self._lacks_dead:",
                "if self._lacks_dead:",
            )
        ],
        a_test("coordinator/core/test_reindexing.py"),
    ),
    Mutant(
        "damaged-leases-given-away-at-once",
        "Tasks of a damaged grant are granted again while their holder may run them.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.recovery",
                "self._granting.hold(until_ms, holding)",
                "pass",
            )
        ],
        a_test("coordinator/core/test_reindexing.py"),
    ),
    Mutant(
        "empty-store-over-a-lost-one",
        "A folder whose store's file is gone gets a new, empty store.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.store.directory",
                "if marker is not None and not self.holds_data:",
                "if False:",
            )
        ],
        a_test(f"{_LMDB}test_no_empty_store_is_made_where_one_was_lost"),
    ),
)
