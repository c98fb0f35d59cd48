"""Draw the pictures under examples/data/images, with the standard library alone.

    python scripts/make_example_images.py

Each picture is a function from a point to a colour, sampled on a grid and written as a PNG with
a palette: a few flat colours and banded gradients, so that a cover stays below 40 kB.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent.parent / "examples" / "data" / "images"

Colour = tuple[int, int, int]
# x runs from 0 to 1 across the picture, y from 0 at its top to height / width at its bottom.
Picture = Callable[[float, float], Colour]


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, width, height, picture in (
        ("couverture-ete.png", 480, 640, summer_cover),
        ("couverture-automne.png", 480, 640, autumn_cover),
        ("article-lucioles.png", 640, 360, fireflies),
        ("produit-bol.png", 400, 400, bowl),
    ):
        encoded = png(width, height, picture)
        (FOLDER / name).write_bytes(encoded)
        print(f"{name}: {width} x {height}, {len(encoded)} bytes")


def summer_cover(x: float, y: float) -> Colour:
    """A beach under the sun, with a parasol and the magazine's bar."""
    if y < 0.18:
        return _title_bar(x, y, (23, 74, 110), (255, 244, 214))
    if math.hypot(x - 0.72, y - 0.42) < 0.13:
        return 255, 214, 92
    if _in_parasol(x - 0.34, y - 0.94):
        return (214, 61, 54) if _slice(x - 0.34, y - 1.02) % 2 else (250, 246, 236)
    if abs(x - 0.34 - (y - 0.94) * 0.06) < 0.007 and 0.92 < y < 1.24:
        return 120, 84, 52
    shore = 0.98 + 0.025 * math.sin(x * 7)
    if y > shore:
        return _gradient((y - shore) / 0.4, (240, 214, 158), (214, 176, 112))
    if y > shore - 0.018:
        return 248, 250, 248
    if y > 0.66:
        glint = 0.5 + 0.5 * math.sin(x * 60 + y * 190) * math.sin(y * 120)
        return (150, 214, 222) if glint > 0.93 else _gradient((y - 0.66) / 0.32, SEA_FAR, SEA_NEAR)
    return _gradient((y - 0.18) / 0.48, (92, 172, 220), (204, 232, 238))


SEA_FAR: Final = (20, 104, 148)
SEA_NEAR: Final = (70, 178, 188)


def autumn_cover(x: float, y: float) -> Colour:
    """Hills, a low sun and the roof of the market hall."""
    if y < 0.18:
        return _title_bar(x, y, (94, 38, 30), (250, 226, 186))
    if _in_hall(x, y):
        return _hall(x, y)
    if math.hypot(x - 0.3, y - 0.56) < 0.11:
        return 250, 180, 82
    for depth, colour in enumerate(((88, 54, 62), (140, 72, 58), (190, 106, 66))):
        ridge = 0.96 - depth * 0.11 + 0.05 * math.sin(x * (5 + 2 * depth) + depth * 1.7)
        if y > ridge:
            return colour
    return _gradient((y - 0.18) / 0.5, (112, 92, 132), (246, 190, 132))


def fireflies(x: float, y: float) -> Colour:
    """A garden at night: lights over a pond, and their reflection."""
    pond = 0.38
    depth = y if y < pond else 2 * pond - y
    for index in range(46):
        # These ratios spread the lights evenly without a random source.
        light_x = (index * 0.618034) % 1
        light_y = 0.04 + 0.31 * ((index * index * 0.318310) % 1)
        radius = 0.003 + 0.004 * ((index * 0.569840) % 1)
        distance = math.hypot(x - light_x, depth - light_y)
        if distance < radius:
            return (255, 240, 150) if y < pond else (150, 158, 104)
        if distance < radius * 2.4:
            return (112, 120, 62) if y < pond else (52, 72, 62)
    hedge = 0.27 + 0.03 * math.sin(x * 11) + 0.018 * math.sin(x * 29)
    if hedge < y < pond:
        return 14, 36, 30
    if y >= pond:
        return _gradient((y - pond) / 0.2, (18, 46, 60), (8, 22, 38))
    return _gradient(y / 0.3, (12, 18, 48), (44, 58, 98))


