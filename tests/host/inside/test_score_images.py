"""Score Images with the host's own towers: transformers' numbers on the same weights, and what is refused."""

from __future__ import annotations

import json
import tempfile

import comfy.model_management as memory
import pytest
import torch
from comfy import sd1_clip, sdxl_clip
from comfy.cli_args import args
from comfy.clip_vision import ClipVisionModel
from comfy_execution.graph_utils import ExecutionBlocker
from in_host import plugin
from small_encoders import WIDTH_G, small_clip
from small_families import SMALL, _fill, build
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

SIDE = 32
SHAPE = dict(hidden_size=40, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
VISION = dict(image_size=SIDE, patch_size=8, num_channels=3, hidden_act="gelu", projection_dim=WIDTH_G, **SHAPE)
TEXT = "a photo of S* on the beach"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROJECTION = "visual_projection.weight"


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """The host would round the weights to 16 bit."""
    monkeypatch.setattr(args, "fp32_text_enc", True)


def clip_vision(**config):
    """The host's CLIP_VISION without values in its weights. Older hosts read the settings from a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        return ClipVisionModel(file.name)


def vision_towers(without=(), **changes):
    """The host's CLIP_VISION, and transformers' tower with the same random weights."""
    with torch.inference_mode(False):
        torch.manual_seed(0)
        theirs = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, **changes})).train(False)
    ours = clip_vision(**{**VISION, "model_type": "clip_vision_model", **changes})
    weights = {key: value.clone() for key, value in theirs.state_dict().items() if key not in without}
    missing, unexpected = ours.load_sd(weights)
    assert set(unexpected) <= {"vision_model.embeddings.position_ids"} and set(missing) <= set(without)
    return ours, theirs


def text_towers():
    """The host's CLIP of an SDXL checkpoint, in small, and transformers' tower with the weights of its clip_g."""
    clip = small_clip(sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel)
    torch.manual_seed(1)
    _fill(clip.cond_stage_model)
    network = clip.cond_stage_model.clip_g.transformer
    vocabulary, width = network.get_input_embeddings().weight.shape
    first = network.text_model.encoder.layers[0]
    with torch.inference_mode(False):
        theirs = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=vocabulary, hidden_size=width, intermediate_size=first.mlp.fc1.weight.shape[0],
                num_hidden_layers=network.num_layers, num_attention_heads=first.self_attn.heads, hidden_act="gelu",
                max_position_embeddings=77, projection_dim=width, bos_token_id=49406, eos_token_id=49407,
                pad_token_id=0,
            )
        ).train(False)  # fmt: skip
        theirs.load_state_dict({key: value.clone() for key, value in network.state_dict().items()})
    return clip, theirs


def pictures(count, side=SIDE, seed=0):
    """IMAGE [count, side, side, 3], soft and in 8 bit levels."""
    generator = torch.Generator().manual_seed(seed)
    soft = F.interpolate(torch.rand(count, 3, 5, 5, generator=generator), size=(side, side), mode="bilinear")
    return (soft * 255).round().movedim(1, -1) / 255


def run(**changes):
    node = plugin("nodes.score_images").ScoreImages
    training = [pictures(2, seed=1), pictures(1, 48, seed=2)]
    inputs = {"pictures": [pictures(3)], "training_pictures": training, "text": [""], "placeholder": ["S*"], **changes}
    with torch.inference_mode():
        return node.execute(**inputs).args


def embed(theirs, images):
    with torch.inference_mode():
        mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        return theirs(pixel_values=(images.movedim(-1, 1) - mean) / std)


def test_vectors_and_patches_are_those_of_transformers():
    with torch.inference_mode():
        ours, theirs = vision_towers()
        vectors, patches = plugin("nodes.host.clip_scorer").HostScorer(ours).look(list(pictures(20).movedim(-1, 1)))
    seen = embed(theirs, pictures(20))
    assert torch.allclose(vectors, seen.image_embeds, atol=1e-4)
    assert torch.allclose(patches, seen.last_hidden_state[:, 1:], atol=1e-4)
    assert patches.shape == (20, 16, 40)


def test_the_scores_are_means_of_transformers_cosines():
    with torch.inference_mode():
        (vision, theirs), (clip, reader) = vision_towers(), text_towers()
    same = [pictures(2, seed=1)]
    node = plugin("nodes.score_images").ScoreImages
    with torch.inference_mode():
        report, likeness, text = node.execute(
            pictures=[pictures(3)], training_pictures=same, clip_vision=[vision], clip=[clip], text=[TEXT],
            placeholder=["S*"],
        ).args  # fmt: skip
        tokens = clip.tokenize("a photo of on the beach")["g"][0]
        read = reader(input_ids=torch.tensor([[int(token[0]) for token in tokens]])).text_embeds
    own, other = (F.normalize(embed(theirs, images).image_embeds) for images in (pictures(3), same[0]))
    assert likeness == pytest.approx(float((own @ other.T).mean()), abs=1e-5)
    assert text == pytest.approx(float((own @ F.normalize(read).T).mean()), abs=1e-5)
    assert "S* was taken out of the text" in report and f"Likeness {likeness:.3f} (" in report


def test_pictures_of_several_sizes_and_without_a_text():
    with torch.inference_mode():
        vision, _ = vision_towers()
    report, likeness, text = run(clip_vision=[vision])
    assert "3 picture(s) with 3 training picture(s)" in report and -1 <= likeness <= 1
    assert isinstance(text, ExecutionBlocker) and "has no text score" in text.message


def test_a_file_without_a_projection_gives_likeness_and_no_text():
    with torch.inference_mode():
        vision, _ = vision_towers(without=(PROJECTION,))
        clip, _ = text_towers()
    if isinstance(vision.model.visual_projection, torch.nn.Linear):
        pytest.skip("this host keeps a projection that no file has filled")
    assert "Likeness of patches" in run(clip_vision=[vision])[0]
    with pytest.raises(ValueError, match="loaded without a projection into the space of texts"):
        run(clip_vision=[vision], clip=[clip], text=[TEXT])
    assert "Likeness" in run(clip_vision=[vision], clip=[clip])[0]  # there is no text, so clip is not needed


def test_towers_of_different_widths_are_refused():
    with torch.inference_mode():
        vision, _ = vision_towers(projection_dim=WIDTH_G + 4)
        clip, _ = text_towers()
    with pytest.raises(ValueError, match=f"vectors of {WIDTH_G} numbers and the CLIP_VISION of {WIDTH_G + 4}"):
        run(clip_vision=[vision], clip=[clip], text=[TEXT])


@pytest.mark.parametrize(("family", "keys"), [("SD1", "clip_l"), ("SD2", "clip_h"), ("Flux dev", "clip_l, t5xxl")])
def test_text_encoders_whose_projection_may_be_missing_are_refused(family, keys):
    with torch.inference_mode():
        vision, _ = vision_towers()
        clip = build(family).clip
    with pytest.raises(ValueError, match=f"This CLIP holds {keys}, whose file need not hold a text projection; .*SDXL"):
        run(clip_vision=[vision], clip=[clip], text=[TEXT])


@pytest.mark.parametrize("family", ["SDXL", "SDXL refiner", "SD3", "Stable Cascade C"])
def test_every_model_with_clip_g_gives_its_projected_vector(family):
    if family not in SMALL:
        pytest.skip(f"there is no small {family}")
    with torch.inference_mode():
        vision, _ = vision_towers()
        clip = build(family).clip
        vector = plugin("nodes.host.clip_scorer").HostScorer(vision, clip).embed_texts(["a red thing"])
        network = plugin("nodes.host.models.encoders").text_encoders(clip)["clip_g"].network
        expected = network.encode_token_weights(clip.tokenize("a red thing")["g"])[1]
    assert vector.shape == (1, WIDTH_G) and torch.allclose(vector, expected, atol=1e-6)


def test_a_long_text_is_refused():
    with torch.inference_mode():
        vision, _ = vision_towers()
        clip, _ = text_towers()
    with pytest.raises(ValueError, match="longer than the 75 tokens"):
        run(clip_vision=[vision], clip=[clip], text=["photo " * 90])


def test_a_network_without_a_vector_for_a_picture_is_refused():
    vision = clip_vision(**VISION, model_type="siglip_vision_model")
    with torch.inference_mode():
        _fill(vision.model)
    with pytest.raises(ValueError, match="gives no vector for a whole picture, as SigLIP"):
        run(clip_vision=[vision])
    with pytest.raises(ValueError, match="clip_vision was given object; connect Load CLIP Vision"):
        run(clip_vision=[object()])


def test_dinov2_scores_likeness():
    shape = dict(image_size=518, patch_size=14, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2)
    others = dict(layer_norm_eps=1e-6, use_swiglu_ffn=False, use_mask_token=True, num_channels=3)
    vision = clip_vision(model_type="dinov2", **shape, **others)
    with torch.inference_mode():
        _fill(vision.model)
        _, patches = plugin("nodes.host.clip_scorer").HostScorer(vision).look(list(pictures(2).movedim(-1, 1)))
    assert patches.shape == (2, 37 * 37, 32)
    same = run(clip_vision=[vision])[0]
    assert "Likeness of patches" in same
    with torch.inference_mode():
        clip = small_clip(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)
    with pytest.raises(ValueError, match="without a projection into the space of texts"):
        run(clip_vision=[vision], clip=[clip], text=[TEXT])


def test_cancel_takes_effect_before_the_next_batch():
    with torch.inference_mode():
        vision, _ = vision_towers()
    memory.interrupt_current_processing(True)
    with pytest.raises(memory.InterruptProcessingException):
        run(clip_vision=[vision])
