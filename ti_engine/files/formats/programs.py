"""What other programs want to find in a file: which tensors, under which names, in how many files.

As their readers do it: `create_embedding_from_data` of A1111, `load_textual_inversion` of diffusers, `TI_Config_Base`
and `TextualInversionModelRaw` of InvokeAI, `load_weights` of kohya, `load_embed` of ComfyUI, `*EmbeddingLoader` of
OneTrainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...word.families import FAMILIES, and_list, family_of, family_title

if TYPE_CHECKING:
    from torch import Tensor

    from ...word.embedding import TokenEmbedding

_TRIGGER = ""  # stands for the placeholder as a tensor's name


@dataclass(frozen=True)
class Program:
    """A program that reads embedding files.

    names: family (see FAMILIES) -> encoder key -> the tensor's name in the file.
    encoders: it takes every mixture of these, under their own names.
    equal_counts: it goes wrong where one encoder has more vectors than another.
    prompt: what its prompts call the word, of {file} (its name without the ending) and {trigger}; empty for trainers.
    """

    title: str
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    encoders: tuple[str, ...] = ()
    equal_counts: bool = False
    prompt: str = ""


def _own(*families: str, **renamed: str) -> dict[str, dict[str, str]]:
    return {name: {key: renamed.get(key, key) for key in FAMILIES[name].widths} for name in families}


# emb_params is what most readers look for first, and InvokeAI takes a width from its last axis there and nowhere else.
_COMMON = {"sd1": {"clip_l": "emb_params"}, "sd2": {"clip_h": "emb_params"}, **_own("sdxl")}
_ONETRAINER = {
    "sd1": {"clip_l": "emp_params"},  # its spelling
    "sd2": {"clip_h": "emp_params"},
    **_own("sdxl", "sd3", "flux", "t5", "cascade", "hunyuan-video", "hidream", t5xxl="t5"),
}
_DIFFUSERS = {name: dict.fromkeys(FAMILIES[name].widths, _TRIGGER) for name in ("sd1", "sd2", "sdxl", "flux", "t5")}
_COMFYUI = ("clip_l", "clip_g", "clip_h", "t5xxl", "llama", "mistral3_24b")

PROGRAMS: Mapping[str, Program] = {
    "a1111": Program("AUTOMATIC1111", _COMMON, equal_counts=True, prompt="{file}"),
    "comfyui": Program("ComfyUI", encoders=_COMFYUI, prompt="embedding:{file}"),
    "diffusers": Program("diffusers", _DIFFUSERS, prompt="{trigger}"),
    "invokeai": Program("InvokeAI", _COMMON, prompt="<{file}>"),
    "kohya": Program("kohya's sd-scripts", _COMMON, equal_counts=True),
    "onetrainer": Program("OneTrainer", _ONETRAINER),
}


def tensors_for(embedding: TokenEmbedding, program: str | None = None) -> list[dict[str, Tensor]]:
    """The tensors of each file that `program`, a name in PROGRAMS, reads: name -> [num_vectors, width].

    One file, except where a program wants one name for all encoders: then one for each, in the model's order.
    Without a program: `emb_params` for words of one CLIP encoder (SD1, SD2), the encoders' own names for all others.
    Raises ValueError if the program cannot take this word.
    """
    files: list[dict[str, Tensor]] = [{}]
    for key, name in _names(embedding, program).items():
        if name in files[-1]:
            files.append({})
        files[-1][name] = embedding.vectors[key].detach().cpu()
    return files


def _names(embedding: TokenEmbedding, program: str | None) -> Mapping[str, str]:
    """Encoder key -> the tensor's name, for every encoder of the word."""
    keys = list(embedding.vectors)
    if program is None:
        return {keys[0]: "emb_params"} if keys in (["clip_l"], ["clip_h"]) else {key: key for key in keys}
    wants = PROGRAMS[program]
    if set(keys) <= set(wants.encoders):
        return {key: key for key in keys}
    trigger, family = embedding.placeholder, family_of(embedding)
    if family is None or family not in wants.names:
        takes = [FAMILIES[name].title for name in wants.names] or list(wants.encoders)
        raise ValueError(
            f"{wants.title} cannot use {trigger}, a word of {family_title(embedding)}; it takes words of "
            f"{and_list(takes)}."
        )
    if wants.equal_counts and len({len(rows) for rows in embedding.vectors.values()}) > 1:
        counts = and_list([f"{len(rows)} vectors for {key}" for key, rows in embedding.vectors.items()])
        raise ValueError(f"{trigger} has {counts}; {wants.title} needs as many for each.")
    if trigger == "__metadata__" and _TRIGGER in wants.names[family].values():
        raise ValueError(f"In a file for {wants.title} no word can be called {trigger}; give it another placeholder.")
    return {key: name or trigger for key, name in wants.names[family].items()}
