"""The studio's two services; each runs as a process of its own, beside its sidecar."""
