"""The service ``reports``: sheets and indexes of what ``images`` has made, and captions.

A sheet whose thumbnails are not all there raises ``Defer``: not now, and no attempt is charged.
"""

import asyncio
import io

from PIL import Image, ImageStat

from examples.demo import places
from examples.demo.journal import attempt
from examples.demo.services.files import opened, put
from examples.demo.services.trouble import now_and_then, slow_disk
from sidecar import Defer, Service

SHEET_COLUMNS = 4
CELL = 128

service = Service("reports")


@service.handler(timeout="10s", attempts=5, concurrency=2)
def sheet(album: str, pictures: list[str]) -> list[int]:
    """Lay the thumbnails of an album out on one sheet; return its width and height."""
    with attempt():
        paths = [places.thumbnail(picture, CELL) for picture in pictures]
        missing = sum(not path.exists() for path in paths)
        if missing:
            raise Defer(f"{missing} of {len(paths)} thumbnails are not there yet", after="1s")
        rows = -(-len(paths) // SHEET_COLUMNS)
        made = Image.new("RGB", (SHEET_COLUMNS * CELL, rows * CELL), "white")
        for place, path in enumerate(paths):
            with Image.open(path) as image:
                corner = (place % SHEET_COLUMNS * CELL, place // SHEET_COLUMNS * CELL)
                made.paste(image, corner)
        out = io.BytesIO()
        made.save(out, "PNG")
        put(places.sheet(album), out.getvalue())
        return list(made.size)


@service.handler(timeout="10s", attempts=5, concurrency=2)
def index(album: str, algorithm: str, pictures: list[str]) -> int:
    """Gather the checksums of an album in one file; return how many they are."""
    with attempt():
        paths = [places.checksum(picture, algorithm) for picture in pictures]
        missing = sum(not path.exists() for path in paths)
        if missing:
            raise Defer(f"{missing} of {len(paths)} checksums are not there yet", after="1s")
        lines = [
            f"{path.read_text()}  {name}\n" for path, name in zip(paths, pictures, strict=True)
        ]
        put(places.index(album, algorithm), "".join(lines).encode())
        return len(lines)


@service.handler(
    timeout="10s", attempts=8, backoff_min="300ms", backoff_max="1500ms", concurrency=3
)
def caption(picture: str) -> str:
    """Describe a picture in one line."""
    with attempt():
        slow_disk(0.05)
        now_and_then()
        image = opened(picture)
        red, green, blue = (round(mean) for mean in ImageStat.Stat(image).mean)
        found = f"{picture}, {image.width} x {image.height}, mean #{red:02x}{green:02x}{blue:02x}"
        put(places.caption(picture), found.encode())
        return found


@service.handler(attempts=3, backoff_min="300ms", backoff_max="1s", concurrency=2)
async def publish(album: str, port: int) -> None:
    """Send an album to the web server, which this demo does not have: nobody listens there."""
    with attempt():
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()


if __name__ == "__main__":
    Image.preinit()
    service.run()
