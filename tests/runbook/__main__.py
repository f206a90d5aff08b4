"""Write what the runbook's commands answer today into its page: ``python -m tests.runbook``."""

import sys

from tests.runbook.page import PAGE, replaced, sections
from tests.runbook.walk import walk


def main() -> None:
    """Do every section, and write the page anew."""
    text = PAGE.read_text()
    answers = {}
    for title, steps in sections(text).items():
        sys.stderr.write(f"{title}: {len(steps)} steps\n")
        answers[title] = walk(title, steps)
    PAGE.write_text(replaced(text, answers))


if __name__ == "__main__":
    main()