def bowl(x: float, y: float) -> Colour:
    """A striped bowl with two ears, as the catalogue's MAI-003."""
    across, down = x - 0.5, y - 0.46
    if (across / 0.3) ** 2 + (down / 0.075) ** 2 < 1:
        inside = (across / 0.265) ** 2 + (down / 0.055) ** 2 < 1
        return _gradient(down / 0.12 + 0.5, (196, 188, 170), (232, 226, 212)) if inside else RIM
    if 0 <= down < 0.27 and abs(across) < 0.3 * math.sqrt(1 - (down / 0.3) ** 2):
        if 0.11 < down - 0.05 * math.cos(across * 5) + 0.05 < 0.14:
            return 36, 84, 140
        return _gradient(across / 0.6 + 0.5, (252, 249, 240), (206, 198, 180))
    for side in (-1, 1):
        ear = math.hypot((across - side * 0.31) / 0.075, (down - 0.035) / 0.045)
        if 0.45 < ear < 1:
            return 36, 84, 140
    if (across / 0.34) ** 2 + ((down - 0.285) / 0.04) ** 2 < 1:
        return 176, 158, 134
    return _gradient(y, (238, 228, 210), (214, 196, 168))


RIM: Final = (255, 253, 246)


def png(width: int, height: int, picture: Picture) -> bytes:
    """The picture as an 8-bit PNG with a palette of at most 256 colours."""
    palette: dict[Colour, int] = {}
    rows = bytearray()
    for row in range(height):
        rows.append(0)  # filter type: none, the best for a palette
        for column in range(width):
            colour = picture((column + 0.5) / width, (row + 0.5) / width)
            rows.append(palette.setdefault(colour, len(palette)))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = b"".join(bytes(colour) for colour in palette)
    return (
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            _chunks((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(rows, 9)))
        )
        + b"".join(_chunks((b"IEND", b"")))
    )


def _chunks(*parts: tuple[bytes, bytes]) -> Iterator[bytes]:
    for kind, body in parts:
        yield (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )


def _gradient(share: float, start: Colour, end: Colour) -> Colour:
    """Sixteen bands from one colour to the other: smooth enough, and cheap in the palette."""
    step = round(min(max(share, 0.0), 1.0) * 15) / 15
    red, green, blue = (round(a + (b - a) * step) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _title_bar(x: float, y: float, ground: Colour, ink: Colour) -> Colour:
    """Two rules and a row of blocks where a magazine has its name."""
    if abs(y - 0.165) < 0.003 or abs(y - 0.025) < 0.003:
        return ink
    place = (x - 0.08) / 0.12
    inside = 0 <= place < 7 and place % 1 < 0.72 and 0.06 < y < 0.13
    notch = place % 1 < 0.36 and 0.08 < y < 0.11 and int(place) % 2 == 0
    return ink if inside and not notch else ground


def _in_parasol(x: float, y: float) -> bool:
    return y < 0 and math.hypot(x, y * 1.25) < 0.21


def _slice(x: float, y: float) -> int:
    return math.floor(math.atan2(y, x) / math.pi * 13)


def _in_hall(x: float, y: float) -> bool:
    roof = 0.88 + abs(x - 0.62) * 0.42
    return 0.36 < x < 0.88 and roof < y < 1.2


def _hall(x: float, y: float) -> Colour:
    roof = 0.88 + abs(x - 0.62) * 0.42
    if y < roof + 0.035:
        return 52, 72, 96
    arch = (x - 0.36) / 0.104 % 1 - 0.5
    if y > 1.06 + 0.1 * arch * arch * 4 - 0.02 and abs(arch) < 0.36:
        return 250, 206, 120
    return 206, 170, 132


if __name__ == "__main__":
    main()
