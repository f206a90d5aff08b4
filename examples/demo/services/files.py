"""Read pictures and write results, so that an attempt may be killed at any moment."""

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from examples.demo import places
from sidecar import Fatal, current


def opened(picture: str) -> Image.Image:
    """Return a picture, decoded.

    Raises:
        Fatal: The file is broken: trying again would not mend it.
    """
    path = places.picture(picture)
    if path.stat().st_size == 0:
        raise Fatal("the file is empty")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise Fatal("the file is no picture") from None
    except OSError as error:
        raise Fatal("the picture is cut off") from error


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    The draft carries the attempt's token, so that two attempts never write into the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{current().token}")
    draft.write_bytes(data)
    os.replace(draft, path)
