"""What a step of training computes at the true shapes of large models, counted without computing it.

    python benchmarks/flops.py --host ~/ComfyUI                  all models, some minutes on one core
    python benchmarks/flops.py --host ~/ComfyUI --only Flux

Needs a folder with the host's `comfy` package and what that imports, and no GPU. Counts the multiplications and
additions of matrix products, convolutions and attention (torch.utils.flop_counter), which hold for every machine.
Prints the table of docs/speed.md. bare: forward and backward of the denoiser alone, from the same inputs to the
conditioning, checkpointed where ours is. whole prompt: the text encoders if what stands in front of every caption were
computed in every step, and their share of the step then.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu import Models, build, plugin, start_host
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

CPU = torch.device("cpu")
TERA = 1e12


@dataclass
class Work:
    """FLOPs of a step by its parts: text encoders (forward and backward), denoiser (forward; backward)."""

    encoding: int = 0
    denoising: int = 0
    gradient: int = 0

    @property
    def bare(self) -> int:
        return self.denoising + self.gradient

    @property
    def all(self) -> int:
        return self.encoding + self.bare

    @property
    def share(self) -> str:
        return f"{100 * self.encoding / self.all:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--only", help="a part of the names of models")
    parser.add_argument("--batch-size", type=int, default=1)
    args = parser.parse_args()
    start_host(args.host.expanduser(), cpu=True)
    print(
        "| model, samples | blocks | denoiser forward | its backward | encoders | share | ours / bare | whole prompt |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, (resolution, make) in MODELS.items():
        if args.only and args.only not in name:
            continue
        models = make()
        prefixes = plugin("nodes.host.frozen_prefix").prompt_prefixes(models.clip)
        for way in ("once", "twice"):
            work = counted(models, resolution, args.batch_size, way == "twice")
            whole = counted(models, resolution, args.batch_size, way == "twice", whole=True) if prefixes else None
            told = [f"{name}, {resolution} px, {args.batch_size}", way]
            told += [f"{part / TERA:.2f}" for part in (work.denoising, work.gradient, work.encoding)]
            told += [work.share, f"{work.all / work.bare:.3f}"]
            told.append(f"{whole.encoding / TERA:.2f}, {whole.share}" if whole else "")
            print(f"| {' | '.join(told)} |", flush=True)


def counted(models: Models, resolution: int, samples: int, twice: bool, whole: bool = False) -> Work:
    """A step of so many samples with different captions, not the first of a run. twice: with checkpointing; whole: with
    what stands in front of the captions."""
    plan, count = plugin("ti_engine.memory_plan"), plugin("nodes.host.memory_count")
    way = plan.Recompute.EVERYTHING if twice else plan.Recompute.NOTHING
    channels = models.model.model.latent_format.latent_channels
    backend = plugin("nodes.host.backend").HostBackend(*models, SimpleNamespace(latent_channels=channels))
    blocks = replace(backend._blocks, prefixes={}) if whole else backend._blocks
    shape = latent_shape(models, samples, resolution)
    work = Work()

    def step() -> None:
        captions = [f"a photo of a S* , {number}" for number in range(samples)]
        vectors = {key: torch.empty(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}
        backend.encode(captions[:1], "S*", vectors, differentiable=False)
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            encoded = backend.encode(captions, "S*", vectors, differentiable=True)
            latents, sigma = torch.empty(*shape), torch.ones(samples)
            work.encoding = counter.get_total_flops()
            loss = backend.denoise(latents, sigma, encoded.cond).sum()
            work.denoising = counter.get_total_flops() - work.encoding
            loss.backward()
            work.gradient = counter.get_total_flops() - work.encoding - work.denoising
            encoded.backward()
            work.encoding = counter.get_total_flops() - work.bare

    if count.counted_parts([models.model, models.clip.patcher], [step], blocks.recomputed(way)) is None:
        raise RuntimeError("This step cannot be counted; the host's log says why.")
    return work


def latent_shape(models: Models, samples: int, resolution: int) -> list[int]:
    latent = models.model.model.latent_format
    side = resolution // getattr(latent, "spacial_downscale_ratio", 8)
    frames = [1] if getattr(latent, "latent_dimensions", 2) == 3 else []
    return [samples, latent.latent_channels, *frames, side, side]


def transformer(family: str, module: str, tokenizer: str, encoder: Callable[[Any], Any], **settings: Any) -> Models:
    """A model of the host's class `family`, and a CLIP of what the text encoders' `module` has. No weights are made."""
    families = importlib.import_module("comfy.supported_models")
    config = getattr(families, family)(settings)
    config.set_inference_dtype(torch.bfloat16, None)
    base = config.get_model({}, "", device=torch.device("meta")).eval()
    base.device = CPU
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher(base, load_device=CPU, offload_device=CPU)
    encoders = importlib.import_module(f"comfy.text_encoders.{module}")
    target = importlib.import_module("comfy.supported_models_base").ClipTarget
    parts = target(getattr(encoders, tokenizer), encoder(encoders))
    options = {"initial_device": CPU, "dtype": torch.bfloat16}
    return Models(patcher, importlib.import_module("comfy.sd").CLIP(parts, model_options=options))


def sd35(depth: int) -> Models:
    width = 64 * depth
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": width}}
    return transformer(
        "SD3", "sd3_clip", "SD3Tokenizer", lambda te: te.sd3_clip(clip_l=True, clip_g=True, t5=True),
        in_channels=16, patch_size=2, out_channels=16, depth=depth, input_size=None, adm_in_channels=2048,
        num_patches=36864, pos_embed_max_size=192, pos_embed_scaling_factor=None, context_embedder_config=embedder,
        qk_norm="rms", x_block_self_attn_layers=[],
    )  # fmt: skip


def flux() -> Models:
    params = importlib.import_module("comfy.ldm.flux.model").FluxParams
    newer: dict[str, Any] = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(params)} else {}
    return transformer(
        "Flux", "flux", "FluxTokenizer", lambda te: te.flux_clip(),
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
        mlp_ratio=4.0, num_heads=24, depth=19, depth_single_blocks=38, axes_dim=[16, 56, 56], theta=10000,
        patch_size=2, qkv_bias=True, guidance_embed=True, **newer,
    )  # fmt: skip


def klein(tokenizer: str, encoder: str, context: int, width: int, double: int, single: int) -> Models:
    return transformer(
        "Flux2", "flux", tokenizer, lambda te: te.klein_te(model_type=encoder),
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=3 * context,
        hidden_size=width, mlp_ratio=3.0, num_heads=width // 128, depth=double, depth_single_blocks=single,
        axes_dim=[32, 32, 32, 32], theta=2000, patch_size=1, qkv_bias=False, guidance_embed=False,
        global_modulation=True, mlp_silu_act=True, ops_bias=False, default_ref_method="index", ref_index_scale=10.0,
        txt_ids_dims=[3],
    )  # fmt: skip


def z_image() -> Models:
    return transformer(
        "ZImage", "z_image", "ZImageTokenizer", lambda te: te.te(),
        image_model="lumina2", patch_size=2, in_channels=16, dim=3840, cap_feat_dim=2560, n_layers=30, qk_norm=True,
        n_heads=30, n_kv_heads=30, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512], rope_theta=256.0,
        ffn_dim_multiplier=8 / 3, z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32,
    )  # fmt: skip


def lumina2() -> Models:
    return transformer(
        "Lumina2", "lumina2", "LuminaTokenizer", lambda te: te.te(),
        image_model="lumina2", patch_size=2, in_channels=16, dim=2304, cap_feat_dim=2304, n_layers=26, qk_norm=True,
        n_heads=24, n_kv_heads=8, axes_dims=[32, 32, 32], axes_lens=[300, 512, 512], rope_theta=10000.0,
        ffn_dim_multiplier=4.0,
    )  # fmt: skip


def qwen_image() -> Models:
    return transformer(
        "QwenImage", "qwen_image", "QwenImageTokenizer", lambda te: te.te(),
        image_model="qwen_image", in_channels=64, num_layers=60,
    )  # fmt: skip


def hunyuan_video_15() -> Models:
    encoders = importlib.import_module("comfy.text_encoders.hunyuan_image")
    return transformer(
        "HunyuanVideo15", "hunyuan_video", "HunyuanVideo15Tokenizer", lambda _: encoders.te(),
        image_model="hunyuan_video", in_channels=65, out_channels=32, patch_size=[1, 1, 1], hidden_size=2048,
        num_heads=16, depth=54, depth_single_blocks=0, mlp_ratio=4.0, axes_dim=[16, 56, 56], theta=256, qkv_bias=True,
        vec_in_dim=None, context_in_dim=3584, guidance_embed=False, byt5=True, vision_in_dim=1152, meanflow=False,
        meanflow_sum=True, use_cond_type_embedding=True,
    )  # fmt: skip


def kandinsky(family: str, tokenizer: str, **settings: Any) -> Models:
    return transformer(
        family, "kandinsky5", tokenizer, lambda te: te.te(), image_model="kandinsky5", time_dim=512, **settings
    )


def unet(family: str) -> Models:
    return build(family, torch.bfloat16, small=False, filled=False)


def cpu_attention() -> dict[Any, Callable[..., int]]:
    """What torch's counter does not know: the fused attention of a CPU."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(given: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(given, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


