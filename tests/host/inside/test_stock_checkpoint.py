"""Checkpoint files of true shape, with random weights, through the host's own loader.

SD1.5's always; SD2's (3 GB) and SDXL's (7 GB) with TI_TRUE_SHAPES=1 in the environment, one after the other.
"""

from __future__ import annotations

import os

import comfy.cli_args
import comfy.model_base
import comfy.supported_models
import folder_paths
import pytest
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.sd1_clip import SD1ClipModel
from in_host import plugin
from safetensors.torch import save_file

import nodes

UNET = dict(
    use_checkpoint=False, image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[2] * 4,
    channel_mult=[1, 2, 4, 4], transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[1] * 9 + [0] * 3,
    transformer_depth_middle=1, context_dim=768, use_spatial_transformer=True, use_linear_in_transformer=False,
    adm_in_channels=None, use_temporal_attention=False, legacy=False, num_heads=8, num_head_channels=-1,
)  # fmt: skip
SD2_UNET = dict(use_linear_in_transformer=True, context_dim=1024, num_heads=-1, num_head_channels=64)
SDXL_UNET = dict(
    num_res_blocks=[2] * 3, channel_mult=[1, 2, 4], transformer_depth=[0, 0, 2, 2, 10, 10],
    transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10, context_dim=2048,
    use_linear_in_transformer=True, adm_in_channels=2816, num_classes="sequential", num_heads=-1, num_head_channels=64,
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


def unet_of(family, config):
    meta = torch.device("meta")
    made = family(dict(config))
    made.set_inference_dtype(torch.float16, None)
    return comfy.model_base.BaseModel(made, device=meta).diffusion_model


def sd1():
    text_encoder = SD1ClipModel(device="meta", dtype=torch.float16).clip_l.transformer.text_model
    weights = random_weights("model.diffusion_model.", unet_of(comfy.supported_models.SD15, UNET))
    return weights | random_weights("cond_stage_model.transformer.text_model.", text_encoder)


def sd2():
    weights = random_weights("model.diffusion_model.", unet_of(comfy.supported_models.SD20, UNET | SD2_UNET))
    return weights | open_clip_weights("cond_stage_model.model.", 1024, 24)


def sdxl():
    text_encoder = SD1ClipModel(device="meta", dtype=torch.float16).clip_l.transformer.text_model
    weights = random_weights("model.diffusion_model.", unet_of(comfy.supported_models.SDXL, UNET | SDXL_UNET))
    weights |= random_weights("conditioner.embedders.0.transformer.text_model.", text_encoder)
    return weights | open_clip_weights("conditioner.embedders.1.model.", 1280, 32)


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint and gives the name under which the loader finds it."""
    written = []

    def write(weights):
        with torch.device("meta"):
            autoencoder = AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)
        written.append(tmp_path / "random.safetensors")
        save_file(weights | random_weights("first_stage_model.", autoencoder), written[0])
        folder_paths.add_model_folder_path("checkpoints", str(tmp_path))
        folder_paths.filename_list_cache.clear()
        return written[0].name

    yield write
    for file in written:
        file.unlink()  # 2 GB and more


def bits_of(model, clip):
    """Every parameter of both: the object and the sum of its values, which a change of any would change."""
    roots = (model.model, clip.cond_stage_model)
    return [(tensor, float(tensor.double().sum())) for root in roots for tensor in root.parameters()]


def untouched(before, model, clip):
    after = bits_of(model, clip)
    return all(a is b and x == y for (a, x), (b, y) in zip(before, after, strict=True))


def same_in_the_hosts_own_syntax(clip, word, folder):
    plugin("ti_engine.files").save_embedding(word, folder / "word.safetensors")
    for tokenizer in vars(clip.tokenizer).values():
        if hasattr(tokenizer, "embedding_directory"):
            tokenizer.embedding_directory = [str(folder)]
    ((ours, _),), _ = plugin("nodes.host.words").encode_prompt(clip, "a photo of S*", [word])
    ((theirs, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("a photo of embedding:word"))
    return torch.equal(ours, theirs)


def test_a_word_is_trained_saved_and_used(checkpoint, tmp_path):
    with torch.inference_mode():
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint(sd1()))[:3]
        before = bits_of(model, clip)
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
        assert untouched(before, model, clip)
        assert same_in_the_hosts_own_syntax(clip, word, tmp_path)


@pytest.mark.skipif("TI_TRUE_SHAPES" not in os.environ, reason="takes minutes and 10 GB: set TI_TRUE_SHAPES=1")
@pytest.mark.parametrize(
    ("weights", "says", "widths"),
    [
        (sd2, "SD20, clip_h, epsilon", {"clip_h": 1024}),
        (sdxl, "SDXL, clip_l + clip_g, epsilon", {"clip_l": 768, "clip_g": 1280}),
    ],
)
def test_a_step_of_larger_models(weights, says, widths, checkpoint, tmp_path, monkeypatch):
    engine = plugin("ti_engine")
    monkeypatch.setattr(comfy.cli_args.args, "fp16_unet", True)  # as on a card: in float32 SDXL alone takes 10 GB
    with torch.inference_mode():
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint(weights()))[:3]
        before = bits_of(model, clip)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(model, clip, vae)
        assert says in backend.description
        config = engine.TrainConfig(
            steps=1, batch_size=1, resolution=64, initial_words="cat", evaluate_every=0, warmup_steps=0
        )
        picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
        dataset = engine.encode_training_set(backend, [picture], config)
        with backend.lent(1, 64):
            *_, last = engine.train(backend, dataset, config)
    start, end = last.record.trajectory
    assert last.record.stopped is None and {key: rows.shape[1] for key, rows in end.items()} == widths
    assert all(bool(rows.isfinite().all()) and not torch.equal(rows, start[key]) for key, rows in end.items())
    with torch.inference_mode():
        assert untouched(before, model, clip)
        assert same_in_the_hosts_own_syntax(clip, last.record.embedding(1), tmp_path)
