"""What can go wrong inside the coordinator, and what its command does about it.

    CoordinatorError           something is wrong that the operator can act on
      StoreError               the store cannot be used
        Refused                at open: nothing was changed; the text names the fix
        Fenced                 another owner has taken the store; this one must stop
        Unknown                a commit failed, and nobody knows whether it took place
        Corrupt                the store holds what Pillion did not write

After ``Fenced``, ``Unknown`` and ``Corrupt`` memory and store may differ: the process exits, and
its supervisor starts it again from what the store holds.
"""


class CoordinatorError(Exception):
    """Raised when something is wrong that the operator can act on."""


class StoreError(CoordinatorError):
    """Raised when the store cannot be used."""


class Refused(StoreError):
    """Raised when a store is not opened; nothing was changed, and the text names the fix."""


class Fenced(StoreError):
    """Raised when the store has a later owner; nothing was written."""


class Unknown(StoreError):
    """Raised when a commit failed and its outcome is not known."""


class Corrupt(StoreError):
    """Raised when the store holds what Pillion did not write."""
