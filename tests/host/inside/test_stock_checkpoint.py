"""A checkpoint file of SD1.5's true shape, with random weights, through the host's own loader."""

from __future__ import annotations

import comfy.model_base
import comfy.supported_models
import folder_paths
import pytest
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.sd1_clip import SD1ClipModel
from in_host import plugin
from safetensors.torch import save_file
from test_families import snapshot

import nodes

UNET = dict(
    use_checkpoint=False, image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[2] * 4,
    channel_mult=[1, 2, 4, 4], transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[1] * 9 + [0] * 3,
    transformer_depth_middle=1, context_dim=768, use_spatial_transformer=True, use_linear_in_transformer=False,
    adm_in_channels=None, use_temporal_attention=False, legacy=False, num_heads=8, num_head_channels=-1,
)  # fmt: skip
AUTOENCODER = dict(
    double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4],
    num_res_blocks=2, attn_resolutions=[], dropout=0.0,
)  # fmt: skip


def random_weights(prefix, module):
    """Names and shapes of `module`, which is on the meta device, with half-precision noise that keeps signals alive."""
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(len(prefix)))
    weights = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = block.repeat(-(-tensor.numel() // len(block)))[: tensor.numel()].view(tensor.shape)
            flat = tensor.ndim < 2
            scale = 0.05 if flat else 0.7 * tensor[0].numel() ** -0.5
            weights[prefix + name] = (noise * scale + (flat and name.endswith("weight"))).half().contiguous()
    return weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The name of a file that the loader finds."""
    meta = torch.device("meta")
    config = comfy.supported_models.SD15(dict(UNET))
    config.set_inference_dtype(torch.float16, None)
    unet = comfy.model_base.BaseModel(config, device=meta).diffusion_model
    text_encoder = SD1ClipModel(device=meta, dtype=torch.float16).clip_l.transformer.text_model
    with meta:
        autoencoder = AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)
    weights = random_weights("model.diffusion_model.", unet)
    weights |= random_weights("cond_stage_model.transformer.text_model.", text_encoder)
    weights |= random_weights("first_stage_model.", autoencoder)
    folder = tmp_path_factory.mktemp("checkpoints")
    save_file(weights, folder / "random-sd15.safetensors")
    folder_paths.add_model_folder_path("checkpoints", str(folder))
    folder_paths.filename_list_cache.clear()
    yield "random-sd15.safetensors"
    (folder / "random-sd15.safetensors").unlink()  # 2 GB


def test_a_word_is_trained_saved_and_used(checkpoint, tmp_path):
    with torch.inference_mode():
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[:3]
        loaded = type("Models", (), {"model": model, "clip": clip})
        before = {key: (tensor, float(bits.double().sum())) for key, (tensor, bits) in snapshot(loaded).items()}
        pictures = [torch.rand(3, 96, 64, 3, generator=torch.Generator().manual_seed(0))]
        settings = dict(
            steps=2, learning_rate=0.01, batch_size=1, num_vectors=2, initial_words="cat", placeholder="S*",
            what="object", seed=1, resolution=64, preview_every=0,
        )  # fmt: skip
        sockets = dict(model=[model], clip=[clip], vae=[vae], images=pictures)
        word, _, _, report = (
            plugin("nodes.train").Train.execute(**sockets, **{k: [v] for k, v in settings.items()}).args
        )
        assert "SD15, clip_l, epsilon" in report
        rows = word.vectors["clip_l"]
        assert rows.shape == (2, 768) and bool(rows.isfinite().all())
        for key, (tensor, bits) in snapshot(loaded).items():
            assert before[key][0] is tensor and before[key][1] == float(bits.double().sum()), key

        plugin("ti_engine.files").save_embedding(word, tmp_path / "word.safetensors")
        clip.tokenizer.clip_l.embedding_directory = [str(tmp_path)]
        ((ours, _),), _ = plugin("nodes.host.words").encode_prompt(clip, "a photo of S*", [word])
        ((theirs, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("a photo of embedding:word"))
        assert torch.equal(ours, theirs)
