"""Bugs in what an outcome does to its task."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_OUTCOMES = "coordinator/core/test_outcomes.py::"

MUTANTS = (
    Mutant(
        "no-token-check",
        "An outcome is taken for the lease that its task has now, whichever token it names.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.outcomes",
                "                and task.token == outcome[1]\n",
                "",
            )
        ],
        a_test(f"{_OUTCOMES}TestLate::test_nothing_is_taken_once_a_later_lease_was_granted"),
    ),
    Mutant(
        "outcome-of-a-stranger",
        "An outcome is taken from whoever names the token, of whichever service.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.outcomes",
                "                and (task.session is session or _owns(session, task))\n",
                "",
            )
        ],
        a_test(f"{_OUTCOMES}TestOfAnotherSidecar"),
    ),
    Mutant(
        "late-end-beside-a-later-lease",
        "A late success is taken although its task has been leased to another since.",
        Promise.NEVER_TWICE,
        [Edit("coordinator.core.outcomes", "if outcome.id in ledger.leased:", "if False:")],
        a_test(f"{_OUTCOMES}TestLate::test_nothing_is_taken_once_a_later_lease_was_granted"),
    ),
    Mutant(
        "late-end-of-an-old-lease",
        "A late success is taken although a later lease has come and gone since.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.outcomes",
                "if task is None or task.token != outcome.token or not _owns(session, task):",
                "if task is None:",
            )
        ],
        a_test(f"{_OUTCOMES}TestLate::test_nothing_is_taken_once_a_later_lease_has_ended"),
    ),
    Mutant(
        "late-success-ignored",
        "A success that comes after its lease has ended is refused, and the task runs once more.",
        Promise.AT_LEAST_ONCE,
        [Edit("coordinator.core.outcomes", "if outcome.kind not in _ENDS:", "if True:")],
        a_test(f"{_OUTCOMES}TestLate::test_end_is_taken_of_a_task_that_is_ready_again"),
    ),
    Mutant(
        "lost-not-charged",
        "An attempt whose process died costs nothing: a task that kills its process runs for ever.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.outcomes",
                '        task.attempts += 1\n        self._ledger.count("lost")\n',
                '        self._ledger.count("lost")\n',
            )
        ],
        a_test(f"{_OUTCOMES}TestLost::test_is_charged_and_ready_again_at_once"),
    ),
    Mutant(
        "crash-budget-ignored",
        "A task that takes its process down again and again is not given up.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.outcomes",
                "if task.crashes >= task.handler.policy.crashes_max:",
                "if False:",
            )
        ],
        a_test(f"{_OUTCOMES}TestLost::test_kills_the_task_that_has_crashed_too_often"),
    ),
    Mutant(
        "return-charged",
        "A lease that was given back unused costs an attempt.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.outcomes",
                "        if kind is OutcomeKind.RETURNED:\n",
                "        if kind is OutcomeKind.RETURNED:\n            task.attempts += 1\n",
            )
        ],
        a_test(f"{_OUTCOMES}TestReturned::test_is_ready_again_at_once_and_not_charged"),
    ),
    Mutant(
        "token-given-again",
        "The next lease of a task gets the token of the one before.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.granting",
                "task.token = max(task.token + 1, ledger.latest_row)",
                "task.token = task.token or ledger.latest_row",
            )
        ],
        a_test(f"{_OUTCOMES}TestReturned::test_is_ready_again_at_once_and_not_charged"),
    ),
    Mutant(
        "success-not-saved",
        "A task that has succeeded is so in memory only.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.ledger",
                "        self.save(task)\n        remove_ms",
                "        if task.state is not State.SUCCEEDED:\n"
                "            self.save(task)\n"
                "        remove_ms",
            )
        ],
        a_test(f"{_OUTCOMES}TestSuccess::test_is_durable_before_it_is_recorded"),
    ),
)
