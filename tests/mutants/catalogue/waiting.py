"""Bugs in how tasks wait: index rows, timers, queues, retention, shares."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_GRANTING = "coordinator/core/test_granting.py::"
_CALENDAR = "coordinator/core/test_calendar.py::"

MUTANTS = (
    Mutant(
        "ready-row-removed-early",
        "A row of ready tasks is removed when the first of its tasks leaves, not the last.",
        Promise.AT_LEAST_ONCE,
        [Edit("coordinator.core.granting", "row = Row(key, len(tasks))", "row = Row(key, 1)")],
        a_test(f"{_GRANTING}TestDemand::test_is_a_total_that_grants_use_up"),
    ),
    Mutant(
        "ready-row-not-written",
        "A task that is accepted and not granted in the same flush gets no row.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.ready_queue",
                "        self.window.append(task)\n        self.unwritten.append(task)\n",
                "        self.window.append(task)\n",
            )
        ],
        a_test("coordinator/core/test_submissions.py::TestOptions::test_are_kept_in_the_record"),
    ),
    Mutant(
        "returned-row-not-written",
        "A task whose lease came back, and that waits then, gets no row.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.ready_queue",
                "        self.returned.append(task)\n        self.unwritten.append(task)\n",
                "        self.returned.append(task)\n",
            )
        ],
        a_test("coordinator/core/test_greeting.py::TestGoodbye"),
    ),
    Mutant(
        "lease-row-removed-early",
        "The row of a grant is removed with the first outcome of its leases, not with the last.",
        Promise.NEVER_TWICE,
        [Edit("coordinator.core.granting", "row.left = len(leases)", "row.left = 1")],
        a_test(
            "coordinator/core/test_outcomes.py::TestSuccess::"
            "test_of_many_tasks_of_one_grant_keeps_the_leases_of_the_others"
        ),
    ),
    Mutant(
        "timer-row-released-early",
        "A timer's row is removed when it rings, and not with the commit that stores its task.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.calendar",
                "                self._ledger.release(timer.row)\n",
                "",
            ),
            Edit(
                "coordinator.core.calendar",
                "            self._look_at(due, now.wall_ms)\n",
                "            for timer in due:\n"
                "                self._ledger.release(timer.row)\n"
                "            self._look_at(due, now.wall_ms)\n",
            ),
        ],
        a_test(f"{_CALENDAR}TestDelay::test_ends_at_its_time_and_not_before"),
    ),
    Mutant(
        "retry-timer-forgotten",
        "A task that waits for its next attempt has no timer.",
        Promise.AT_LEAST_ONCE,
        [Edit("coordinator.core.outcomes", "self._ledger.schedule(task)", "pass")],
        a_test(
            "coordinator/core/test_outcomes.py::TestRetry::"
            "test_begins_again_when_it_is_due_and_not_before"
        ),
    ),
    Mutant(
        "late-rows-not-read",
        "A queue that has run dry in memory does not read its rows from the store.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.ready_queue",
                "return self.live < WINDOW_LOW and not self.loading",
                "return False and not self.loading",
            )
        ],
        a_test(f"{_GRANTING}TestQueueBeyondItsWindow::test_comes_back_in_order_after_a_restart"),
    ),
    Mutant(
        "retention-removes-the-living",
        "Retention removes a task that has come back to life since it ended.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.calendar",
                "if task is None or not task.state.terminal:\n            return\n        remove",
                "if task is None:\n            return\n        remove",
            )
        ],
        a_test(f"{_CALENDAR}TestRetention::test_proof_of_a_task_that_has_come_back_to_life"),
    ),
    Mutant(
        "expiry-ignored-at-the-grant",
        "A task that may not begin any more is granted all the same.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.granting",
                "if task.expires_ms and task.expires_ms <= now.wall_ms:",
                "if False:",
            )
        ],
        a_test(f"{_CALENDAR}TestExpiry::test_is_noticed_when_the_task_would_be_granted"),
    ),
    Mutant(
        "low-starved",
        "The highest priority that waits is always served first: LOW waits for ever.",
        Promise.ISOLATION,
        [Edit("coordinator.core.handler", "min(queues, key=_pass)", "queues[0]")],
        a_test(f"{_GRANTING}TestPriority::test_low_is_served_however_slowly_demand_comes"),
    ),
    Mutant(
        "concurrency-per-session",
        "A handler's concurrency limit is counted for each sidecar by itself.",
        Promise.ISOLATION,
        [
            Edit(
                "coordinator.core.granting",
                "handler.free()",
                "(handler.policy.concurrency or 1 << 60) - session.leases",
            )
        ],
        a_test(f"{_GRANTING}TestConcurrency::test_is_limited_over_all_sidecars"),
    ),
    Mutant(
        "demand-forgotten-after-a-grant",
        "A sidecar that has been served once leaves the rotation, whatever it still asks for.",
        Promise.PROMPT,
        [
            Edit(
                "coordinator.core.granting",
                "if session.demand(handler) > 0:\n                rotation.rotate(-1)\n",
                "if False:\n                rotation.rotate(-1)\n",
            )
        ],
        a_test(f"{_GRANTING}TestSessions::test_take_turns_when_tasks_come_one_by_one"),
    ),
)
