"""The pure core of the sidecar: no I/O, no clock, no randomness of its own."""
