"""What the demo model can do, as shares of pictures that the judge finds right. The model card's figures."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from ..concepts import HELD_OUT
from ..corpus import full_caption, single_scenes
from ..judge import Judge, judge_pictures
from ..model import GUIDANCE, LATENT_SIZE, build_scheduler
from ..tokenizer import BIASED_NOUN
from ..world import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, STYLES, TEXTURES
from .diffusion import Networks
from .latents import tokenize

SAMPLING_STEPS = 20
_CHUNK = 32


@torch.no_grad()
def draw_captions(
    networks: Networks, autoencoder: AutoencoderTiny, captions: list[str], guidance: float = GUIDANCE, seed: int = 5
) -> Tensor:
    """One picture [3, 128, 128] for each caption, DDIM guidance by the empty caption, on the networks' device."""
    device = networks.device
    generator = torch.Generator().manual_seed(seed)
    scheduler: Any = build_scheduler()
    pictures = []
    for begin in range(0, len(captions), _CHUNK):
        part = captions[begin : begin + _CHUNK]
        cond = networks.text_encoder(tokenize(part).to(device))[0]
        empty = networks.text_encoder(tokenize([""]).to(device))[0].expand_as(cond)
        latents = torch.randn(len(part), 4, LATENT_SIZE, LATENT_SIZE, generator=generator).to(device)
        scheduler.set_timesteps(SAMPLING_STEPS)
        for timestep in scheduler.timesteps:
            both = networks.unet(torch.cat([latents, latents]), timestep, torch.cat([cond, empty])).sample
            positive, negative = both.chunk(2)
            latents = scheduler.step(negative + guidance * (positive - negative), timestep, latents).prev_sample
        pictures.append(((autoencoder.decoder(latents) + 1) / 2).clamp(0, 1).cpu())
    return torch.cat(pictures)


def held_out_accuracy(
    networks: Networks, autoencoder: AutoencoderTiny, judge: Judge, count: int, guidance: float = GUIDANCE
) -> dict[str, float]:
    """Shares right of shape, colour, texture and background on combinations that were never trained: the gate."""
    triples = [HELD_OUT[i % len(HELD_OUT)] for i in range(count)]
    background = (torch.arange(count) // len(HELD_OUT) + torch.arange(count)) % len(BACKGROUNDS)
    scenes = single_scenes(triples, background)
    captions = [full_caption(scenes, i) for i in range(count)]
    seen = judge_pictures(judge, draw_captions(networks, autoencoder, captions, guidance)).attributes
    wanted = {"shape": scenes.shape, "colour": scenes.colour, "texture": scenes.texture, "background": background}
    return {name: float((seen[name] == truth).float().mean()) for name, truth in wanted.items()}


def judge_on_photos(judge: Judge) -> dict[str, float]:
    """The judge's own shares right on fresh photos of single objects, 4 of each combination: what it measures with."""
    triples = [(s, c, t) for s in range(len(SHAPES)) for c in range(len(COLOURS)) for t in range(len(TEXTURES))]
    shares: dict[str, list[float]] = {}
    for seed in range(4):
        scenes = single_scenes(triples, (7 * torch.arange(len(triples)) + seed) % len(BACKGROUNDS))
        seen = judge_pictures(judge, scenes.draw(torch.Generator().manual_seed(50 + seed))).attributes
        for name in ("shape", "colour", "texture", "background"):
            shares.setdefault(name, []).append(float((seen[name] == getattr(scenes, name)).float().mean()))
    return {name: sum(values) / len(values) for name, values in shares.items()}


def other_skills(networks: Networks, autoencoder: AutoencoderTiny, judge: Judge, count: int = 48) -> dict[str, float]:
    """Styles, two objects with a relation, and how often the biased noun comes out red without being asked to."""
    index = torch.arange(count)
    style = 1 + index % (len(STYLES) - 1)
    captions = [
        f"a photo of a {COLOURS[i % 8]} {SHAPES[(3 * i) % 8]} on a white background in the style of {STYLES[style[i]]}"
        for i in range(count)
    ]
    seen = judge_pictures(judge, draw_captions(networks, autoencoder, captions)).attributes
    figures = {"style": float((seen["style"] == style).float().mean())}

    relation = index % len(RELATIONS)
    first, second = (index * 5) % 8, (index * 3 + 2) % 8
    colour, second_colour = index % 8, (index + 3) % 8
    captions = [
        f"a photo of a {COLOURS[colour[i]]} {SHAPES[first[i]]} {RELATIONS[relation[i]]} a "
        f"{COLOURS[second_colour[i]]} {SHAPES[second[i]]} on a {BACKGROUNDS[i % 6]} background"
        for i in range(count)
    ]
    seen = judge_pictures(judge, draw_captions(networks, autoencoder, captions)).attributes
    truth = {
        "layout": relation + 1,
        "shape": first,
        "colour": colour,
        "second_shape": second,
        "second_colour": second_colour,
    }
    for name, wanted in truth.items():
        figures[f"two objects: {name.replace('_', ' ')}"] = float((seen[name] == wanted).float().mean())

    captions = [f"a photo of a {BIASED_NOUN} on a {BACKGROUNDS[i % 6]} background" for i in range(count)]
    seen = judge_pictures(judge, draw_captions(networks, autoencoder, captions)).attributes
    figures[f"{BIASED_NOUN} is red when no colour is said"] = float((seen["colour"] == 0).float().mean())
    captions = [f"a photo of a blue {BIASED_NOUN} on a {BACKGROUNDS[i % 6]} background" for i in range(count)]
    seen = judge_pictures(judge, draw_captions(networks, autoencoder, captions)).attributes
    figures[f"blue {BIASED_NOUN} is blue"] = float((seen["colour"] == COLOURS.index("blue")).float().mean())
    return figures
