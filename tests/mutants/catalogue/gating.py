"""Bugs in gates, in drains of sidecars, and in policies that operators have changed."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_DRAINING = "coordinator/core/test_draining.py::"
_GATING = "coordinator/core/test_gating.py::"
_OVERRIDING = "coordinator/core/test_overriding.py::"
_PARKING = "            if task.collection is not None and task.collection in handler.gates:\n"

MUTANTS = (
    Mutant(
        "gate-not-checked-where-ready",
        "A task that becomes ready (submitted, due, returned) joins its queue under a gate.",
        Promise.ISOLATION,
        [
            Edit("coordinator.core.ledger", _PARKING, "            if False:\n"),
            Edit(
                "coordinator.core.granting",
                "if handler.gates and self._regate(now, task):",
                "if False:",
            ),
        ],
        a_test(f"{_GATING}TestAPause::test_holds_what_becomes_due"),
    ),
    Mutant(
        "gate-not-checked-where-granted",
        "A task that was ready before the gate on its collection is granted.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.granting",
                "if handler.gates and self._regate(now, task):",
                "if False:",
            )
        ],
        a_test(f"{_GATING}TestAPause::test_of_a_collection_holds_up_no_other"),
    ),
    Mutant(
        "gate-leaves-queues-open",
        "A gate on a whole handler leaves its queues open.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.handler",
                "self.open_queues = []",
                "self.open_queues = list(self.queues)",
            )
        ],
        a_test(f"{_GATING}TestAPause::test_outlasts_a_restart"),
    ),
    Mutant(
        "gate-forgotten-by-new-handler",
        "A handler that is made under a gate does not know it.",
        Promise.ISOLATION,
        [Edit("coordinator.core.ledger", "        self.gates.apply(handler)\n", "")],
        a_test(
            f"{_GATING}TestAPause::test_of_a_handler_that_nobody_knows_yet_holds_its_first_task"
        ),
    ),
    Mutant(
        "gate-not-written",
        "A gate is in memory only.",
        Promise.DURABLE,
        [Edit("coordinator.core.gating", "if gate.changed:", "if False:")],
        a_test(f"{_GATING}TestAPause::test_outlasts_a_restart"),
    ),
    Mutant(
        "park-of-lifted-gate-stays-shut",
        "Lifting a gate does not open the queues of what it held.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.handler",
                "*[queue for park in lifted for queue in park.queues]",
                "*[queue for park in lifted[:0] for queue in park.queues]",
            )
        ],
        a_test(f"{_GATING}TestAPause::test_waits_for_the_last_of_several_gates"),
    ),
    Mutant(
        "parked-record-not-saved",
        "A task that is put aside by granting is not marked so in its record.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.granting",
                "        if self._ledger.make_ready(now, task):\n"
                "            self._ledger.save(task)\n"
                "        else:\n",
                "        if not self._ledger.make_ready(now, task):\n",
            )
        ],
        a_test(f"{_GATING}TestAPause::test_of_a_collection_holds_up_no_other"),
    ),
    Mutant(
        "parked-task-loaded-by-its-old-row",
        "A row of ready tasks brings back one that has been put aside since.",
        Promise.BOUNDED,
        [
            Edit(
                "coordinator.core.granting",
                "task.state is State.READY and handler.queue_of(task) is queue:",
                "task.state is State.READY:",
            )
        ],
        a_test(
            f"{_GATING}TestAPause::test_counts_what_is_put_aside_once_though_its_old_row_is_read_again"
        ),
    ),
    Mutant(
        "dropping-forgets-what-was-ready",
        "A gate that drops leaves the tasks that were ready before it.",
        Promise.BOUNDED,
        [Edit("coordinator.core.dropping", "        self._gates.append(gate)\n", "")],
        a_test(f"{_GATING}TestADrop::test_ends_what_is_ready_and_what_becomes_so"),
    ),
    Mutant(
        "dropping-not-resumed",
        "A coordinator that starts does not go on with what a gate drops.",
        Promise.BOUNDED,
        [
            Edit(
                "coordinator.core.recovery",
                "            if gate.drops:\n",
                "            if False:\n",
            )
        ],
        a_test(f"{_GATING}TestADrop::test_goes_on_after_a_restart"),
    ),
    Mutant(
        "dropping-goes-on-when-lifted",
        "A gate that is lifted in the middle drops the rest, too.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.dropping",
                "return self._ledger.gates.by_scope.get(gate.scope) is gate",
                "return True",
            )
        ],
        a_test(f"{_GATING}TestADrop::test_lifted_in_the_middle_spares_the_rest"),
    ),
    Mutant(
        "gate-never-ends",
        "A gate does not end at its time.",
        Promise.PROMPT,
        [Edit("coordinator.core.shard", "        self._gating.tick(now)\n", "")],
        a_test(f"{_GATING}TestAPause::test_ends_at_its_time_to_the_millisecond"),
    ),
    Mutant(
        "override-lost-when-declared",
        "A service that declares its handler again undoes what an operator has changed.",
        Promise.BOUNDED,
        [
            Edit(
                "coordinator.core.handler",
                "self.policy = in_effect(policy, self.overrides)",
                "self.policy = policy",
            )
        ],
        a_test(f"{_OVERRIDING}test_owner_who_declares_again_changes_what_is_declared_only"),
    ),
    Mutant(
        "drained-and-granted",
        "A drained sidecar that states its demand again gets tasks.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.granting",
                "        if session.drain is not None:\n            return\n",
                "",
            )
        ],
        a_test(f"{_DRAINING}TestADrainedSidecar::test_is_granted_nothing_whatever_it_states"),
    ),
    Mutant(
        "end-of-a-drain-told-once",
        "That a drain is over is told once: where that is lost, slots stay free and tasks wait.",
        Promise.PROMPT,
        [
            Edit(
                "coordinator.core.draining",
                "        if session.drain_told:\n            self._tell(session)\n",
                "        if session.drain is not None:\n            self._tell(session)\n",
            )
        ],
        a_test(f"{_DRAINING}TestWhatWasTold::test_is_told_again_with_every_beat"),
    ),
)
