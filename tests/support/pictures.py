"""Screenshots for the documentation: few colours, few bytes."""

import io
from typing import Any

LARGEST = 60_000
"""Bytes of a picture in ``docs/figures``."""


def small_png(png: bytes) -> bytes:
    """The picture with a palette of as many colours as make it small enough. Fails where 16 are still too many."""
    from PIL import Image  # on demand: only who makes pictures needs it

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (128, 64, 48, 32, 24, 16):
        found = io.BytesIO()
        picture.quantize(palette=_palette(picture, colours), dither=Image.Dither.NONE).save(found, "PNG", optimize=True)
        if len(found.getvalue()) <= LARGEST:
            return found.getvalue()
    raise AssertionError(f"a picture of {picture.size} is larger than {LARGEST} bytes: make its window smaller")


def _palette(picture: Any, colours: int) -> Any:
    """The colours of areas as they are, and a middle of each group of the others, which are edges of letters."""
    from PIL import Image

    areas = [colour for _, colour in sorted(picture.getcolors(1 << 24), reverse=True)[: colours // 2]]
    edges = picture.quantize(colours - len(areas), Image.Quantize.MEDIANCUT).getpalette()
    found = Image.new("P", (1, 1))
    found.putpalette([value for colour in areas for value in colour] + edges[: 3 * (colours - len(areas))])
    return found
