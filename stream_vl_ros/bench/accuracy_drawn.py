"""Scenes drawn by another hand: Pillow's polygons at camera size, through real JPEG.

Shares no drawing code with the pictures that were trained, and tells whether the model learnt the
shapes or the renderer.
"""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stream_vl_ros.world.scene import Scene
from stream_vl_ros.world.things import RGB, SHAPES


def _outline(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if shape == "square":
        return [(x + a * r * 0.8, y + b * r * 0.8) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    if shape == "triangle":
        return [(x, y - r), (x + 0.9 * r, y + 0.6 * r), (x - 0.9 * r, y + 0.6 * r)]
    if shape == "star":
        spikes = [(r if i % 2 == 0 else 0.42 * r, math.pi * i / 5) for i in range(10)]
        return [(x + d * math.sin(a), y - d * math.cos(a)) for d, a in spikes]
    t, e = 0.3 * r, 0.95 * r
    corners = (
        (-t, -e),
        (t, -e),
        (t, -t),
        (e, -t),
        (e, t),
        (t, t),
        (t, e),
        (-t, e),
        (-t, t),
        (-e, t),
        (-e, -t),
        (-t, -t),
    )
    return [(x + a, y + b) for a, b in corners]


def draw(scene: Scene, seed: int) -> np.ndarray:
    """A scene's frames, uint8 [frames, height, width, 3], on a smooth random background."""
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    h, w = scene.height, scene.width
    rough = noise.integers(90, 150, (5, 7, 1)) + noise.integers(-15, 16, (1, 1, 3))
    ground = Image.fromarray(rough.astype(np.uint8)).resize((w, h), Image.Resampling.BICUBIC)
    quality = rng.randint(25, 90)
    sigma = rng.uniform(0, 6)
    out = []
    for f in range(scene.frames):
        picture = ground.copy()
        pen = ImageDraw.Draw(picture)
        for track in scene.visible(f):
            cx, cy = track.centre(f)
            x, y, r = cx * w, cy * h, track.radius * math.sqrt(h * w)
            red, green, blue = (round(255 * v) for v in RGB[track.colour_at(f)])
            if SHAPES[track.shape] == "circle":
                pen.ellipse((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=(red, green, blue))
            else:
                pen.polygon(_outline(SHAPES[track.shape], x, y, r), fill=(red, green, blue))
        picture = picture.filter(ImageFilter.GaussianBlur(0.7))
        pixels = np.asarray(picture, np.float32) + noise.normal(0, sigma, (h, w, 1))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)))
    return np.stack(out)
