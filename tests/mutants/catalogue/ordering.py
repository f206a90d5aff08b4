"""Bugs in what operators order of tasks, and in what is left of their orders after a start."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_GATING = "coordinator/core/test_gating.py::"
_OVERRIDING = "coordinator/core/test_overriding.py::"
_DRAINING = "coordinator/core/test_draining.py::"
_CHANGING = "coordinator/core/test_changing.py::"
_BULK = "coordinator/core/test_bulk_changes.py::"

MUTANTS = (
    Mutant(
        "gates-forgotten-at-start",
        "A coordinator that starts does not know the gates in its store.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.recovery",
                "            self._ledger.gates.put(gate_of(key, fields))\n",
                "            gate_of(key, fields)\n",
            )
        ],
        a_test(f"{_GATING}TestAPause::test_outlasts_a_restart"),
    ),
    Mutant(
        "lifting-wakes-nobody",
        "What a gate held is not looked at when it is lifted.",
        Promise.PROMPT,
        [Edit("coordinator.core.gating", "            self._ledger.touch(handler)\n", "", 2)],
        a_test(
            f"{_GATING}TestAPause::test_keeps_ready_tasks_from_being_granted_and_lifting_it_loses_none"
        ),
    ),
    Mutant(
        "dropped-while-leased",
        "A gate that drops ends tasks whose attempt runs.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.dropping",
                " and task_id not in self._ledger.leased",
                "",
            )
        ],
        a_test(f"{_GATING}TestADrop::test_lets_leased_tasks_run_on"),
    ),
    Mutant(
        "overrides-lost-at-start",
        "A coordinator that starts goes by what the owner of a handler has declared.",
        Promise.BOUNDED,
        [
            Edit(
                "coordinator.core.recovery",
                "                handler.overrides = overrides_of(fields)\n",
                "                overrides_of(fields)\n",
            )
        ],
        a_test(f"{_OVERRIDING}test_changes_outlast_a_restart_and_stay_changes"),
    ),
    Mutant(
        "requeued-with-its-attempts",
        "A dead letter that is requeued keeps the attempts that it has cost.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.changing",
                "task.attempts = task.crashes = task.deferrals = task.deliveries = 0",
                "task.deferrals = task.deliveries = 0",
            )
        ],
        a_test(f"{_CHANGING}TestRequeue::test_task_begins_anew_and_keeps_its_history"),
    ),
    Mutant(
        "requeued-with-its-token",
        "What an earlier attempt still reports of a requeued task is taken.",
        Promise.NEVER_TWICE,
        [Edit("coordinator.core.changing", "        task.token = ledger.next_row()\n", "")],
        a_test(
            f"{_CHANGING}TestRequeue::test_what_is_reported_of_an_earlier_lease_ends_it_not_once_more"
        ),
    ),
    Mutant(
        "cancelled-before-it-has-stopped",
        "A task that an operator cancels is cancelled while its attempt runs.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.changing",
                "            self._cancelling.mark(now, task, _words(by))\n",
                "            self._ledger.end_lease(task)\n"
                "            self._ledger.cancel(now, task, _words(by))\n",
            )
        ],
        a_test(f"{_CHANGING}TestCancel::test_attempt_that_runs_is_told_to_stop"),
    ),
    Mutant(
        "rescheduled-in-its-park",
        "A task that is rescheduled counts as put aside.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.changing",
                "        ledger.leave_queue(task)\n        task.leave_park()\n",
                "        ledger.leave_queue(task)\n",
            )
        ],
        a_test(f"{_CHANGING}TestReschedule::test_task_that_was_put_aside_is_so_no_more"),
    ),
    Mutant(
        "purged-but-for-its-row",
        "The row of a dead letter is left behind when it is purged.",
        Promise.BOUNDED,
        [
            Edit(
                "coordinator.core.ledger",
                "        if task.state is State.DEAD:\n            self.leave_dead(task)\n",
                "",
            )
        ],
        a_test(f"{_CHANGING}TestPurge::test_nothing_is_left_of_the_task"),
    ),
    Mutant(
        "change-not-audited",
        "What an operator does to a task leaves no trace.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.changing",
                "            self._ledger.record(now, wanted.by,"
                ' f"task.{wanted.action.value}", row.id, details)\n',
                "",
            )
        ],
        a_test(f"{_CHANGING}TestRequeue::test_task_begins_anew_and_keeps_its_history"),
    ),
    Mutant(
        "bulk-leaves-one-out",
        "A slice of a change of many tasks goes one too far: its last task is left out.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.bulk_changes",
                "[task.id for task in page.found])",
                "[task.id for task in page.found[:-1] or page.found])",
            )
        ],
        a_test(f"{_BULK}test_all_dead_letters_are_requeued_once"),
    ),
    Mutant(
        "bulk-not-written",
        "How far a change of many tasks is is not in the commit that changes them.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.bulk_changes",
                "                else:\n                    self._write(bulk)\n",
                "",
            )
        ],
        a_test(f"{_BULK}test_crash_after_each_step_changes_no_task_twice_and_forgets_none"),
    ),
    Mutant(
        "bulk-not-resumed",
        "A change of many tasks is forgotten when the coordinator ends.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.recovery",
                "            self._ledger.bulks[change.number] = change\n",
                "",
            )
        ],
        a_test(f"{_BULK}test_crash_after_each_step_changes_no_task_twice_and_forgets_none"),
    ),
    Mutant(
        "bulk-goes-on-when-stopped",
        "A change of many tasks that was stopped in the middle of a slice ends it.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.bulk_changes",
                "            if bulk.state != kept.RUNNING:\n                return\n",
                "",
            )
        ],
        a_test(f"{_BULK}TestStopping::test_in_the_middle_of_a_slice_changes_nothing_of_it"),
    ),
    Mutant(
        "bulk-without-a-rate",
        "A change of many tasks does not keep its rate.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.bulk_changes",
                "now.ms + max(1, changed * 1_000 // bulk.rate)",
                "now.ms + 1",
            )
        ],
        a_test(f"{_BULK}test_rate_bounds_how_many_are_changed_in_a_second"),
    ),
    Mutant(
        "drains-forgotten-at-start",
        "A coordinator that starts does not know which sidecars are drained.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.recovery",
                "            self._ledger.drains[drain.sidecar] = drain\n",
                "",
            )
        ],
        a_test(f"{_DRAINING}TestADrain::test_outlasts_restarts_of_both"),
    ),
    Mutant(
        "drained-with-its-demand",
        "The demand that a sidecar had stated before it was drained is still served.",
        Promise.ISOLATION,
        [Edit("coordinator.core.draining", "            self._granting.withdraw(session)\n", "")],
        a_test(f"{_DRAINING}TestADrainedSidecar::test_is_granted_nothing_whatever_it_states"),
    ),
)
