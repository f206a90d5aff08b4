"""Every bound of the protocol, with the reason for its value.

A limit that is reached gives its sender a clear error or slows it down; nothing already accepted
is lost. Sizes are in bytes, times in milliseconds, unless the name says otherwise.
"""

KIB = 1024
MIB = 1024 * KIB
SECOND_MS = 1000
DAY_MS = 24 * 3600 * SECOND_MS

FRAME_BYTES_MAX = 4 * MIB
"""One message on either hop. Small enough that decoding a hostile one stays cheap."""
BATCH_BYTES_MAX = 1 * MIB + 512 * KIB
"""What senders aim to stay under when they gather several items into one message."""
BATCH_TASKS_MAX = 10_000
"""Tasks in one submitted batch."""
FRAME_ITEMS_MAX = 150_000
"""Lists and maps in one message, all levels together: bounds what decoding can allocate."""

MAP_ITEMS_MAX = 64
"""Entries of one map."""

ID_BYTES = 16
NAME_CHARS_MAX = 64
PAYLOAD_BYTES_MAX = 1 * MIB
"""A larger payload belongs in an object store, with its address in the task."""
RESULT_BYTES_MAX = 256 * KIB
CONTENT_TYPE_CHARS_MAX = 128
ERROR_TYPE_CHARS_MAX = 128
ERROR_MESSAGE_CHARS_MAX = 1024
ERROR_DETAIL_CHARS_MAX = 4096
OPTIONS_MAX = 16
"""Entries of a policy."""
NOTE_CHARS_MAX = 256
"""The note of an attempt's progress."""
CHECKPOINT_BYTES_MAX = 4096
"""It is in the task's record, written with each change: larger state belongs elsewhere."""
REASON_CHARS_MAX = 256
"""Why somebody cancels a task."""
KEY_CHARS_MAX = 255
TRACESTATE_CHARS_MAX = 512
BAGGAGE_CHARS_MAX = 1024
META_ENTRIES_MAX = 16
META_TEXT_CHARS_MAX = 256
"""One text of a task's meta data; small enough for a header of HTTP."""

DELAY_MS_MAX = 3653 * DAY_MS
"""Ten years: further away than that is a mistake in a unit."""
CLOCK_SKEW_MS_MAX = 60 * SECOND_MS
"""How far in the past a due time may lie and still mean "now"."""
TIMEOUT_MS_MAX = 7 * DAY_MS
ATTEMPTS_MAX = 1000
DEFERRALS_MAX = 1000
RETURNS_MAX = 1000
"""Leases of a task given back unused: a task that nobody keeps must not go round for ever."""
HISTORY_MAX = 20
"""Attempt records kept per task: the first and the latest ones."""
CONCURRENCY_MAX = 100_000
HANDLERS_MAX = 10_000
"""Handler names one coordinator keeps; a typing error in a loop must not grow for ever."""
HANDLERS_PER_SESSION_MAX = 1024
SESSIONS_MAX = 10_000
HELD_LEASES_MAX = 50_000
"""Leases one session may hold."""
WAIT_MS_MAX = 3600 * SECOND_MS
WAITERS_PER_SESSION_MAX = 20_000
QUERY_IDS_MAX = 1000
EPOCH_MAX = 2**23 - 1
TOKEN_MAX = 2**63 - 1
