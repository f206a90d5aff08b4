"""The service's processes, where the sidecar runs them itself: ``run -- COMMAND``."""
