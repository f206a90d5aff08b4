"""Become the service's command, tied to the life of the sidecar: a program of its own.

Run as ``python -I -S tether.py PARENT COMMAND...``. It asks the kernel to kill this process when
the sidecar's ends, and then becomes the command.

Why: a sidecar that is killed cannot end its processes any more. They would notice that their
connection is gone, cancel what runs and dial again, and the next sidecar would find them beside
its own: twice the processes, more with each kill, and no one to supervise them. Worse, an
attempt that cannot be cancelled would go on while the coordinator, after the session timeout,
gives its task to somebody else. Nothing that they could still do would count: their attempts are
lost with the connection. So they end with the sidecar, at once, by SIGKILL, as they would in
a container whose first process ends. (What they have started themselves is not ended by this.)

Why a program of its own: the request does not survive a fork, so that it has to be made between
fork and exec; and running Python there, in a process with threads, may hang for ever.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127


def main() -> None:
    """Become the command."""
    parent, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}\n")
    if os.getppid() != int(parent):
        os._exit(1)  # It ended before the request was made.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them; the command shall not.
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(CANNOT_RUN)


if __name__ == "__main__":
    main()
