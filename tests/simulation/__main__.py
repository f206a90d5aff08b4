"""``python -m tests.simulation --seeds N [--seed S] [--steps N] [--trace]``."""

import sys

from tests.simulation.campaign import main

sys.exit(main(sys.argv[1:]))
