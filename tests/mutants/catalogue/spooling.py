"""Bugs in the spool: what an app was told is durable in the sidecar, and the outcomes there."""

from tests.mutants.instrument import a_test, crash_images
from tests.mutants.mutant import Edit, Mutant, Promise

_SPOOL = "sidecar/core/test_spool.py::"
_KEEPING = "sidecar/core/test_keeping.py::"
_STORE = "sidecar/test_spool_store.py::"
_OPEN = "            lib_version=_LIB_VERSION,\n"
_PUT = "        self._spool.put(now_ms, (waiting.connection, request), tasks, rejections)\n"

MUTANTS = (
    Mutant(
        "spooled-before-commit",
        "An app is told that its batch is spooled before the spool has committed it.",
        Promise.SUBMITTING,
        [
            Edit(
                "sidecar.core.submissions",
                f"{_PUT}        return []\n",
                f'{_PUT}        return [Verdict(request, Code.SPOOLED, "", 0, rejections)]\n',
            )
        ],
        a_test(f"{_SPOOL}test_app_is_told_only_after_the_commit"),
    ),
    Mutant(
        "spooled-sent-before-commit",
        "A batch is sent from the spool before it is durable there.",
        Promise.SUBMITTING,
        [Edit("sidecar.core.window", "if number <= committed", "if True")],
        a_test(f"{_SPOOL}test_nothing_is_sent_before_it_is_durable"),
    ),
    Mutant(
        "spool-overtaken",
        "A later submission is sent before what was spooled earlier.",
        Promise.SUBMITTING,
        [
            Edit(
                "sidecar.core.submissions",
                "        if not self._spool.active:\n            batches += ",
                "        if True:\n            batches += ",
            )
        ],
        a_test(f"{_SPOOL}test_new_submissions_go_behind_the_spool_also_with_a_session"),
    ),
    Mutant(
        "spooled-removed-when-sent",
        "A batch is removed from the spool when it is sent, and not when its verdict has come.",
        Promise.DURABLE,
        [
            Edit(
                "sidecar.core.spool",
                "        return self._window.outgoing(now_ms, next_request)\n",
                "        sent = self._window.outgoing(now_ms, next_request)\n"
                "        self._next.removes += [self._window._in_flight[b.request] for b in sent]\n"
                "        return sent\n",
            ),
            Edit(
                "sidecar.core.spool",
                "        self._next.removes.append(number)\n",
                "",
            ),
        ],
        a_test(f"{_SPOOL}test_batch_stays_in_the_store_until_its_verdict"),
    ),
    Mutant(
        "spooled-dropped-when-busy",
        "A coordinator that has no room for a spooled batch is taken to have refused it for good.",
        Promise.DURABLE,
        [Edit("sidecar.core.spool", "if facts is not None and facts.retry:", "if False:")],
        a_test(
            f"{_SPOOL}test_batch_without_room_at_the_coordinator_pauses_all_and_comes_again_in_order"
        ),
    ),
    Mutant(
        "spool-not-sent-again",
        "What was sent from the spool without an answer is not sent again in the next session.",
        Promise.DURABLE,
        [Edit("sidecar.core.submissions", "        self._spool.resend(now_ms)\n", "")],
        a_test(f"{_SPOOL}test_unanswered_replay_is_sent_again_in_the_next_session"),
    ),
    Mutant(
        "spool-failure-unsaid",
        "Apps are told that their batches are spooled although the commit has failed.",
        Promise.SUBMITTING,
        [
            Edit(
                "sidecar.core.spool",
                "            Code.UNAVAILABLE,\n",
                "            Code.SPOOLED,\n",
            )
        ],
        a_test(f"{_SPOOL}test_failed_store_tells_unavailable_and_the_sidecar_goes_on_without"),
    ),
    Mutant(
        "spool-unbounded",
        "The spool takes any number of bytes.",
        Promise.BOUNDED,
        [
            Edit(
                "sidecar.core.spool",
                "return self.bytes + self._left_bytes + size > self._terms.spool_bytes_max",
                "return False",
            )
        ],
        a_test(f"{_SPOOL}test_full_spool_tells_apps_to_wait_and_takes_again_when_there_is_room"),
    ),
    Mutant(
        "outcomes-not-journaled",
        "Outcomes that cannot be recorded are in memory only.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.keeping",
                "self._spool.journal(self._unrecorded.to_journal())",
                "self._unrecorded.to_journal()",
            )
        ],
        a_test(f"{_KEEPING}test_outcome_is_journaled_after_a_while_without_a_session"),
    ),
    Mutant(
        "journal-not-restored",
        "The next process does not read the outcomes that an earlier one has journaled.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.sidecar",
                "self._unrecorded.restore(() if spooled is None else spooled.outcomes)",
                "pass",
            )
        ],
        a_test(f"{_KEEPING}test_next_process_sends_what_an_earlier_one_has_journaled"),
    ),
    Mutant(
        "leaves-before-the-journal",
        "A sidecar that ends without a session does not wait until its outcomes are journaled.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.keeping",
                "        if self._unrecorded.journal_due:\n            return False\n",
                "",
            ),
            Edit("sidecar.core.keeping", "return self._spool.idle and not", "return not"),
        ],
        a_test(f"{_KEEPING}test_end_without_a_session_waits_for_the_journal_and_for_nothing_else"),
    ),
    Mutant(
        "spool-not-synced",
        "The spool is opened with sync=False: what an app was told is there may go in a power cut.",
        Promise.SUBMITTING,
        [Edit("sidecar.spool", _OPEN, f"{_OPEN}            sync=False,\n")],
        crash_images(200, subject="spool"),
    ),
    Mutant(
        "spool-committed-in-parts",
        "The changes of one work of the spool are committed one by one.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.spool",
                "                with self._env.begin(write=True) as txn:\n"
                "                    _change(txn, work)\n",
                "                for o in work.outcome_removes:\n"
                "                    with self._env.begin(write=True) as txn:\n"
                "                        _change(txn, SpoolWork(outcome_removes=[o]))\n"
                "                for o in work.removes:\n"
                "                    with self._env.begin(write=True) as txn:\n"
                "                        _change(txn, SpoolWork(removes=[o]))\n"
                "                with self._env.begin(write=True) as txn:\n"
                "                    _change(txn, SpoolWork(work.puts, [], work.outcome_puts))\n",
            )
        ],
        crash_images(200, subject="spool"),
    ),
    Mutant(
        "spool-checksum-not-checked",
        "A spooled batch whose checksum is wrong is taken for what the app has submitted.",
        Promise.DURABLE,
        [
            Edit(
                "sidecar.spool",
                "return body if _sealed(key, body) == value else None",
                "return body",
            )
        ],
        a_test(f"{_STORE}test_batch_with_a_flipped_bit_is_told_apart_and_harms_no_other"),
    ),
    Mutant(
        "spool-opened-twice",
        "The spool's lock is not taken, so that two sidecars have one spool.",
        Promise.DURABLE,
        [
            Edit(
                "sidecar.spool",
                "            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
                "            pass\n",
            )
        ],
        a_test(f"{_STORE}test_second_sidecar_on_the_same_spool_is_refused_and_the_first_goes_on"),
    ),
)
