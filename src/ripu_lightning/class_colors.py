"""Colours of classes: the palette that classes without a colour of their own get."""

from collections.abc import Sequence

Color = tuple[int, int, int]
"""Red, green and blue, each in 0..255."""


def default_colors(given: Sequence[Color | None]) -> tuple[Color, ...]:
    """One RGB triple for each class: the given one, else the next unused colour of PASCAL VOC, without its black."""
    free = (color for color in map(_voc_color, range(1, 256)) if color not in given)
    return tuple(next(free) if color is None else color for color in given)


def _voc_color(number: int) -> Color:
    """Bits 0, 3, 6 of the number are the highest of red, bits 1, 4, 7 of green, bits 2, 5 of blue."""
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue
