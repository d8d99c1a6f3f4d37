"""Pipelines as single files in the key layouts of the models' authors: the way back from diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def checkpoint_of(kind: str, pipeline: Any) -> dict[str, Tensor]:
    """A pipeline of `small_pipelines` as its authors publish it; Flux as ComfyUI saves it, with all its parts."""
    tensors: dict[str, Tensor] = {}

    def put(prefix: str, state: State) -> None:
        tensors.update({prefix + key: value.contiguous().clone() for key, value in state.items()})

    if kind == "sd1":
        put("model.diffusion_model.", unet(pipeline.unet))
        put("first_stage_model.", autoencoder(pipeline.vae))
        put("cond_stage_model.transformer.", clip(pipeline.text_encoder))
    elif kind == "sdxl":
        put("model.diffusion_model.", unet(pipeline.unet))
        put("first_stage_model.", autoencoder(pipeline.vae))
        put("conditioner.embedders.0.transformer.", clip(pipeline.text_encoder))
        put("conditioner.embedders.1.model.", open_clip(pipeline.text_encoder_2))
    elif kind == "sd3":
        put("model.diffusion_model.", sd3(pipeline.transformer))
        put("first_stage_model.", autoencoder(pipeline.vae))
        put("text_encoders.clip_l.transformer.", clip(pipeline.text_encoder, projection=False))
        put("text_encoders.clip_g.transformer.", clip(pipeline.text_encoder_2))
        if pipeline.text_encoder_3 is not None:
            put("text_encoders.t5xxl.transformer.", t5(pipeline.text_encoder_3))
    else:
        put("model.diffusion_model.", flux(pipeline.transformer))
        put("vae.", autoencoder(pipeline.vae))
        put("text_encoders.clip_l.transformer.", clip(pipeline.text_encoder))
        put("text_encoders.t5xxl.transformer.", t5(pipeline.text_encoder_2))
    return tensors


def unet(network: Any) -> dict[str, Tensor]:
    """Stable Diffusion's, after latent diffusion: numbered blocks, each of a residual block, attention, resampling."""
    layers, state = int(network.config.layers_per_block), network.state_dict()
    attends = {int(key.split(".")[1]) for key in state if re.match(r"up_blocks\.\d+\.attentions", key)}

    def block(match: re.Match[str]) -> str:
        side, number, what, layer = match[1], int(match[2]), match[3], int(match[4])
        first = number * (layers + 1) + (side == "down")  # input_blocks.0 is the first convolution
        name = "input_blocks" if side == "down" else "output_blocks"
        if what == "downsamplers":
            return f"{name}.{first + layers}.0.op"
        if what == "upsamplers":
            return f"{name}.{first + layers}.{2 if number in attends else 1}.conv"
        return f"{name}.{first + layer}.{0 if what == 'resnets' else 1}"

    renamed = {}
    for key, value in state.items():
        key = re.sub(
            r"(down|up)_blocks\.(\d+)\.(resnets|attentions|(?:down|up)samplers)\.(\d+)(?:\.conv(?=\.))?", block, key
        )
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", key)
        key = key.replace("mid_block.attentions.0", "middle_block.1")
        for ours, theirs in (
            (".norm1.", ".in_layers.0."), (".conv1.", ".in_layers.2."), (".norm2.", ".out_layers.0."),
            (".conv2.", ".out_layers.3."), ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
        ):  # fmt: skip
            key = key if "transformer_blocks" in key else key.replace(ours, theirs)
        key = re.sub(r"^time_embedding\.linear_(\d)", lambda m: f"time_embed.{2 * int(m[1]) - 2}", key)
        key = re.sub(r"^add_embedding\.linear_(\d)", lambda m: f"label_emb.0.{2 * int(m[1]) - 2}", key)
        key = re.sub(r"^conv_in\.", "input_blocks.0.0.", key)
        key = re.sub(r"^conv_norm_out\.", "out.0.", key)
        renamed[re.sub(r"^conv_out\.", "out.2.", key)] = value
    return renamed


def autoencoder(network: Any) -> dict[str, Tensor]:
    """Latent diffusion's; its attention is convolutions of one pixel, and its decoder counts from the picture."""
    last, renamed = len(network.config.up_block_types) - 1, {}
    for key, value in network.state_dict().items():
        key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", key)
        key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions" in key:
            key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            key = re.sub(r"to_([qkv])\.", r"\1.", key).replace("to_out.0", "proj_out")
            value = value[:, :, None, None] if value.ndim == 2 else value
        renamed[key] = value
    return renamed


def clip(network: Any, projection: bool = True) -> dict[str, Tensor]:
    """As transformers called it from the beginning."""
    state = {key: value for key, value in network.state_dict().items() if projection or "text_projection" not in key}
    return {key if "text_" in key else f"text_model.{key}": value for key, value in state.items()}


