"""The processes that benchmarks start beside the coordinator and the sidecar."""
