"""Checkpoint files in their authors' layouts, opened with a diffusers folder and no network."""

from __future__ import annotations

import json
import shutil
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from single_files import checkpoint_of
from small_pipelines import T5, build_pipeline, modules_of

from ti_engine.cli import main
from ti_engine.files import load_embedding
from ti_engine.standalone import DiffusersBackend, load_model
from ti_engine.standalone.text import Conditioning
from ti_engine.training.loss import sample_losses
from ti_engine.training.samples import Samples

WIDTHS = {"clip_l": 16, "clip_g": 24, "t5xxl": 40}
NETWORK = {"sdxl": "unet", "sd3": "transformer", "flux": "transformer"}
QUICK = ["--steps", "1", "--batch-size", "2", "--resolution", "64", "--evaluate-every", "0", "--initial-words", "cat"]
Output = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("in_folder")


def pipeline_of(kind: str, **more: Any) -> Any:
    """In float32. SD3's authors have no projection behind clip_l."""
    pipeline = build_pipeline(kind, torch.float32, **more)
    if kind == "sd3":
        torch.nn.init.eye_(pipeline.text_encoder.text_projection.weight)
    return pipeline


def write(kind: str, pipeline: Any, without: tuple[str, ...] = (), dtype: torch.dtype = torch.float32) -> None:
    """`file.safetensors` without the keys that begin so, and `folder` with the settings and no weights."""
    tensors = {key: t for key, t in checkpoint_of(kind, pipeline).items() if not key.startswith(without or ("-",))}
    save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, "file.safetensors")
    pipeline.save_pretrained("folder")
    for weights in [*Path("folder").rglob("*.safetensors")]:
        weights.unlink()


def keep_weights(pipeline: Any, *parts: str) -> None:
    """Put the weights of `parts` back into `folder`."""
    for part in parts:
        getattr(pipeline, part).save_pretrained(f"folder/{part}")


def train(*flags: str) -> int:
    return main(["train", "a.png", "--model", "file.safetensors", "--config", "folder", "--quiet", *QUICK, *flags])


def assert_same_models(ours: DiffusersBackend, theirs: DiffusersBackend) -> None:
    """Bit for bit: what texts become, what the network answers, and what pictures become."""
    assert list(ours.encoders) == list(theirs.encoders)
    assert torch.equal(ours.schedule.sigmas, theirs.schedule.sigmas)
    generator = torch.Generator().manual_seed(1)
    vectors = {k: 0.3 * torch.randn(2, i.width, generator=generator) for k, i in ours.encoders.items()}
    latents = torch.randn(2, ours._autoencoder.channels, 4, 4, generator=generator)
    pictures = torch.rand(1, 3, 32, 32, generator=generator)
    answers = []
    for backend in (ours, theirs):
        cond = backend.encode(["a photo of S*", "S* on the cat"], {"S*": vectors}, differentiable=False).cond
        with torch.no_grad():
            denoised = backend.denoise(latents, backend.schedule.sigmas[[100, 900]], cond)
        encoded = backend.encode_pictures(pictures)
        answers.append([*cond.rows().values(), denoised, encoded.mean, encoded.deviation])
    assert all(float(tensor.std()) > 0 for tensor in answers[0])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "sd3 without T5", "sd3.5"])
def test_a_whole_file_is_the_folder(name: str, capsys: Output) -> None:
    kind = name.split()[0].split(".")[0]
    more: dict[str, Any] = {"sd3 without T5": {"t5": False}, "sd3": {"qk_norm": None}}.get(name, {})
    pipeline = pipeline_of(kind, **more)
    write(kind, pipeline)
    assert_same_models(load_model("file.safetensors", "folder"), DiffusersBackend(pipeline))
    assert train("--json") == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["model"]["name"] == "file"
    parts = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}
    keys = [key for part, key in parts.items() if part in modules_of(pipeline)]
    assert f", {' + '.join(keys)}, " in streams.err
    word = load_embedding("word.safetensors", {WIDTHS[key]: key for key in keys})
    assert {key: rows.shape[1] for key, rows in word.vectors.items()} == {key: WIDTHS[key] for key in keys}


