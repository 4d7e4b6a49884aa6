"""What exists in the toy world: colours, shapes, directions and places."""

from __future__ import annotations

COLOURS: tuple[str, ...] = (
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "white",
    "black",
)
"""Names of the colours; an object's colour is an index into this."""

RGB: tuple[tuple[float, float, float], ...] = (
    (0.86, 0.10, 0.12),
    (0.10, 0.62, 0.18),
    (0.12, 0.26, 0.88),
    (0.96, 0.88, 0.12),
    (0.98, 0.50, 0.06),
    (0.56, 0.14, 0.70),
    (0.97, 0.97, 0.97),
    (0.04, 0.04, 0.04),
)
"""The middle of each colour, red, green, blue in 0..1; pictures vary around it."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")
"""Names of the shapes; an object's shape is an index into this."""

PLURALS: tuple[str, ...] = ("circles", "squares", "triangles", "stars", "crosses")

DIRECTIONS: tuple[str, ...] = ("left", "right", "up", "down")
STEPS: tuple[tuple[float, float], ...] = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
"""Unit step (x to the right, y downwards) of each direction."""

PLACES: tuple[tuple[str, str, str], ...] = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the nine places, by row and column of the frame's thirds."""

MAX_VISIBLE = 3
"""No frame shows more objects than this."""

KINDS_OF_OBJECT = len(COLOURS) * len(SHAPES)


def object_class(colour: int, shape: int) -> int:
    """Number of an object among all colour and shape pairs, from 0."""
    return colour * len(SHAPES) + shape


def name(colour: int, shape: int) -> str:
    """An object in words, without an article: "red circle"."""
    return f"{COLOURS[colour]} {SHAPES[shape]}"


def article(words: str) -> str:
    """Words with the indefinite article: "an orange star"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
