"""Start real coordinators with the recorder in them, each with a disk that fails; and quickly.

    python -m tests.crash_images.nursery        one order a line on standard input, as JSON

Everything is imported once; each coordinator is a fork of this process, which has no thread and no
socket before it. What is answered for each order, on standard output, tells how it ended.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from coordinator import cli, runtime
from tests.crash_images.recorder import Fault, Recorder


def main() -> None:
    """Carry out orders until standard input ends."""
    assert runtime.__name__  # Imported here once, and not in each fork.
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if process == 0:
            _become(order)
        _, status = os.waitpid(process, 0)
        ended = {"code": os.waitstatus_to_exitcode(status), "ended_ns": time.monotonic_ns()}
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


def _become(order: dict[str, Any]) -> None:
    """Be a coordinator; its command ends this process."""
    # Opening the pipe waits for whoever reads what the coordinator writes.
    output = os.open(order["output"], os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    recorder = Recorder()
    recorder.watch(Path(order["folder"]), Path(order["log"]))
    if order["fault"]:
        recorder.fail(Fault(order["fault"]), **order["how"])
    recorder.slow(Fault.SYNC, order.get("slow_ms", 0))
    sys.argv[1:] = order["arguments"]
    cli.main()


if __name__ == "__main__":
    main()
