"""What is known of the host's families of models: which train, in what they differ, and why others do not.

A name is that of the host's model class (`comfy.model_base`). One that stands nowhere here is trained with a warning,
if all its parts fit. docs/models.md has the list with proofs, written by the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """In what a family differs from others.

    reads: the text encoders that the model reads, of which the CLIP has to hold at least one; empty: the width of the
    text tells whether they fit. adds_in_place: its blocks overwrite what autograd would have to keep. guidance: for
    previews. training_guidance: what a model with distilled guidance reads in training (1: as the data are); None: the
    host's default. side: pixels of a picture's side for one of its latents, where the autoencoder alone does not tell.
    resolution: side in pixels of the pictures that it was trained on. least_side: latents along a side that the host's
    own code needs. empty_channels: takes a given picture too, and empty channels where there is none, as text alone was
    trained.
    """

    reads: tuple[str, ...] = ()
    adds_in_place: bool = False
    guidance: float = 4.5
    training_guidance: float | None = 1.0
    side: int | None = None
    resolution: int = 1024
    least_side: int = 1
    empty_channels: bool = False


_UNET = Facts(guidance=7.0)
UNPROVEN = Facts(adds_in_place=True)  # right for every model, and costs one more forward pass

PROVEN: Mapping[str, Facts] = {
    "BaseModel": Facts(guidance=7.0, resolution=512),
    "SDXL": _UNET,
    "SDXLRefiner": _UNET,
    "SD21UNCLIP": Facts(guidance=7.0, resolution=768),
    "StableCascade_C": Facts(("clip_g",), guidance=4.0, side=42),
    "SD3": Facts(("clip_l", "clip_g", "t5xxl"), guidance=5.0),
    "AuraFlow": Facts(("pile_t5xl",), guidance=3.5),
    "PixArt": Facts(("t5xxl",), least_side=34),
    "HunyuanDiT": Facts(("chinese_roberta", "mt5xl"), guidance=6.0),
    # Flux is guided by a number that it was trained with; previews leave the host's default for it.
    "Flux": Facts(("clip_l", "t5xxl", "qwen3_2b"), adds_in_place=True, guidance=1.0),
    "Flux2": Facts(("mistral3_24b", "qwen3_4b", "qwen3_8b"), adds_in_place=True, guidance=1.0),
    "LongCatImage": Facts(("qwen25_7b",), adds_in_place=True),
    "Chroma": Facts(("t5xxl",), adds_in_place=True, guidance=4.0, training_guidance=None),
    "HiDream": Facts(("clip_l", "clip_g", "t5xxl", "llama"), guidance=5.0),
    "Lumina2": Facts(("gemma2_2b", "qwen3_4b", "gemma3_4b", "jina_clip_2"), guidance=4.0),
    "QwenImage": Facts(("qwen25_7b",), guidance=2.5),
    "Omnigen2": Facts(("qwen25_3b",), adds_in_place=True, guidance=5.0),
    "HunyuanImage21": Facts(("qwen25_7b",), adds_in_place=True, guidance=3.5),
    "HunyuanVideo": Facts(resolution=512, reads=("clip_l", "llama"), adds_in_place=True, guidance=1.0),
    "HunyuanVideo15": Facts(
        resolution=512, reads=("qwen25_7b",), adds_in_place=True, guidance=6.0, empty_channels=True
    ),
    "WAN21": Facts(resolution=512, reads=("umt5xxl",), guidance=6.0),
    "WAN21_CausalAR": Facts(resolution=512, reads=("umt5xxl",), guidance=6.0),
    "WAN22": Facts(resolution=512, reads=("umt5xxl",), guidance=5.0),
    "LTXV": Facts(resolution=512, reads=("t5xxl",), adds_in_place=True, guidance=3.0),
    "GenmoMochi": Facts(resolution=512, reads=("t5xxl",)),
    "CosmosVideo": Facts(resolution=704, reads=("t5xxl",), guidance=7.0),
    "CosmosPredict2": Facts(("t5xxl",), guidance=4.0),
    "Anima": Facts(("qwen3_06b",), guidance=4.0),
    "Kandinsky5": Facts(resolution=512, reads=("qwen25_7b", "clip_l"), guidance=5.0, empty_channels=True),
    "Kandinsky5Image": Facts(("qwen25_7b", "clip_l"), guidance=3.5),
    "ErnieImage": Facts(("mistral3_24b", "ministral3_3b"), guidance=4.0),
    "ChromaRadiance": Facts(("t5xxl",), adds_in_place=True, guidance=4.0, training_guidance=None),
    "ZImagePixelSpace": Facts(("qwen3_4b",), guidance=4.0),
    "PixelDiTT2I": Facts(("gemma2_2b",), adds_in_place=True, guidance=4.0),
    "Krea2": Facts(("qwen3vl_4b",), adds_in_place=True, guidance=4.0),
    "Boogu": Facts(("qwen3vl_8b",), adds_in_place=True, guidance=4.0),
    "MageFlow": Facts(("qwen3vl_4b",), guidance=4.0),
    "Ideogram4": Facts(("qwen3vl_8b",), guidance=4.0),
    "JoyImage": Facts(("qwen3vl_8b",), guidance=4.0),
}

_EDITS = "it edits a given picture; train on the family's text-to-image model, which has the same text encoders"
_FILM = "it makes a video from a given picture or video; train the word on the family's text-to-video model"
_SOUND = "it generates sound, so it cannot learn from pictures"
_SHAPE = "it makes 3D shapes from a picture and reads no text"
_NO_TEXT = "it reads no text"
_DETAIL = "it adds detail to another model's picture; train the word on that model"

REFUSED: Mapping[str, str] = {
    "SD15_instructpix2pix": _EDITS,
    "SDXL_instructpix2pix": _EDITS,
    "SD_X4Upscaler": _DETAIL,
    "StableCascade_B": _DETAIL + " (stage C)",
    "HunyuanImage21Refiner": _DETAIL,
    "HunyuanVideo15_SR_Distilled": _DETAIL,
    "SeedVR2": _DETAIL,
    "PiD": _DETAIL,
    "Lotus": "it estimates depth from pictures",
    "SVD_img2vid": _NO_TEXT,
    "SV3D_u": _NO_TEXT,
    "SV3D_p": _NO_TEXT,
    "Stable_Zero123": _NO_TEXT,
    "StableAudio1": _SOUND,
    "StableAudio3": _SOUND,
    "ACEStep": _SOUND,
    "ACEStep15": _SOUND,
    "MiniMaxMusic3": _SOUND,
    "Hunyuan3Dv2": _SHAPE,
    "Hunyuan3Dv2_1": _SHAPE,
    "TripoSplat": _SHAPE,
    "Trellis2": _SHAPE,
    "RT_DETR_v4": "it finds objects in pictures",
    "SAM3": "it finds objects in pictures",
    "DepthAnything3": "it estimates depth from pictures",
    "LTXAV": "it generates video and sound together, from latents that hold both",
    "MiniMaxH3": "it generates video and sound together, from latents that hold both",
    "HiDreamO1": "the model itself reads the text as token ids, so there is no place for a word's vectors",
    "Lens": "its text encoder (GPT-OSS) accepts only token ids, so there is no place for a word's vectors",
    "HunyuanVideoI2V": _FILM,
    "HunyuanVideoSkyreelsI2V": _FILM,
    "WAN21_Vace": _FILM,
    "WAN21_Camera": _FILM,
    "WAN21_HuMo": _FILM,
    "WAN22_S2V": _FILM,
    "WAN22_Animate": _FILM,
    "WAN_Animate2": _FILM,
    "WAN21_FlowRVS": _FILM,
    "WAN21_SCAIL": _FILM,
    "WAN21_SCAIL2": _FILM,
    "WAN22_WanDancer": _FILM,
    "CogVideoX": "it makes videos, and scales its noise in a way that training does not support",
}
