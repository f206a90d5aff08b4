"""The coordinator's scheduling: one deterministic machine without I/O, clock or randomness."""