CPU_ATTENTION = cpu_attention()
MODELS: dict[str, tuple[int, Callable[[], Models]]] = {
    "SD1.5": (512, lambda: unet("SD1.5")),
    "SDXL": (1024, lambda: unet("SDXL")),
    "SD3.5 medium": (1024, lambda: sd35(24)),
    "SD3.5 large": (1024, lambda: sd35(38)),
    "Flux dev": (1024, flux),
    "Flux.2 Klein 4B": (1024, lambda: klein("KleinTokenizer", "qwen3_4b", 2560, 3072, 5, 20)),
    "Flux.2 Klein 9B": (1024, lambda: klein("KleinTokenizer8B", "qwen3_8b", 4096, 4096, 8, 24)),
    "Lumina 2": (1024, lumina2),
    "Z-Image": (1024, z_image),
    "Qwen-Image": (1024, qwen_image),
    "Qwen-Image, small": (512, qwen_image),
    "Z-Image, small": (512, z_image),
    "HunyuanVideo 1.5": (512, hunyuan_video_15),
    "Kandinsky 5 lite": (
        512,
        lambda: kandinsky(
            "Kandinsky5",
            "Kandinsky5Tokenizer",
            model_dim=1792,
            ff_dim=7168,
            visual_embed_dim=132,
            num_text_blocks=2,
            num_visual_blocks=32,
            axes_dims=(16, 24, 24),
        ),
    ),
    "Kandinsky 5 image lite": (
        1024,
        lambda: kandinsky(
            "Kandinsky5Image",
            "Kandinsky5TokenizerImage",
            model_dim=2560,
            ff_dim=10240,
            visual_embed_dim=64,
            num_text_blocks=2,
            num_visual_blocks=50,
            axes_dims=(32, 48, 48),
            rope_scale_factor=(1.0, 1.0, 1.0),
        ),
    ),
}


if __name__ == "__main__":
    main()
