"""Pictures of scenes: vectorised over frames, the same code on the CPU and on a GPU.

Shapes are drawn from signed distances, so that edges are soft at any size and no resampling is
needed. Backgrounds are tinted and textured; noise, exposure and JPEG-like block quantisation
follow, as a cheap camera would add them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stream_vl_ros.world.scene import Scene
from stream_vl_ros.world.things import MAX_VISIBLE, RGB

OBJECT_FIELDS = 9
"""Per object and frame: present, x, y, radius, turn, shape, red, green, blue."""

LOOK_FIELDS = 32
"""Per clip: how its pictures look; see ``looks``."""

WAVES = 3


def looks(rng: np.random.Generator, count: int) -> np.ndarray:
    """Looks of ``count`` clips, float32 [count, LOOK_FIELDS].

    0-2 background colour, 3-5 camera gains, 6 brightness, 7 contrast, 8 edge softness in pixels,
    9 stretch, 10 noise, 11 JPEG step, 12-13 gradient, 14 checks, 15 check size, 16 shading,
    17-31 five numbers for each of three waves: frequency x, y, phase, amplitude, colour shift.
    """
    u = rng.random((count, LOOK_FIELDS), dtype=np.float32)
    out = np.empty_like(u)
    grey = 0.22 + 0.45 * u[:, :1]
    out[:, 0:3] = grey + (rng.random((count, 3), dtype=np.float32) - 0.5) * 0.22
    out[:, 3:6] = 1 + (u[:, 3:6] - 0.5) * 0.2
    out[:, 6] = (u[:, 6] - 0.5) * 0.14
    out[:, 7] = 0.82 + 0.3 * u[:, 7]
    out[:, 8] = 0.7 + 1.8 * u[:, 8] ** 2
    out[:, 9] = np.exp((u[:, 9] - 0.5) * 0.24)
    out[:, 10] = 0.055 * u[:, 10] ** 1.5
    out[:, 11] = np.where(u[:, 11] < 0.4, 0.0, (u[:, 11] - 0.4) / 0.6) * 0.09
    out[:, 12:14] = (u[:, 12:14] - 0.5) * 0.3
    out[:, 14] = np.where(u[:, 14] < 0.7, 0.0, u[:, 14] - 0.7) * 0.35
    out[:, 15] = 3 + 9 * u[:, 15]
    out[:, 16] = (u[:, 16] - 0.5) * 0.3
    for w in range(WAVES):
        k = 17 + 5 * w
        angle = u[:, k] * 2 * math.pi
        cycles = 1.0 * np.exp(u[:, k + 1] * 3.0)
        out[:, k] = np.cos(angle) * cycles * 2 * math.pi
        out[:, k + 1] = np.sin(angle) * cycles * 2 * math.pi
        out[:, k + 2] = u[:, k + 2] * 2 * math.pi
        out[:, k + 3] = 0.08 * u[:, k + 3] ** 2
        out[:, k + 4] = (u[:, k + 4] - 0.5) * 2
    return out


def objects(scene: Scene, tones: np.ndarray) -> np.ndarray:
    """What each frame shows, float32 [frames, MAX_VISIBLE, OBJECT_FIELDS].

    ``tones`` [n, 3] in -1..1 shifts the objects' colours a little, object i by row i modulo n.
    """
    out = np.zeros((scene.frames, MAX_VISIBLE, OBJECT_FIELDS), np.float32)
    taken = np.zeros(scene.frames, np.int64)
    for i, track in enumerate(scene.tracks):
        n = len(track.xs)
        frames = np.arange(track.first, track.first + n)
        # A slot is free where fewer objects than slots are there: two never share one in a frame.
        slots = taken[frames]
        rows = np.empty((n, OBJECT_FIELDS), np.float32)
        rows[:, 0] = 1
        rows[:, 1] = track.xs
        rows[:, 2] = track.ys
        rows[:, 3] = track.radius
        rows[:, 4] = track.turn
        rows[:, 5] = track.shape
        shift = tones[i % len(tones)] * 0.06
        rows[:, 6:] = np.clip(np.asarray(RGB[track.colour], np.float32) + shift, 0, 1)
        if track.new_colour >= 0:
            later = frames >= track.change_at
            rows[later, 6:] = np.clip(np.asarray(RGB[track.new_colour], np.float32) + shift, 0, 1)
        out[frames, slots] = rows
        taken[frames] += 1
    return out


def _distance(u: Tensor, v: Tensor, shape: Tensor) -> Tensor:
    """Signed distance to a shape of radius 1 at the origin, negative inside; v points down."""
    au, av = u.abs(), v.abs()
    circle = (u * u + v * v + 1e-6).sqrt() - 0.9
    square = torch.maximum(au, av) - 0.78
    triangle = torch.maximum(0.8660254 * au - 0.5 * v - 0.55, v - 0.55)
    bars = torch.minimum(torch.maximum(au - 0.3, av - 0.95), torch.maximum(au - 0.95, av - 0.3))
    radius = (u * u + v * v + 1e-6).sqrt()
    fifth = 2 * math.pi / 5
    angle = torch.atan2(u, -v) + math.pi / 5
    angle = (angle - torch.floor(angle / fifth) * fifth - math.pi / 5).abs()
    ex, ey = 0.45 * math.cos(math.pi / 5) - 1, 0.45 * math.sin(math.pi / 5)
    norm = math.hypot(ex, ey)
    star = ((radius * torch.cos(angle) - 1.05) * ey - radius * torch.sin(angle) * ex) / norm
    out = torch.where(shape < 0.5, circle, square)
    out = torch.where(shape > 1.5, triangle, out)
    out = torch.where(shape > 2.5, star, out)
    return torch.where(shape > 3.5, bars, out)


Planes = tuple[Tensor, Tensor, Tensor]
"""Red, green and blue (or luma and two chromas), each [F, H, W]; apart, so that one kernel draws all."""


def draw(things: Tensor, look: Tensor, size: Tensor, noise: Tensor) -> Planes:
    """Frames before compression, three float32 planes [F, H, W] in 0..1.

    things [F, MAX_VISIBLE, OBJECT_FIELDS], look [F, LOOK_FIELDS], size [F, 2] height and width in
    pixels of what counts of each canvas, noise [F, 3, H, W] standard normal, which sets the canvas.
    """
    height, width = noise.shape[-2:]
    py = torch.arange(height, device=noise.device, dtype=torch.float32)[None, :, None] + 0.5
    px = torch.arange(width, device=noise.device, dtype=torch.float32)[None, None, :] + 0.5
    h, w = size[:, 0, None, None], size[:, 1, None, None]
    side = (h * w).sqrt()

    def col(i: int) -> Tensor:
        return look[:, i, None, None]

    x, y = px / w, py / h
    texture = col(12) * (x - 0.5) + col(13) * (y - 0.5)
    cell = torch.floor(x * col(15)) + torch.floor(y * col(15))
    texture = texture + col(14) * ((cell - 2 * torch.floor(cell / 2)) - 0.5)
    shift = torch.zeros_like(texture)
    for i in range(WAVES):
        k = 17 + 5 * i
        wave = torch.sin(x * col(k) + y * col(k + 1) + col(k + 2)) * col(k + 3)
        texture = texture + wave
        shift = shift + wave * col(k + 4)
    channels = [col(0) + texture + shift, col(1) + texture, col(2) + texture - shift]
    stretch, soft = col(9), col(8)
    for o in range(MAX_VISIBLE):
        f = [things[:, o, i, None, None] for i in range(OBJECT_FIELDS)]
        radius = f[3] * side + 1e-3
        dx, dy = (px - f[1] * w) * stretch / radius, (py - f[2] * h) / stretch / radius
        cos, sin = torch.cos(f[4]), torch.sin(f[4])
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        inside = (0.5 - _distance(u, v, f[5]) * radius / soft).clamp(0, 1) * f[0]
        shade = 1 + col(16) * u * 0.5
        channels = [c + inside * (f[6 + i] * shade - c) for i, c in enumerate(channels)]
    red, green, blue = (
        ((c * col(3 + i) - 0.5) * col(7) + 0.5 + col(6) + noise[:, i] * col(10)).clamp(0, 1)
        for i, c in enumerate(channels)
    )
    return red, green, blue


def _dct(device: torch.device) -> Tensor:
    """The cosine transform of an 8x8 block as one orthogonal matrix [64, 64]."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) * 0.5
    basis = torch.cat((basis[:1] * math.sqrt(0.5), basis[1:]))
    return (basis[:, None, :, None] * basis[None, :, None, :]).reshape(64, 64)