def test_flux_with_all_its_parts_as_comfyui_saves_it() -> None:
    """At its true width, which diffusers' conversion takes for granted, with one block of each kind."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        pipeline = build_pipeline("flux", torch.bfloat16, true_width=True)
    finally:
        torch.set_default_dtype(torch.float32)
    save_file(checkpoint_of("flux", pipeline), "file.safetensors")
    build_pipeline("flux", torch.float32).save_pretrained("folder")
    pipeline.transformer.save_config("folder/transformer")
    for weights in [*Path("folder").rglob("*.safetensors")]:
        weights.unlink()
    ours, theirs = load_model("file.safetensors", "folder", dtype=torch.bfloat16), DiffusersBackend(pipeline)
    Path("file.safetensors").unlink()  # 1 GB
    for part in ("_network", "_autoencoder.network"):
        one, other = (attrgetter(part)(backend).state_dict() for backend in (ours, theirs))
        assert list(one) == list(other)
        assert all(torch.equal(one[key], other[key]) for key in one)
    vectors = {key: torch.full((1, info.width), 0.1) for key, info in ours.encoders.items()}
    texts = [b.encode(["a photo of S*"], {"S*": vectors}, differentiable=False).cond.rows() for b in (ours, theirs)]
    assert all(torch.equal(texts[0][name], texts[1][name]) for name in texts[0])
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 1, 16, 2, 2, generator=generator)
    few = {"hidden": texts[0]["hidden"][:, :3], "pooled": texts[0]["pooled"]}  # tokens, for the time it takes
    gradients = []
    for backend in (ours, theirs):
        cond = Conditioning({k: t.clone().requires_grad_() for k, t in few.items()}, torch.tensor([0]))
        sample_losses(backend, Samples(latents, noise, torch.tensor([0.6]), []), cond).sum().backward()
        gradients.append([tensor.grad for tensor in cond.tensors.values()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None and bool(one.any()) and torch.equal(one, other)


def test_flux_alone_in_a_file_takes_the_rest_from_the_folder(capsys: Output) -> None:
    """Small: in diffusers' own layout."""
    pipeline = pipeline_of("flux")
    write("flux", pipeline)
    save_file(pipeline.transformer.state_dict(), "file.safetensors")
    assert train() == 2
    assert capsys.readouterr().err == (
        "textual-inversion: file.safetensors holds no text_encoder, text_encoder_2 and vae; give --config a diffusers "
        "folder of Flux.1 that has the weights of them.\n"
    )
    keep_weights(pipeline, "text_encoder", "text_encoder_2")
    assert train() == 2
    assert (
        "holds no vae; give --config a diffusers folder of Flux.1 that has the weights of it."
        in capsys.readouterr().err
    )
    keep_weights(pipeline, "vae")
    assert_same_models(load_model("file.safetensors", "folder"), DiffusersBackend(pipeline))
    assert train() == 0
    assert "Flux.1, clip_l + t5xxl, flow" in capsys.readouterr().err


def test_sd3_alone_in_a_file_goes_without_t5_where_the_folder_has_none(capsys: Output) -> None:
    pipeline = pipeline_of("sd3")
    write("sd3", pipeline, without=("text_encoders.",))
    keep_weights(pipeline, "text_encoder", "text_encoder_2")
    bare = pipeline_of("sd3")
    bare.text_encoder_3 = bare.tokenizer_3 = None
    assert_same_models(load_model("file.safetensors", "folder"), DiffusersBackend(bare))
    assert train() == 0
    assert "SD3, clip_l + clip_g, flow" in capsys.readouterr().err
    keep_weights(pipeline, "text_encoder_3")
    assert_same_models(load_model("file.safetensors", "folder"), DiffusersBackend(pipeline))


def test_sdxl_without_an_autoencoder_takes_the_folders() -> None:
    pipeline = pipeline_of("sdxl")
    write("sdxl", pipeline, without=("first_stage_model.",))
    keep_weights(pipeline, "vae")
    assert_same_models(load_model("file.safetensors", "folder"), DiffusersBackend(pipeline))


