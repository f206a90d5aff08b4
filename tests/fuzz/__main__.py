"""Fire mutated frames at the codec, the readers and the cores, and see who is harmed.

    python -m tests.fuzz --frames 1000000 [--seed S] [--workers W] [--json]
    python -m tests.fuzz --seed S --only B     one batch again

Exit codes: 0 nobody was harmed, 1 somebody was.
"""

import argparse
import json
import multiprocessing
import sys
import time
from functools import partial

from tests.fuzz import campaign
from tests.fuzz.campaign import FRAMES_PER_BATCH, Report

FINDINGS_SHOWN = 20
PROGRESS_SECONDS = 5.0
CHUNK = 25
"""Batches handed to a worker at once."""


def main(arguments: list[str]) -> int:
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="decides all of them (default 1)")
    parser.add_argument("--only", type=int, help="the number of one batch of the seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args(arguments)
    batches = range(-(-options.frames // FRAMES_PER_BATCH))
    if options.only is not None:
        batches = range(options.only, options.only + 1)
    began = shown = time.monotonic()
    total = Report()
    chunks = [batches[i : i + CHUNK] for i in range(0, len(batches), CHUNK)]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        work = partial(campaign.run, options.seed)
        for report in pool.imap_unordered(work, chunks):
            _add(total, report)
            total.seconds = time.monotonic() - began
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                left = f"{total.frames} of {len(batches) * FRAMES_PER_BATCH} frames"
                sys.stderr.write(f"{left}, {len(total.findings)} findings\n")
    for finding in total.findings[:FINDINGS_SHOWN]:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(_summary(total, options.seed, as_json=options.json) + "\n")
    return 1 if total.findings else 0


def _add(total: Report, part: Report) -> None:
    total.frames += part.frames
    total.messages += part.messages
    total.slowest_ms = max(total.slowest_ms, part.slowest_ms)
    total.grown_bytes = max(total.grown_bytes, part.grown_bytes)
    total.findings += part.findings


def _summary(report: Report, seed: int, *, as_json: bool) -> str:
    figures = {
        "seed": seed,
        "frames": report.frames,
        "messages": report.messages,
        "findings": len(report.findings),
        "frames_per_second": round(report.per_second),
        "slowest_ms": round(report.slowest_ms, 1),
        "grown_mib": report.grown_bytes >> 20,
    }
    if as_json:
        return json.dumps(figures)
    return (
        f"{report.frames} frames, of which {report.messages} were read and went on; "
        f"{report.per_second:.0f} frames/s, the slowest took {report.slowest_ms:.1f} ms, the "
        f"process grew by {report.grown_bytes >> 20} MiB: {len(report.findings)} findings"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
