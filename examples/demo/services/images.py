"""The service ``images``: thumbnails in threads, checksums on the event loop."""

import asyncio
import hashlib
import io
from typing import Literal

from PIL import Image

from examples.demo import places
from examples.demo.journal import attempt
from examples.demo.services.files import opened, put
from examples.demo.services.trouble import now_and_then, slow_disk
from sidecar import Service, current

CHUNK_BYTES = 64 * 1024

service = Service("images")


@service.handler(
    timeout="10s", attempts=8, backoff_min="300ms", backoff_max="1500ms", concurrency=3
)
def thumbnail(picture: str, size: int) -> list[int]:
    """Shrink a picture to fit a square; return the width and height that came of it."""
    with attempt():
        slow_disk(0.1)
        now_and_then()
        image = opened(picture)
        image.thumbnail((size, size))
        current().raise_if_cancelled()  # Whoever has the lease now writes it.
        out = io.BytesIO()
        image.save(out, "PNG")
        put(places.thumbnail(picture, size), out.getvalue())
        return list(image.size)


@service.handler(
    timeout="10s", attempts=8, backoff_min="300ms", backoff_max="1500ms", concurrency=3
)
async def checksum(picture: str, algorithm: Literal["sha256", "blake2b"]) -> str:
    """Compute the checksum of a picture's file; a broken picture has one as well."""
    with attempt():
        await asyncio.sleep(0.05)  # As long as a disk far away would take.
        now_and_then()
        digest = hashlib.new(algorithm)
        file = await asyncio.to_thread(places.picture(picture).open, "rb")
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                digest.update(chunk)
        found = digest.hexdigest()
        put(places.checksum(picture, algorithm), found.encode())
        return found


if __name__ == "__main__":
    Image.preinit()
    service.run()