def _lossy(plane: Tensor, step: Tensor, transform: Tensor) -> Tensor:
    """One plane [F, H, W] through rounded cosine blocks; ``step`` [F].

    As in JPEG, high frequencies are kept more coarsely.
    """
    count, height, width = plane.shape
    padded = torch.nn.functional.pad(plane[:, None], (0, -width % 8, 0, -height % 8), mode="replicate")[:, 0]
    rows, cols = padded.shape[-2] // 8, padded.shape[-1] // 8
    blocks = padded.view(count, rows, 8, cols, 8).transpose(2, 3).reshape(count, rows * cols, 64)
    k = torch.arange(8, device=plane.device, dtype=torch.float32)
    coarse = (1 + 0.9 * (k[:, None] + k[None, :])).reshape(64)
    q = step[:, None, None] * coarse
    blocks = torch.round((blocks @ transform.T) / q) * q
    blocks = (blocks @ transform).view(count, rows, cols, 8, 8).transpose(2, 3)
    return blocks.reshape(count, rows * 8, cols * 8)[:, :height, :width]


def compress(planes: Planes, step: Tensor) -> Planes:
    """JPEG-like loss of colour planes [F, H, W] in 0..1; ``step`` [F] is its strength, 0 for none.

    Works on luma and chroma, the latter kept more coarsely.
    """
    r, g, b = planes
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    transform = _dct(r.device)
    fine = step.clamp(min=1e-4)
    blue_shift = _lossy((b - luma) * 0.564, fine * 1.8, transform) / 0.564
    red_shift = _lossy((r - luma) * 0.713, fine * 1.8, transform) / 0.713
    luma = _lossy(luma, fine, transform)
    red, blue = luma + red_shift, luma + blue_shift
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    lossy = (step > 0)[:, None, None]
    red, green, blue = (
        torch.where(lossy, new.clamp(0, 1), old) for new, old in zip((red, green, blue), planes, strict=True)
    )
    return red, green, blue


def render(scene: Scene, seed: int) -> np.ndarray:
    """A scene's frames, uint8 [frames, height, width, 3]; the same for the same seed on the CPU."""
    rng = np.random.default_rng(seed)
    look = torch.from_numpy(looks(rng, 1)).expand(scene.frames, -1)
    tones = rng.random((8, 3), dtype=np.float32) * 2 - 1
    things = torch.from_numpy(objects(scene, tones))
    size = torch.tensor((scene.height, scene.width), dtype=torch.float32).expand(scene.frames, 2)
    noise = torch.from_numpy(rng.standard_normal((scene.frames, 3, scene.height, scene.width), dtype=np.float32))
    with torch.inference_mode():
        frames = torch.stack(compress(draw(things, look, size, noise), look[:, 11].contiguous()), 1)
        return (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
