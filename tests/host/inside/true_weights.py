"""Weights of published models' true shapes with random values, as the files that people load.

python true_weights.py sd15 FILE      in a host's folder, with its interpreter and that folder on PYTHONPATH
python true_weights.py flux FOLDER    unet, clip_l and t5xxl in 8 bits, and an autoencoder in 16
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from comfy.cli_args import args

if __name__ == "__main__":
    args.cpu = True  # before the host's modules look for devices

import comfy.model_base
import comfy.supported_models
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.sd1_clip import SD1ClipModel
from safetensors.torch import save_file
from true_shapes import PUBLISHED, SD2_UNET, SDXL_UNET, UNET, build

_BLOCK = 1_000_003  # random numbers that weights are tiled with; a prime, so that rows differ
_AUTOENCODER = dict(
    double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4],
    num_res_blocks=2, attn_resolutions=[], dropout=0.0,
)  # fmt: skip


def random_weights(prefix, module):
    """Names, shapes and precisions of `module`, which is on the meta device, with noise that keeps signals alive."""
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(len(prefix)))
    weights = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            flat = tensor.ndim < 2
            scale = 0.05 if flat else 0.7 * tensor[0].numel() ** -0.5
            dtype = torch.float16 if tensor.dtype == torch.float32 else tensor.dtype
            noise = (block * scale + (flat and name.endswith("weight"))).to(dtype)
            tiles = -(-tensor.numel() // _BLOCK)
            in_bytes = noise.view(torch.uint8).repeat(tiles)[: tensor.numel() * dtype.itemsize]
            weights[prefix + name] = in_bytes.view(dtype).view(tensor.shape).clone()
    return weights


def open_clip_weights(prefix, width, layers):
    """A text encoder as OpenCLIP names its weights, which SD2's and SDXL's files do."""
    shapes = {"positional_embedding": (77, width), "token_embedding.weight": (49408, width)}
    shapes |= {"text_projection": (width, width), "ln_final.weight": (width,), "ln_final.bias": (width,)}
    linear = {"attn.in_proj_": 3 * width, "attn.out_proj.": width, "mlp.c_fc.": 4 * width, "mlp.c_proj.": width}
    for block in (f"transformer.resblocks.{layer}." for layer in range(layers)):
        for name, rows in linear.items():
            shapes[f"{block}{name}weight"] = (rows, 4 * width if name == "mlp.c_proj." else width)
            shapes[f"{block}{name}bias"] = (rows,)
        shapes |= {f"{block}{name}.{part}": (width,) for name in ("ln_1", "ln_2") for part in ("weight", "bias")}
    module = torch.nn.Module()
    module.state_dict = lambda: {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return random_weights(prefix, module)


def unet_weights(family, config):
    made = family(dict(config))
    made.set_inference_dtype(torch.float16, None)
    unet = comfy.model_base.BaseModel(made, device=torch.device("meta")).diffusion_model
    return random_weights("model.diffusion_model.", unet)


def clip_l_weights(prefix):
    text_encoder = SD1ClipModel(device="meta", dtype=torch.float16).clip_l.transformer
    return random_weights(prefix, text_encoder.text_model)


def autoencoder_weights(prefix, channels=4):
    with torch.device("meta"):
        autoencoder = AutoencoderKL(ddconfig=_AUTOENCODER | dict(z_channels=channels), embed_dim=channels)
    return random_weights(prefix, autoencoder)


def sd15():
    """A checkpoint of Stable Diffusion 1.5; the others likewise."""
    weights = unet_weights(comfy.supported_models.SD15, UNET)
    weights |= clip_l_weights("cond_stage_model.transformer.text_model.")
    return weights | autoencoder_weights("first_stage_model.")


def sd2():
    weights = unet_weights(comfy.supported_models.SD20, SD2_UNET)
    weights |= open_clip_weights("cond_stage_model.model.", 1024, 24)
    return weights | autoencoder_weights("first_stage_model.")


def sdxl():
    weights = unet_weights(comfy.supported_models.SDXL, SDXL_UNET)
    weights |= clip_l_weights("conditioner.embedders.0.transformer.text_model.")
    weights |= open_clip_weights("conditioner.embedders.1.model.", 1280, 32)
    return weights | autoencoder_weights("first_stage_model.")


def flux(**changes):
    """The four files of FLUX.1 dev by name. changes: of its configuration, such as depth."""
    published = PUBLISHED["FLUX.1 dev"]
    models = build(replace(published, config={**published.config, **changes}))
    encoders = models.clip.cond_stage_model
    vae = {k: v for k, v in autoencoder_weights("", 16).items() if "quant_conv" not in k}
    return {
        "unet": random_weights("", models.model.model.diffusion_model),
        "clip_l": random_weights("", encoders.clip_l.transformer),
        "t5xxl": random_weights("", encoders.t5xxl.transformer),
        "ae": vae,
    }


if __name__ == "__main__":
    kind, place = sys.argv[1:3]
    if kind == "flux":
        for name, weights in flux(**{k: int(v) for k, v in (a.split("=") for a in sys.argv[3:])}).items():
            save_file(weights, Path(place) / f"flux_{name}.safetensors")
    else:
        save_file({"sd15": sd15, "sdxl": sdxl}[kind](), place)