def test_a_file_says_itself_that_it_predicts_v() -> None:
    write("sdxl", pipeline_of("sdxl"))
    assert load_model("file.safetensors", "folder").schedule.prediction == "epsilon"
    tensors = load_file("file.safetensors")
    save_file({**tensors, "v_pred": torch.zeros(0)}, "file.safetensors")
    schedule = load_model("file.safetensors", "folder").schedule
    assert schedule.prediction == "v_prediction" and float(schedule.sigmas[-1]) < 100
    save_file({**tensors, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, "file.safetensors")
    assert float(load_model("file.safetensors", "folder").schedule.sigmas[-1]) > 1000


def test_float16_keeps_what_overflows_and_float8_is_read() -> None:
    pipeline = pipeline_of("sd3")
    write("sd3", pipeline, dtype=torch.float8_e4m3fn)
    backend = load_model("file.safetensors", "folder", dtype=torch.float16)
    t5: Any = backend._models.text_encoder_3
    assert t5.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32
    assert t5.encoder.block[0].layer[1].DenseReluDense.wi_0.weight.dtype == torch.float16
    expected = pipeline.transformer.proj_out.weight.to(torch.float8_e4m3fn).half()
    assert torch.equal(backend._network.proj_out.weight, expected)
    table = pipeline.text_encoder_3.shared.weight.to(torch.float8_e4m3fn).half()
    assert torch.equal(t5.get_input_embeddings().table.weight, table)


def changed(change: Any) -> None:
    tensors = load_file("file.safetensors")
    change(tensors)
    save_file(tensors, "file.safetensors")


def double(tensors: dict[str, Tensor], key: str, new: str) -> None:
    tensors[new] = tensors[key].clone()


IN = "model.diffusion_model."


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("sdxl", lambda t: t.pop(f"{IN}middle_block.0.in_layers.2.weight"), "numbers for the unet where --config"),
        ("sdxl", lambda t: t.pop("first_stage_model.decoder.norm_out.bias"), "numbers for the vae where --config"),
        ("sdxl", lambda t: t.pop("conditioner.embedders.1.model.ln_final.bias"), "for the text_encoder_2 where"),
        ("sdxl", lambda t: double(t, f"{IN}middle_block.0.in_layers.2.weight", f"{IN}more.weight"), "for the unet"),
        ("sd3", lambda t: t.pop("text_encoders.t5xxl.transformer.encoder.final_layer_norm.weight"), "cannot be opened"),
        ("sd3", lambda t: t.pop("text_encoders.clip_l.transformer.text_model.final_layer_norm.bias"), "text_encoder "),
        ("sd3", lambda t: double(t, f"{IN}pos_embed", f"{IN}x.scale_weight"), "holds packed weights (model.diffusion"),
        ("sd3", lambda t: t.update({f"{IN}context_embedder.weight": torch.zeros(16, 9)}), "size mismatch for"),
        ("sdxl", lambda t: t.update({"edm_vpred.sigma_max": torch.ones(1)}), "in the EDM formulation"),
        ("sdxl", lambda t: [t.pop(key) for key in list(t) if key.startswith(IN)],
         "holds vae, text_encoder and text_encoder_2 and no unet"),
        ("sdxl", lambda t: t.update({f"{IN}output_blocks.11.0.skip_connection.weight": torch.ones(1)}),
         "is a checkpoint for a StableDiffusionPipeline, and --config folder is a StableDiffusionXLPipeline"),
    ],
)  # fmt: skip
def test_a_file_with_gaps_or_of_another_kind_is_refused(kind: str, change: Any, sentence: str, capsys: Output) -> None:
    write(kind, pipeline_of(kind))
    changed(change)
    capsys.readouterr()
    assert train() == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("word.safetensors").exists()