def open_clip(network: Any) -> dict[str, Tensor]:
    """OpenCLIP's: queries, keys and values of a layer are one matrix, the projection is turned."""
    renamed: dict[str, Tensor] = {}
    state = {key.removeprefix("text_model."): value for key, value in network.state_dict().items()}
    for key, value in state.items():
        if ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            value = torch.cat([state[key.replace("q_proj", f"{one}_proj")] for one in "qkv"])
            key = key.replace("q_proj.", "in_proj_")
        for ours, theirs in (
            ("encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"), ("self_attn", "attn"), ("fc1", "c_fc"),
            ("fc2", "c_proj"), ("final_ln_", "ln_final"), ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
        ):  # fmt: skip
            key = key.replace(ours, theirs)
        turned = key == "text_projection.weight"
        renamed["text_projection" if turned else key] = value.T if turned else value
    return renamed


def t5(network: Any) -> dict[str, Tensor]:
    """With its token table once, as ComfyUI saves it."""
    return {key: value for key, value in network.state_dict().items() if "embed_tokens" not in key}


def sd3(network: Any) -> dict[str, Tensor]:
    """Stability's, with both streams of a block side by side."""
    state, last = network.state_dict(), int(network.config.num_layers) - 1
    renamed = _joined(state, {"attn.to_{}": "x_block.attn.qkv", "attn.add_{}_proj": "context_block.attn.qkv"})
    for key, value in state.items():
        if re.search(r"\.(to_|add_)[qkv]", key):
            continue
        if key.startswith(("norm_out.", f"transformer_blocks.{last}.norm1_context.")):
            value = torch.cat(list(value.chunk(2))[::-1])  # shift before scale
        for ours, theirs in (
            ("norm1_context.linear", "context_block.adaLN_modulation.1"),
            ("norm1.linear", "x_block.adaLN_modulation.1"),
            ("attn.norm_added_", "context_block.attn.ln_"), ("attn.norm_", "x_block.attn.ln_"),
            ("attn.to_out.0", "x_block.attn.proj"), ("attn.to_add_out", "context_block.attn.proj"),
            ("ff_context.net.0.proj", "context_block.mlp.fc1"), ("ff_context.net.2", "context_block.mlp.fc2"),
            ("ff.net.0.proj", "x_block.mlp.fc1"), ("ff.net.2", "x_block.mlp.fc2"),
            ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
            ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
            ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
            ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"), ("pos_embed.proj", "x_embedder.proj"),
            ("pos_embed.pos_embed", "pos_embed"), ("norm_out.linear", "final_layer.adaLN_modulation.1"),
            ("proj_out", "final_layer.linear"),
        ):  # fmt: skip
            key = key.replace(ours, theirs) if ours in key else key
        renamed[key] = value
    return {key.replace("transformer_blocks", "joint_blocks"): value for key, value in renamed.items()}


def flux(network: Any) -> dict[str, Tensor]:
    """Black Forest Labs'; a single block computes its queries, keys, values and first layer in one."""
    state = network.state_dict()
    renamed = _joined(state, {"attn.to_{}": "img_attn.qkv", "attn.add_{}_proj": "txt_attn.qkv"})
    for key, value in state.items():
        if key.startswith("single"):
            if re.search(r"\.to_[kv]|proj_mlp", key):
                continue
            if ".to_q." in key:
                parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
                value = torch.cat([state[key.replace("attn.to_q", part)] for part in parts])
                key = key.replace("attn.to_q", "linear1")
            key = key.replace("attn.norm_q.weight", "norm.query_norm.scale")
            key = key.replace("attn.norm_k.weight", "norm.key_norm.scale")
            key = key.replace("norm.linear", "modulation.lin").replace("proj_out", "linear2")
            renamed[key.replace("single_transformer_blocks", "single_blocks")] = value
            continue
        if re.search(r"\.(to_|add_)[qkv]", key):
            continue
        if key.startswith("norm_out."):
            value = torch.cat(list(value.chunk(2))[::-1])  # shift before scale
        for ours, theirs in (
            ("norm1_context.linear", "txt_mod.lin"), ("norm1.linear", "img_mod.lin"),
            ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
            ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"),
            ("attn.norm_q.weight", "img_attn.norm.query_norm.scale"),
            ("attn.norm_k.weight", "img_attn.norm.key_norm.scale"),
            ("attn.to_out.0", "img_attn.proj"), ("attn.to_add_out", "txt_attn.proj"),
            ("ff_context.net.0.proj", "txt_mlp.0"), ("ff_context.net.2", "txt_mlp.2"),
            ("ff.net.0.proj", "img_mlp.0"), ("ff.net.2", "img_mlp.2"),
            ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
            ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
            ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
            ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
            ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
            ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
            ("context_embedder", "txt_in"), ("x_embedder", "img_in"),
            ("norm_out.linear", "final_layer.adaLN_modulation.1"), ("proj_out", "final_layer.linear"),
        ):  # fmt: skip
            key = key.replace(ours, theirs) if ours in key else key
        renamed[key.replace("transformer_blocks", "double_blocks")] = value
    return {key.replace("transformer_blocks", "double_blocks"): value for key, value in renamed.items()}


def _joined(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Queries, keys and values of the double blocks as one."""
    joined = {}
    for ours, theirs in names.items():
        first = ours.format("q")
        for key in state:
            if not key.startswith("single") and f".{first}." in key:
                parts = [state[key.replace(first, ours.format(one))] for one in "qkv"]
                joined[key.replace(first, theirs)] = torch.cat(parts)
    return joined
