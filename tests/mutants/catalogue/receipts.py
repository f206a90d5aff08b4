"""Bugs in what the coordinator says, and when: submissions taken, grants, outcomes recorded."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_SUBMIT = "coordinator/core/test_submissions.py::TestSameIdAgain::"
_BEFORE_COMMIT = "        results: Sequence[Any] = ()\n"


def _sent_early(message: str) -> Edit:
    """Send one kind of message before the commit that it is based on."""
    return Edit(
        "coordinator.runtime",
        _BEFORE_COMMIT,
        _BEFORE_COMMIT
        + "        for early in list(effects.messages):\n"
        + f"            if type(early.message).__name__ == {message!r} and not early.payloads:\n"
        + "                effects.messages.remove(early)\n"
        + "                self._send(early)\n",
    )


MUTANTS = (
    Mutant(
        "accepted-before-commit",
        "The verdict on a submission leaves before the commit that stores its tasks.",
        Promise.DURABLE,
        [_sent_early("Accepted")],
        a_test("coordinator/test_runtime.py::TestCommit::test_nothing_leaves_before_its_commit"),
    ),
    Mutant(
        "recorded-before-commit",
        "RECORDED leaves before the commit that settles the outcomes.",
        Promise.AT_LEAST_ONCE,
        [_sent_early("Recorded")],
        a_test("coordinator/test_runtime.py::TestCommit::test_nothing_leaves_before_its_commit"),
    ),
    Mutant(
        "grant-before-commit",
        "A grant leaves before the commit that stores its leases.",
        Promise.NEVER_TWICE,
        [_sent_early("Grant")],
        a_test("coordinator/test_runtime.py::TestCommit::test_nothing_leaves_before_its_commit"),
    ),
    Mutant(
        "failed-commit-survived",
        "A commit that failed is logged, and the coordinator goes on, ahead of its disk.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.runtime",
                "            results = await self._store.apply(effects.writes, reads)\n",
                "            try:\n"
                "                results = await self._store.apply(effects.writes, reads)\n"
                "            except Exception:\n"
                "                self._log.error('commit_failed')\n",
            )
        ],
        a_test(
            "coordinator/test_runtime.py::TestCommit::test_failed_commit_ends_the_coordinator_and_answers_nothing"
        ),
    ),
    Mutant(
        "duplicate-accepted-twice",
        "An id that is in the store is accepted once more, as a new task.",
        Promise.AT_LEAST_ONCE,
        [Edit("coordinator.core.submissions", "if record is not None:", "if False:")],
        a_test(f"{_SUBMIT}test_same_content_is_accepted_and_stored_once"),
    ),
    Mutant(
        "duplicate-replaces",
        "A submission under a known id with other content takes the place of the task.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.submissions",
                "                    self._ledger.count(Code.DUPLICATE_ID)\n",
                "                    self._accept(now, task)\n",
            )
        ],
        a_test(f"{_SUBMIT}test_other_content_is_rejected_and_the_first_is_unharmed"),
    ),
    Mutant(
        "duplicates-cross",
        "Of two submissions with one id that arrive before either is looked up, both are new.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.submissions",
                "fresh.append((place, task, task.id in checking))",
                "fresh.append((place, task, False))",
            )
        ],
        a_test(f"{_SUBMIT}test_from_several_sidecars_in_one_commit_is_accepted_once"),
    ),
    Mutant(
        "full-store-accepts",
        "A store that is nearly full goes on accepting, until its map is full in mid-commit.",
        Promise.BOUNDED,
        [Edit("coordinator.core.submissions", "if self.refuse_all:", "if False:")],
        a_test(
            "coordinator/core/test_submissions.py::TestRefusal::"
            "test_full_store_refuses_until_it_has_room_again"
        ),
    ),
)
