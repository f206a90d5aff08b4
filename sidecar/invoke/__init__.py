"""Invoking handlers in other ways than natively: by HTTP, on request, as a command per task."""