@pytest.mark.parametrize("name", ["file.ckpt", "file.pt", "file.PTH", "file.bin"])
def test_a_pickle_is_refused_unread(name: str) -> None:
    write("sdxl", pipeline_of("sdxl"))
    torch.save({"state_dict": load_file("file.safetensors")}, name)
    with pytest.raises(ValueError, match=rf"{name} is a pickle, which can run code .* \.safetensors version"):
        load_model(name, "folder")


def test_a_file_that_diffusers_would_take_for_a_pickle_is_refused() -> None:
    write("sdxl", pipeline_of("sdxl"))
    Path("file.safetensors").rename("file.SAFETENSORS")
    with pytest.raises(ValueError, match="is no checkpoint"):
        load_model("file.SAFETENSORS", "folder")


def as_pickle(part: str, name: str) -> None:
    """The weights of a part in a pickle of that name instead of their safetensors file."""
    (file,) = Path(part).glob("*.safetensors")
    torch.save(load_file(file), Path(part, name))
    file.unlink()


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_a_folder_with_a_pickle_is_refused_unread(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    build_pipeline("sd1", torch.float32).save_pretrained("folder")
    monkeypatch.setattr(torch, "load", refuse)
    assert load_model("folder")
    as_pickle(f"folder/{part}", "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=rf"folder/{part} holds its weights in a pickle .* \.safetensors files"):
        load_model("folder")
    shutil.copy(next(Path("folder").glob("*/*.safetensors")), f"folder/{part}/model.fp16.safetensors")
    with pytest.raises(ValueError, match="in a pickle"):  # another precision, which is not looked for
        load_model("folder")


def test_a_pickle_beside_the_same_safetensors_file_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    build_pipeline("sd1", torch.float32).save_pretrained("folder")
    for part in ("unet", "text_encoder", "vae"):
        Path("folder", part, "pytorch_model.bin").write_bytes(b"no pickle at all")
        Path("folder", part, "diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    monkeypatch.setattr(torch, "load", None)
    assert load_model("folder").word_vectors("cat")


def test_sd3s_optional_t5_in_a_pickle_is_not_left_out_in_silence() -> None:
    pipeline = pipeline_of("sd3")
    write("sd3", pipeline, without=("text_encoders.t5xxl.",))
    keep_weights(pipeline, "text_encoder_3")
    as_pickle("folder/text_encoder_3", "pytorch_model.bin")
    with pytest.raises(ValueError, match="folder/text_encoder_3 holds its weights in a pickle"):
        load_model("file.safetensors", "folder")


def test_a_file_cut_off_is_told_as_such() -> None:
    write("sdxl", pipeline_of("sdxl"))
    whole = Path("file.safetensors").read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        Path("file.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"file\.safetensors is no whole safetensors file"):
            load_model("file.safetensors", "folder")


def test_without_config_and_network_one_sentence_says_what_to_give(capfd: pytest.CaptureFixture[str]) -> None:
    """Through the library, where nothing keeps diffusers quiet."""
    write("sdxl", pipeline_of("sdxl"))
    capfd.readouterr()
    with pytest.raises(ValueError, match=r"is out of reach. Give a diffusers folder of the same family with --config"):
        load_model("file.safetensors")
    assert capfd.readouterr() == ("", "")


def test_sd3_folders_without_the_weights_of_t5_train_without_it(capsys: Output) -> None:
    pipeline = pipeline_of("sd3")
    pipeline.save_pretrained("folder")
    shutil.rmtree("folder/text_encoder_3")
    backend = load_model("folder")
    assert list(backend.encoders) == ["clip_l", "clip_g"]
    hidden = backend.encode(["a cat"], {}, differentiable=False).cond.rows()["hidden"]
    assert hidden.shape == (1, 77 + 256, T5) and not hidden[:, 77:].any() and bool(hidden[:, :77].any())
    assert main(["train", "a.png", "--model", "folder", "--quiet", *QUICK]) == 0
    word = load_embedding("word.safetensors", {16: "clip_l", 24: "clip_g"})
    assert list(word.vectors) == ["clip_l", "clip_g"]
    moved = backend.word_vectors("cat")
    assert not any(torch.equal(word.vectors[key][:1], moved[key][:1]) for key in moved)
