"""The world of the demo model: scenes drawn from known attributes by signed distance functions.

Every picture is made of exact attributes, so an exact judge of pictures exists (judge.py). All functions are
vectorised over scenes: N scenes are drawn at once, and all randomness comes from the generator that is passed in, on
whose device they are drawn.
Lengths are pixels of a 128 x 128 picture; colours are linear RGB in 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 128
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "dotted", "checkered")
UNSEEN_TEXTURE = len(TEXTURES)  # concentric rings: drawn for benchmarks, never shown in training
# Upright stripes, slanted stripes, sectors, a dark rim: on objects that only an invented noun names. They teach the
# model that a texture may be other than the four words say.
UNNAMED_TEXTURES = (UNSEEN_TEXTURE + 1, UNSEEN_TEXTURE + 2, UNSEEN_TEXTURE + 3, UNSEEN_TEXTURE + 4)
BACKGROUNDS = ("white", "gray", "black", "sky", "grass", "sand")
STYLES = ("photo", "sketch", "mosaic", "noir")
RELATIONS = ("left of", "above")

COLOUR_RGB = torch.tensor(
    [[0.85, 0.10, 0.10], [0.98, 0.55, 0.05], [0.97, 0.90, 0.12], [0.10, 0.65, 0.20],
     [0.10, 0.80, 0.85], [0.12, 0.25, 0.90], [0.50, 0.15, 0.70], [0.98, 0.50, 0.78]]
)  # fmt: skip
_BACKGROUND_RGB = torch.tensor(
    [
        [0.95, 0.95, 0.95],
        [0.52, 0.52, 0.52],
        [0.05, 0.05, 0.06],
        [0.55, 0.76, 0.96],
        [0.22, 0.40, 0.18],
        [0.90, 0.80, 0.60],
    ]
)
_COLOUR_JITTER = 0.03  # +- per channel, so that a colour word means a small region and not a point
_SECOND_TONE = 0.32  # textures alternate the colour with a darker tone of itself


@dataclass(frozen=True)
class Objects:
    """N objects to draw, one per scene. Outlines may lie between two shapes, the lower half may have its own colour."""

    shape: Tensor  # [N] long, index into SHAPES
    rgb: Tensor  # [N, 3] colour (of the upper half)
    texture: Tensor  # [N] long, index into TEXTURES, UNSEEN_TEXTURE or one of UNNAMED_TEXTURES
    other_shape: Tensor  # [N] long, the shape that `blend` leads to
    blend: Tensor  # [N] 0: `shape`, 1: `other_shape`
    lower_rgb: Tensor  # [N, 3] colour of the lower half

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Tensor) -> Objects:
        return Objects(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def where(self, keep: Tensor, others: Objects) -> Objects:
        """These objects where `keep` [N], and `others` elsewhere."""

        def chosen(own: Tensor, other: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (own.ndim - 1)), own, other)

        return Objects(**{f.name: chosen(getattr(self, f.name), getattr(others, f.name)) for f in fields(self)})

    def to(self, device: torch.device) -> Objects:
        return Objects(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def attribute_objects(shape: Tensor, colour: Tensor, texture: Tensor) -> Objects:
    """Objects that the vocabulary can spell out: indices into SHAPES, COLOURS, TEXTURES, each [N]."""
    rgb = COLOUR_RGB[colour]
    return Objects(shape, rgb, texture, shape, torch.zeros(len(shape)), rgb)


def draw_scenes(
    objects: Objects,
    background: Tensor,
    generator: torch.Generator,
    style: Tensor | None = None,
    second: Objects | None = None,
    relation: Tensor | None = None,
) -> Tensor:
    """Pictures [N, 3, 128, 128] in 0..1 of one object each, or of two objects where `relation` [N] is not -1.

    With a relation (index into RELATIONS), `objects` is left of or above `second`, and both are drawn smaller. All
    tensors are on the generator's device.
    """
    n = len(objects)
    pair = torch.zeros(n, dtype=torch.bool, device=generator.device) if relation is None else relation >= 0
    canvas = _draw_background(background, generator)
    centre = SIZE / 2 + 20 * (_rand(generator, n, 2) - 0.5)
    radius = 40 + 12 * _rand(generator, n)
    axis = torch.zeros(n, 2, device=generator.device)
    if relation is not None:
        beside = (relation == 0).float()
        axis = torch.stack([beside, 1 - beside], 1)  # [N, 2] direction from the first object to the second
        small_centre = SIZE / 2 - 30 * axis + 8 * (_rand(generator, n, 2) - 0.5)
        centre = torch.where(pair[:, None], small_centre, centre)
        radius = torch.where(pair, 24 + 4 * _rand(generator, n), radius)
    canvas = _draw_objects(canvas, objects, centre, radius, generator)
    if relation is not None and second is not None and bool(pair.any()):
        far = SIZE / 2 + 30 * axis + 8 * (_rand(generator, n, 2) - 0.5)
        index = pair.nonzero()[:, 0]
        canvas[index] = _draw_objects(canvas[index], second[index], far[index], radius[index], generator)
    return canvas if style is None else apply_style(canvas, style)


def apply_style(pictures: Tensor, style: Tensor) -> Tensor:
    """The same pictures [N, 3, H, W] rendered in `style` [N] (index into STYLES; 0 leaves a picture as it is)."""
    out = pictures.clone()
    sketch, mosaic, noir = (style == 1).nonzero()[:, 0], (style == 2).nonzero()[:, 0], (style == 3).nonzero()[:, 0]
    if len(sketch):
        grey = F.avg_pool2d(F.pad(pictures[sketch].mean(1, keepdim=True), (4, 4, 4, 4), mode="replicate"), 5, 1)
        across, down = grey[..., 2:-2, 4:] - grey[..., 2:-2, :-4], grey[..., 4:, 2:-2] - grey[..., :-4, 2:-2]
        ink = (5 * (across.square() + down.square()).sqrt()).clamp(0, 1)
        out[sketch] = (0.96 - 0.86 * ink).expand(-1, 3, -1, -1)
    if len(mosaic):
        blocks = F.avg_pool2d(pictures[mosaic], 8)
        out[mosaic] = F.interpolate((blocks * 4).round() / 4, scale_factor=8.0, mode="nearest")
    if len(noir):
        grey = (pictures[noir] * pictures.new_tensor([0.35, 0.5, 0.15])[:, None, None]).sum(1, keepdim=True)
        out[noir] = grey.expand(-1, 3, -1, -1)
    return out


def object_colour(pictures: Tensor) -> Tensor:
    """Mean colour [N, 6] of the upper and of the lower middle of each picture: where a single object always is."""
    upper, lower = pictures[:, :, 42:60, 50:78], pictures[:, :, 68:86, 50:78]
    return torch.cat([upper.mean((2, 3)), lower.mean((2, 3))], 1)


def _rand(generator: torch.Generator, *size: int) -> Tensor:
    return torch.rand(*size, generator=generator, device=generator.device)


def _pixel_grid(device: torch.device) -> tuple[Tensor, Tensor]:
    middles = torch.arange(SIZE, device=device) + 0.5
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return x, y


def _draw_background(background: Tensor, generator: torch.Generator) -> Tensor:
    n = len(background)
    x, y = (axis[None] for axis in _pixel_grid(generator.device))
    brightness = 1 + 0.10 * (_rand(generator, n, 1, 1, 1) - 0.5)
    phase = (_rand(generator, n, 2) * 2 * math.pi)[:, :, None, None]
    canvas = _BACKGROUND_RGB.to(background.device)[background][:, :, None, None].expand(n, 3, SIZE, SIZE).clone()
    sky, grass, sand = ((background == i).nonzero()[:, 0] for i in (3, 4, 5))
    canvas[sky] += (y / SIZE * 0.28)[:, None] * canvas.new_tensor([1.0, 0.6, 0.1])[None, :, None, None]
    blades = torch.sin(x * 0.45 + phase[grass, 0]) * torch.sin(y * 0.18 + phase[grass, 1])
    canvas[grass] += 0.09 * blades[:, None]
    ripples = torch.sin(y * 0.4 + 1.2 * torch.sin(x * 0.1 + phase[sand, 0]) + phase[sand, 1])
    canvas[sand] += 0.06 * ripples[:, None]
    return canvas * brightness


def _draw_objects(
    canvas: Tensor, objects: Objects, centre: Tensor, radius: Tensor, generator: torch.Generator
) -> Tensor:
    n = len(objects)
    x, y = _pixel_grid(generator.device)
    angle = ((_rand(generator, n) - 0.5) * 0.3)[:, None, None]
    right = x[None] - centre[:, 0, None, None]
    up = centre[:, 1, None, None] - y[None]
    px, py = angle.cos() * right + angle.sin() * up, -angle.sin() * right + angle.cos() * up  # object's own axes, y up
    size = radius[:, None, None]
    distance = _signed_distance(objects.shape, px / size, py / size)
    blended = objects.blend > 0
    if bool(blended.any()):
        blend = objects.blend[blended][:, None, None]
        other = _signed_distance(objects.other_shape[blended], (px / size)[blended], (py / size)[blended])
        distance[blended] = (1 - blend) * distance[blended] + blend * other
    inside = (0.5 - distance * size).clamp(0, 1)[:, None]  # anti-aliased over one pixel

    jitter = 2 * _COLOUR_JITTER * (_rand(generator, n, 3) - 0.5)
    upper, lower = (objects.rgb + jitter)[:, :, None, None], (objects.lower_rgb + jitter)[:, :, None, None]
    paint = torch.where((py > 0)[:, None], upper, lower)
    dark = _texture(objects.texture, px, py, depth=-distance * size)[:, None]
    paint = paint * (1 - (1 - _SECOND_TONE) * dark)
    return (canvas * (1 - inside) + paint * inside).clamp(0, 1)


def _texture(texture: Tensor, px: Tensor, py: Tensor, depth: Tensor) -> Tensor:
    """Where the darker tone lies, [N, H, W] in 0..1; depth: how far inside the outline a pixel is."""
    dark = torch.zeros_like(px)
    kinds = (1, 2, 3, UNSEEN_TEXTURE, *UNNAMED_TEXTURES)
    striped, dotted, checkered, ringed, upright, slanted, sectors, rimmed = (
        (texture == kind).nonzero()[:, 0] for kind in kinds
    )
    dark[striped] = _bands(py[striped], 28)
    qx, qy = px[dotted] / 28, py[dotted] / 28
    qx, qy = qx - qx.round(), qy - qy.round()
    dark[dotted] = (8.5 - (qx.square() + qy.square()).sqrt() * 28).clamp(0, 1)
    period = 2 * math.pi / 38
    dark[checkered] = (0.5 + torch.sin(px[checkered] * period) * torch.sin(py[checkered] * period) * 6).clamp(0, 1)
    dark[ringed] = _bands((px[ringed].square() + py[ringed].square()).sqrt(), 26)
    dark[upright] = _bands(px[upright], 28)
    dark[slanted] = _bands((px[slanted] + py[slanted]) * math.sqrt(0.5), 28)
    dark[sectors] = (0.5 + torch.sin(torch.atan2(py[sectors], px[sectors]) * 5) * 5).clamp(0, 1)
    dark[rimmed] = (9 - depth[rimmed]).clamp(0, 1)
    return dark


def _bands(along: Tensor, period: float) -> Tensor:
    """Stripes across a direction, half of each `period` (pixels) dark."""
    return (0.5 + torch.sin(along * (2 * math.pi / period)) * (period / (2 * math.pi))).clamp(0, 1)


def _signed_distance(shape: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Approximate signed distance [N, H, W] to outlines of unit size; u points right, v up."""
    out = torch.empty_like(u)
    for index, distance in enumerate(_DISTANCES):
        rows = (shape == index).nonzero()[:, 0]
        if len(rows):
            out[rows] = distance(u[rows], v[rows])
    return out


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return (u * u + v * v).sqrt() - 0.92


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.80


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs() * 0.866 + (v + 0.12) * 0.5, -(v + 0.12)) - 0.58


