"""The process beside each service, and the SDK that speaks to it.

Apps and services import the SDK from here; doing so loads neither ZeroMQ nor LMDB.
"""

from sidecar.sdk import *  # noqa: F403
from sidecar.sdk import __all__ as __all__
