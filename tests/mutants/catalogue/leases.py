"""Bugs in how long leases hold: deadlines, clocks, tokens, and the start of a coordinator."""

from tests.mutants.instrument import a_test, simulation
from tests.mutants.mutant import Edit, Mutant, Promise

_GREETING = "coordinator/core/test_greeting.py::"
_LINK = "sidecar/core/test_link.py::"
_SEEDS = range(300)
"""One seed in sixty or so has two attempts of one task for want of a deadline."""

MUTANTS = (
    Mutant(
        "session-on-the-wall-clock",
        "The coordinator counts sessions on the time of day, which may be set.",
        Promise.NEVER_TWICE,
        [
            Edit("coordinator.core.greeting", "renew(now.ms)", "renew(now.wall_ms)", times=3),
            Edit(
                "coordinator.core.greeting",
                "sessions.take_expired(now.ms)",
                "sessions.take_expired(now.wall_ms)",
            ),
            Edit(
                "coordinator.core.shard",
                "due = [time - now.ms for time in elapsed]",
                "due = [time - now.wall_ms for time in elapsed]",
            ),
        ],
        a_test(f"{_GREETING}TestExpiry::test_is_not_moved_by_the_time_of_day"),
    ),
    Mutant(
        "session-without-margin",
        "The coordinator gives a session up at the timeout, without its margin.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.sessions",
                "now_ms + self.timeout_ms + margin_ms(self.timeout_ms)",
                "now_ms + self.timeout_ms",
            )
        ],
        a_test(f"{_GREETING}TestExpiry::test_comes_exactly_one_margin_after_the_timeout"),
    ),
    Mutant(
        "deadline-from-receipt",
        "The sidecar counts its deadline from when the BEAT came, not from its own sending.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.link",
                "self._renew(now_ms, message.clock_ms)",
                "self._renew(now_ms, now_ms)",
            )
        ],
        a_test(
            f"{_LINK}test_leases_are_void_at_the_deadline_after_the_sending_of_what_was_answered"
        ),
    ),
    Mutant(
        "deadline-without-margin",
        "The sidecar gives its leases up at the timeout, without its margin.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.link",
                "return sent_ms + self.timeout_ms - self._margin_ms()",
                "return sent_ms + self.timeout_ms",
            )
        ],
        a_test(
            f"{_LINK}test_leases_are_void_at_the_deadline_after_the_sending_of_what_was_answered"
        ),
    ),
    Mutant(
        "deadline-ignored",
        "The sidecar notices its deadline, and lets what runs go on.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                "if self._link.expire(now_ms):",
                "if self._link.expire(now_ms) and 0:",
            )
        ],
        a_test(f"{_LINK}test_nothing_is_handed_over_after_the_deadline"),
    ),
    Mutant(
        "time-does-not-count-first",
        "What a sidecar gets after a pause is taken before it looks whether its leases are void.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                "        self._expire(now_ms)\n        match event:\n",
                "        match event:\n",
            )
        ],
        a_test(f"{_LINK}test_paused_process_finds_its_leases_void_before_anything_else"),
    ),
    Mutant(
        "deadline-told-to-nobody",
        "The sidecar lets what runs go on at its deadline, and tells services of none.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                "if self._link.expire(now_ms):",
                "if self._link.expire(now_ms) and 0:",
            ),
            Edit(
                "sidecar.core.sidecar",
                "if self._link.deadline_ms not in (self._told_valid_ms, NEVER_MS):",
                "if False:",
            ),
            Edit(
                "sidecar.core.sidecar",
                "if message.declarations and self._link.deadline_ms < NEVER_MS:",
                "if False:",
            ),
        ],
        simulation(_SEEDS),
    ),
    Mutant(
        "sidecar-clock-sleeps",
        "The sidecar's clock stands still while its host sleeps.",
        Promise.NEVER_TWICE,
        [Edit("sidecar.runtime", "time.CLOCK_BOOTTIME", "time.CLOCK_MONOTONIC")],
        a_test("test_clocks.py::test_clock_goes_on_while_the_host_sleeps[sidecar]"),
    ),
    Mutant(
        "validity-clock-sleeps",
        "The SDK's clock stands still while its host sleeps.",
        Promise.NEVER_TWICE,
        [Edit("sidecar.sdk.validity", "time.CLOCK_BOOTTIME", "time.CLOCK_MONOTONIC")],
        a_test("test_clocks.py::test_clock_goes_on_while_the_host_sleeps[service]"),
    ),
    Mutant(
        "validity-ignored",
        "The SDK does not note until when the leases hold: it waits for a sidecar that is silent.",
        Promise.NEVER_TWICE,
        [Edit("sidecar.sdk.serving", "self._validity.renew(until_ms)", "pass")],
        a_test(
            "sidecar/sdk/test_service.py::"
            "test_attempts_stop_by_themselves_when_the_sidecar_falls_silent"
        ),
    ),
    Mutant(
        "spoiled-hello-used",
        "A WELCOME to a HELLO that named leases which have run out since opens the session.",
        Promise.AT_LEAST_ONCE,
        [Edit("sidecar.core.link", "if self._hello_spoiled or now_ms", "if now_ms")],
        a_test(f"{_LINK}test_welcome_to_a_hello_whose_leases_ran_out_is_not_used"),
    ),
    Mutant(
        "token-without-epoch",
        "Tokens do not start above those of earlier lives of the coordinator.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.granting",
                "task.token = max(task.token + 1, ledger.latest_row)",
                "task.token += 1",
            )
        ],
        a_test(
            "coordinator/core/test_granting.py::TestGrant::"
            "test_has_a_larger_token_than_any_before_though_an_older_store_came_back"
        ),
    ),
    Mutant(
        "sessions-over-at-the-start",
        "A coordinator that starts gives its stored sessions no time to come back.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.recovery",
                "        session.renew(now.ms)\n",
                "        session.deadline_ms = now.ms\n",
            )
        ],
        a_test(f"{_GREETING}TestExpiry::test_after_a_restart_leaves_each_session_one_full_timeout"),
    ),
    Mutant(
        "leases-forgotten-at-the-start",
        "A coordinator that starts does not read its leases, and grants their tasks again.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.recovery",
                'self._scan(b"g", self._take_grants, self._finish)',
                "self._finish()",
            )
        ],
        a_test(
            f"{_GREETING}TestResume::test_after_a_restart_of_the_coordinator_keeps_what_is_held"
        ),
    ),
    Mutant(
        "settled-lease-revived",
        "A coordinator that starts takes a lease for open that its task's record says is settled.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.recovery",
                "if task is None or task.state is not State.READY or task.token >= token:",
                "if task is None or task.state is not State.READY:",
            )
        ],
        a_test(
            f"{_GREETING}TestResume::test_after_a_restart_leaves_a_lease_that_was_settled_settled"
        ),
    ),
)
