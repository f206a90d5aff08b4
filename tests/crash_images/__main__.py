"""Cut the power of a recorded coordinator or spool, many times, and look what is left.

    python -m tests.crash_images --images 1000 [--seed S] [--subject spool] [--workers W]
                                 [--keep FOLDER] [--json]
    python -m tests.crash_images --seed S --only N     one image again

Exit codes: 0 all images are clean, 1 some are not, 2 there is no C compiler to record with.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tests.crash_images import campaign
from tests.crash_images.recorder import NoCompiler
from tests.crash_images.subjects import SUBJECTS

FAILURES_SHOWN = 20
PROGRESS_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_images", description=__doc__)
    parser.add_argument("--images", type=int, default=1_000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="decides all of them (default 1)")
    parser.add_argument("--subject", choices=SUBJECTS, default="store", help="whose images")
    parser.add_argument("--only", type=int, help="the number of one image of the seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for images that fail")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args(arguments)
    images = range(options.images) if options.only is None else [options.only]
    shown = time.monotonic()

    def progress(report: campaign.Report) -> None:
        nonlocal shown
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            line = f"{report.images} of {len(images)} images, {len(report.failures)} failed"
            sys.stderr.write(line + "\n")

    try:
        report = campaign.run(
            options.seed,
            images,
            workers=options.workers,
            progress=progress,
            keep=options.keep,
            subject=options.subject,
        )
    except NoCompiler as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for failure in report.failures[:FAILURES_SHOWN]:
        sys.stdout.write(f"{failure}\n")
    sys.stdout.write(_summary(report, options.seed, as_json=options.json) + "\n")
    return 1 if report.failures else 0


def _summary(report: campaign.Report, seed: int, *, as_json: bool) -> str:
    figures = {
        "seed": seed,
        "images": report.images,
        "failed": len(report.failures),
        "images_per_second": round(report.per_second),
        "recordings": report.recordings,
        "commits": report.commits,
        "steps": report.steps,
    }
    if as_json:
        return json.dumps(figures)
    return (
        f"{report.images} images of {report.steps} steps in {report.recordings} recordings "
        f"({report.commits} commits), {report.per_second:.0f} images/s: "
        f"{len(report.failures)} failed"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
