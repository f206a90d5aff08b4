"""What ``pillion-sidecar`` does beside running: each command is one module, loaded alone."""
