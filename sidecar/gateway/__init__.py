"""``sidecar.sock``: where apps submit and services attach."""
