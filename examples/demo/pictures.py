"""Make the pictures that the studio works on: each different, and a few broken on purpose."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageOps

from examples.demo import places

SIZES = ((640, 480), (960, 640), (1024, 768), (1280, 800), (600, 900), (720, 720))
GOOD_PER_ALBUM = 12
ALBUMS = tuple(f"album-{number}" for number in range(1, 6))


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to be made.

    Attributes:
        name: Its album and its file: ``album-1/noise-07.png``.
        size: Width and height.
        why_broken: What a handler should say about the file; empty if it is a good one.
    """

    name: str
    size: tuple[int, int]
    why_broken: str = ""

    @property
    def album(self) -> str:
        """The album it belongs to."""
        return self.name.split("/", maxsplit=1)[0]


def catalogue(seed: int) -> list[Picture]:
    """Return all pictures of the studio; the same seed gives the same ones."""
    random = Random(seed)
    found = []
    for album in ALBUMS:
        for number in range(1, GOOD_PER_ALBUM + 1):
            kind = random.choice(list(_KINDS))
            suffix = random.choice(("png", "jpg"))
            size = random.choice(SIZES)
            found.append(Picture(f"{album}/{kind}-{number:02}.{suffix}", size))
    for number, why in enumerate(_BREAKS):
        found.append(Picture(f"{ALBUMS[number]}/broken-{number}.png", random.choice(SIZES), why))
    return found


def make(folder: Path, picture: Picture) -> None:
    """Write one picture's file."""
    path = folder / places.picture(picture.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = Random(picture.name)
    if picture.why_broken:
        path.write_bytes(_BREAKS[picture.why_broken](_encoded(_noise(random, picture.size), "PNG")))
        return
    kind = path.name.split("-", maxsplit=1)[0]
    image = _KINDS[kind](random, picture.size)
    path.write_bytes(_encoded(image, "PNG" if path.suffix == ".png" else "JPEG"))


def _encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form, compress_level=1, quality=88)
    return out.getvalue()


def _colour(random: Random) -> tuple[int, int, int]:
    return random.randrange(256), random.randrange(256), random.randrange(256)


def _gradient(random: Random, size: tuple[int, int]) -> Image.Image:
    """Blend two colours, turned by some angle."""
    grey = Image.linear_gradient("L").rotate(random.randrange(0, 360, 15)).resize(size)
    return ImageOps.colorize(grey, _colour(random), _colour(random))


def _noise(random: Random, size: tuple[int, int]) -> Image.Image:
    """Colour random dots, some pixels large."""
    width, height = size[0] // 4, size[1] // 4
    grey = Image.frombytes("L", (width, height), random.randbytes(width * height))
    return ImageOps.colorize(grey.resize(size), _colour(random), _colour(random))


def _shapes(random: Random, size: tuple[int, int]) -> Image.Image:
    """Strew ellipses and triangles over a ground."""
    image = Image.new("RGB", size, _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(24):
        x, y, r = random.randrange(size[0]), random.randrange(size[1]), random.randrange(12, 120)
        if random.random() < 0.5:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(random))
        else:
            draw.polygon(((x, y - r), (x + r, y + r), (x - r, y + r)), fill=_colour(random))
    return image


_KINDS: dict[str, Callable[[Random, tuple[int, int]], Image.Image]] = {
    "gradient": _gradient,
    "noise": _noise,
    "shapes": _shapes,
}

_BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "the file is empty": lambda data: b"",
    "the file is no picture": lambda data: b"Dear diary, today I was called .png\n" * 50,
    "the picture is cut off": lambda data: data[: len(data) // 3],
}
"""What is done to a good picture's bytes, by what a handler should say about it."""
