"""Diffusers' own pipelines of every family, with a few thousand random weights each and tokenizers made on the spot."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from small_models import small_autoencoder, small_scheduler, small_unet
from transformers import (
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

CLIP_L, CLIP_G, T5, BERT = 16, 24, 40, 32  # widths; as in the real models, no two of a pipeline are the same
PROJECTED = {CLIP_L: CLIP_L, CLIP_G: 20}
KINDS = ("sdxl", "sd3", "flux", "ldm")
WORDS = ["a", "photo", "of", "red", "circle", "cat", "the", "on", "left", "rendering", "background"]
MARKS = list(",.'()*")
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]


def build_pipeline(kind: str, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    """One of KINDS, or "sd1". more: `scheduler`; `t5=False` for SD3; `guidance_embeds`, `true_width` for Flux."""
    torch.manual_seed(0)
    pipeline = {"sd1": _sd1, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux, "ldm": _ldm}[kind](**more)
    for module in modules_of(pipeline).values():
        module.train(False)
        if dtype != torch.float32:  # not through diffusers' own `to`, which warns of what is not there
            torch.nn.Module.to(module, dtype)
    return pipeline


def modules_of(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def clip_tokenizer(**more: Any) -> Any:
    entries = [*LETTERS, *MARKS, *[f"{end}</w>" for end in (*LETTERS, *MARKS)]]
    merges = []
    for word in (word for word in WORDS if len(word) > 1):
        for length in range(2, len(word)):
            entries.append(word[:length])
            merges.append((word[: length - 1], word[length - 1]))
        entries.append(f"{word}</w>")
        merges.append((word[:-1], f"{word[-1]}</w>"))
    entries = [*dict.fromkeys(entries), "!", "<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: index for index, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges)), model_max_length=77, **more)


def t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS] + [(mark, -3.0) for mark in (*LETTERS, *MARKS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def bert_tokenizer() -> Any:
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *MARKS, *LETTERS]
    return BertTokenizer(vocab={entry: index for index, entry in enumerate(dict.fromkeys(entries))})


def clip_encoder(width: int, tokenizer: Any, projected: bool = True) -> Any:
    """Its settings give 2 for the end token, as the published files do: then CLIP takes the greatest id for it."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=PROJECTED.get(width, 20), max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5_encoder(tokenizer: Any) -> Any:
    config = T5Config(
        vocab_size=len(tokenizer), d_model=T5, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config)


def flow_scheduler(**more: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)


def _sd1() -> Any:
    tokenizer = clip_tokenizer()
    parts: dict[str, Any] = dict(
        vae=small_autoencoder(),
        text_encoder=clip_encoder(CLIP_L, tokenizer, projected=False),
        tokenizer=tokenizer,
        unet=small_unet(CLIP_L),
        scheduler=small_scheduler(diffusers.PNDMScheduler, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
    )
    return diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)


def _sdxl(scheduler: Any = None, widths: tuple[int, int] = (CLIP_L, CLIP_G)) -> Any:
    first, second = clip_tokenizer(), clip_tokenizer(pad_token="!")
    size = 8
    unet = diffusers.UNet2DConditionModel(
        sample_size=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=sum(widths),
        attention_head_dim=2, norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=size, projection_class_embeddings_input_dim=6 * size + PROJECTED[CLIP_G],
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=small_autoencoder(),
        text_encoder=clip_encoder(widths[0], first, projected=False),
        text_encoder_2=clip_encoder(widths[1], second),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet,
        scheduler=scheduler or small_scheduler(diffusers.EulerDiscreteScheduler, steps_offset=1),
    )


def _sd3(scheduler: Any = None, t5: bool = True, qk_norm: str | None = "rms_norm") -> Any:
    first, second, third = clip_tokenizer(), clip_tokenizer(pad_token="!"), t5_tokenizer()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=4, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=T5, caption_projection_dim=16,
        pooled_projection_dim=sum(PROJECTED.values()), pos_embed_max_size=8, qk_norm=qk_norm,
    )  # fmt: skip
    parts: dict[str, Any] = dict(
        vae=flow_autoencoder(),
        text_encoder=clip_encoder(CLIP_L, first),
        text_encoder_2=clip_encoder(CLIP_G, second),
        text_encoder_3=t5_encoder(third) if t5 else None,
        tokenizer=first,
        tokenizer_2=second,
        tokenizer_3=third if t5 else None,
        transformer=transformer,
        scheduler=scheduler or flow_scheduler(shift=3.0),
    )
    return diffusers.StableDiffusion3Pipeline(**parts)


def _flux(scheduler: Any = None, guidance_embeds: bool = True, true_width: bool = False) -> Any:
    first, second = clip_tokenizer(), t5_tokenizer()
    width: dict[str, Any] = dict(attention_head_dim=16, num_attention_heads=2, axes_dims_rope=(4, 4, 8))
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, joint_attention_dim=T5,
        pooled_projection_dim=CLIP_L, guidance_embeds=guidance_embeds, **({} if true_width else width),
    )  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=scheduler or flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=flow_autoencoder(),
        text_encoder=clip_encoder(CLIP_L, first, projected=False),
        tokenizer=first,
        text_encoder_2=t5_encoder(second),
        tokenizer_2=second,
        transformer=transformer,
    )


def _ldm(scheduler: Any = None, quantised: bool = False, width: int = BERT) -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    tokenizer = bert_tokenizer()
    bert = LDMBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=77, encoder_layers=2, encoder_ffn_dim=32,
        encoder_attention_heads=2, head_dim=8, d_model=width,
    )  # fmt: skip
    return diffusers.LDMTextToImagePipeline(
        vqvae=quantised_autoencoder() if quantised else small_autoencoder(),
        bert=LDMBertModel(bert),
        tokenizer=tokenizer,
        unet=small_unet(width),
        scheduler=scheduler or small_scheduler(diffusers.DDIMScheduler, clip_sample=False),
    )


def flow_autoencoder() -> Any:
    """16 channels, shifted and scaled."""
    settings: dict[str, Any] = dict(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=4, scaling_factor=0.36,
        shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return diffusers.AutoencoderKL(**settings)


def quantised_autoencoder() -> Any:
    settings: dict[str, Any] = dict(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4, num_vq_embeddings=16,
    )  # fmt: skip
    return diffusers.VQModel(**settings)
