"""HTTP on ``sidecar.sock``: for apps and services without an SDK."""
