"""What can go wrong inside the sidecar process, and what its command does about it.

SidecarError          something is wrong that the operator can act on
  SocketRefused       ``sidecar.sock`` cannot be served; the text names the fix
  SpoolUnusable       the spool cannot be opened, or has failed; the text names the fix
"""


class SidecarError(Exception):
    """Raised when something is wrong that the operator can act on."""


class SocketRefused(SidecarError):
    """Raised when the local socket cannot be served; the text names the fix."""


class SpoolUnusable(SidecarError):
    """Raised when the spool cannot be opened, or has failed; the text names the fix."""
