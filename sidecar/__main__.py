"""``python -m sidecar``: the same as ``pillion-sidecar``."""

from sidecar.cli import main

main()
