"""Keep the writer thread from waiting for the event loop's thread at each call into LMDB.

py-lmdb lets go of the interpreter at each operation, and a thread that wants it back waits up to
the switch interval for a busy event loop. With the default of 5 ms, a thousand puts beside a busy
loop took 70 to 170 ms; with 50 µs they take 15 to 20, and a shorter interval gained nothing more.
``LmdbStore`` avoids most of that by holding the loop while it stages a commit; what remains is the
way back from each commit, and calls that take longer than the hold.
"""

import sys

SWITCH_INTERVAL_SECONDS = 0.000_05


def set_switch_interval() -> None:
    """Shorten the interpreter's switch interval for the whole process; called once at start."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
