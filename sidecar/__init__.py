"""The process beside each service, and the SDK that speaks to it.

Apps and services import the SDK from here; doing so loads neither ZeroMQ nor LMDB. It is loaded
when a name of it is asked for: a probe that only looks whether the process answers must not wait
for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.sdk import *  # noqa: F403
    from sidecar.sdk import __all__ as __all__
else:
    import importlib

    def __getattr__(name: str) -> object:
        """Return a name of the SDK: those are classes, and ``current``."""
        if name in ("__all__", "current") or name[:1].isupper():
            sdk = importlib.import_module("sidecar.sdk")
            if name == "__all__" or name in sdk.__all__:
                return getattr(sdk, name)
        raise AttributeError(f"module 'sidecar' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return the names of the SDK too."""
        return sorted({*globals(), *importlib.import_module("sidecar.sdk").__all__})
