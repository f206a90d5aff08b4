"""Where things lie in the studio's folder: all that services and checks agree on.

Paths are relative to that folder; a service is started in it.
"""

from pathlib import Path

PICTURES = Path("pictures")
JOURNAL = Path("journal")


def picture(name: str) -> Path:
    """Return where a picture lies; its name begins with its album: ``album-1/noise-07.png``."""
    return PICTURES / name


def thumbnail(name: str, size: int) -> Path:
    """Return where the thumbnail of a picture belongs."""
    return Path("thumbnails", str(size), name).with_suffix(".png")


def checksum(name: str, algorithm: str) -> Path:
    """Return where the checksum of a picture's file belongs."""
    return Path("checksums", algorithm, name + ".txt")


def caption(name: str) -> Path:
    """Return where the caption of a picture belongs."""
    return Path("captions", name + ".txt")


def sheet(album: str) -> Path:
    """Return where the contact sheet of an album belongs."""
    return Path("sheets", album + ".png")


def index(album: str, algorithm: str) -> Path:
    """Return where the index of an album's checksums belongs."""
    return Path("indexes", f"{album}.{algorithm}")