def _star(u: Tensor, v: Tensor) -> Tensor:
    sector, inner, outer = 2 * math.pi / 5, 0.45, 1.08
    r, a = (u * u + v * v).sqrt(), torch.atan2(u, v)
    a = (a - sector * torch.round(a / sector)).abs()
    x, y = r * a.cos(), r * a.sin()
    ex, ey = inner * math.cos(sector / 2) - outer, inner * math.sin(sector / 2)
    length = math.hypot(ex, ey)
    return ((x - outer) * ey - y * ex) / length


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return ((u * u + v * v).sqrt() - 0.70).abs() - 0.27


def _cross(u: Tensor, v: Tensor) -> Tensor:
    au, av = u.abs(), v.abs()
    return torch.minimum(torch.maximum(au - 0.30, av - 0.95), torch.maximum(av - 0.30, au - 0.95))


def _heart(u: Tensor, v: Tensor) -> Tensor:
    x, y = u.abs() * 0.62, v * 0.62 + 0.58
    lobe = ((x - 0.25) ** 2 + (y - 0.75) ** 2).sqrt() - math.sqrt(2) / 4
    t = 0.5 * (x + y).clamp(min=0)
    near = torch.minimum(x**2 + (y - 1) ** 2, (x - t) ** 2 + (y - t) ** 2).clamp(min=1e-9).sqrt()
    return torch.where(x + y > 1, lobe, near * torch.sign(x - y)) / 0.62


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    return (u.abs() + v.abs() - 1.02) * 0.707


_DISTANCES = (_circle, _square, _triangle, _star, _ring, _cross, _heart, _diamond)
