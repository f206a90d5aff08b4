"""A service whose handler does nothing; writes the time of each start when it is asked to.

Usage: noop_service.py CONCURRENCY [FILE]. With FILE, each attempt appends the wall clock and the
payload's first 8 bytes (a clock of the submitter), 16 bytes a task.
"""

import sys
import time
from pathlib import Path

from sidecar import Service

CONCURRENCY = int(sys.argv[1])
FILE = Path(sys.argv[2]) if len(sys.argv) > 2 else None

service = Service("bench")

if FILE is None:

    @service.handler(concurrency=CONCURRENCY)
    async def noop(payload: bytes) -> None:
        """Do nothing."""

else:
    out = FILE.open("ab", buffering=0)

    @service.handler(name="noop", concurrency=CONCURRENCY)
    async def stamp(payload: bytes) -> None:
        """Write down when the attempt began."""
        out.write(time.time_ns().to_bytes(8, "big") + payload[:8])


service.run()
