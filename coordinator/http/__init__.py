"""The coordinator's HTTP side: health, metrics, and an API that shows what the core knows."""
