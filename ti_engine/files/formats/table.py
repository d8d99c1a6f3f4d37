"""The formats in which programs write a word: one table, from what a container holds to the words in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..containers.container import Container
from ..refused import Refused
from .contents import BARE, Contents, quoted, sorted_contents
from .encoders import encoder_of_key, known_width
from .impostors import is_per_layer, kind_by_keys, looks_like_data, looks_like_parameter
from .numbered import gathered

NAMED = "diffusers"
_BUNDLE = "bundle_emb."  # OneTrainer, A1111, ComfyUI
# A name may contain dots. A1111 and ComfyUI also write the word's whole dict, of which only the vectors count.
_BUNDLED = re.compile(r"bundle_emb\.(?P<name>(?:(?!\.string_to_token\.).)+?)\.(string_to_param\.)?(?P<part>[^.]+)")
_A1111_FIELDS = ("name", "step", "sd_checkpoint", "sd_checkpoint_name")
_A1111_KEY = "*"  # of every word; its prompts call one by the file's name
_PTI_MARK = "<embed>"  # cloneofsimo's metadata for a tensor that is a word
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.:]+")  # what a network's parameters are called


@dataclass(frozen=True, eq=False)
class FoundWord:
    """A word as the file has it. name: None where the file names none. tensors: key in the file -> tensor, unchecked.

    A key that ends in _out holds vectors for the output of an encoder.
    """

    name: str | None
    tensors: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Found:
    """All words of a file. format: its name in FORMATS. metadata: what the file says of them, text by text."""

    format: str
    words: list[FoundWord]
    metadata: dict[str, str]
    warnings: list[str]


@dataclass(frozen=True)
class Format:
    """find: the words in contents of this format; none where they are of another."""

    name: str
    find: Callable[[Contents], list[FoundWord]]


def find_words(container: Container) -> Found:
    """The words in a file. Raises Refused, which says what the file is, if it holds none."""
    contents, warnings = sorted_contents(container)
    if is_per_layer(contents.tensors):
        raise Refused(
            f"holds the vectors of {len(contents.tensors)} layers of the UNet (kohya's XTI, a word with other vectors "
            "in every layer), which no part of this project can apply"
        )
    for entry in FORMATS:
        if words := entry.find(contents):
            kept, bundled = _without_outputs(words)
            kept, together = gathered(kept)
            return Found(
                entry.name, kept, _texts(contents), [*warnings, *bundled, *together, *_not_read(contents, words)]
            )
    raise Refused(_instead(contents))


def may_be_word(key: str) -> bool:
    """Whether the tensor `key` of a LoRA too large to be read whole can be a part of a word in it."""
    return key.startswith(_BUNDLE) or _PLAIN_KEY.fullmatch(key) is None


def _latent_diffusion(contents: Contents) -> list[FoundWord]:
    # The same dict as A1111's, but its keys are words, and vectors of width 1280 are those of its own encoder, BERT.
    if _is_a1111(contents):
        return []
    params = _params(contents)
    return [FoundWord(key, {"bert" if t.shape[-1:] == (1280,) else key: t}) for key, t in params.items()]


def _a1111(contents: Contents) -> list[FoundWord]:
    params = _params(contents)
    if params and all(_is_encoder(key, tensor) for key, tensor in params.items()):
        return [FoundWord(None, params)]
    if list(params) == [_A1111_KEY]:
        return [FoundWord(None, params)]
    return [FoundWord(key, {key: tensor}) for key, tensor in params.items()]


def _bundled(contents: Contents) -> list[FoundWord]:
    words: dict[str, dict[str, Tensor]] = {}
    for key, tensor in contents.tensors.items():
        if bundled := _BUNDLED.fullmatch(key):
            words.setdefault(bundled["name"], {})[bundled["part"]] = tensor
    return [FoundWord(name, tensors) for name, tensors in words.items()]


def _pti(contents: Contents) -> list[FoundWord]:
    names = [key for key in contents.tensors if contents.metadata.get(key) == _PTI_MARK]
    return [FoundWord(name, {name: contents.tensors[name]}) for name in names]


def _encoder_keys(contents: Contents) -> list[FoundWord]:
    tensors = {key: tensor for key, tensor in contents.tensors.items() if _is_encoder(key, tensor)}
    return [FoundWord(None, tensors)] if tensors else []


def _nameless(pattern: str) -> Callable[[Contents], list[FoundWord]]:
    """A finder for files whose tensors have these fixed keys, one for each text encoder."""

    def find(contents: Contents) -> list[FoundWord]:
        tensors = {key: tensor for key, tensor in contents.tensors.items() if re.fullmatch(pattern, key)}
        return [FoundWord(None, tensors)] if tensors else []

    return find


def _named(contents: Contents) -> list[FoundWord]:
    # Of several keys only those are words that no network has as a parameter, or any weights would be words.
    keys = [key for key in contents.tensors if not looks_like_parameter(key)]
    if len(contents.tensors) > 1:
        keys = [key for key in keys if _PLAIN_KEY.fullmatch(key) is None]
    words = {key: contents.tensors[key] for key in keys}
    return [
        FoundWord(key, {key: tensor})
        for key, tensor in words.items()
        if known_width(tensor.shape[-1]) or not looks_like_data(key)
    ]


def _dicts_by_word(contents: Contents) -> list[FoundWord]:
    """The words in dicts that stand under the words' names, each with nothing but vectors for text encoders in it."""
    words = []
    for name, inner in contents.dicts.items():
        found = next(filter(None, (entry.find(inner) for entry in _NAMELESS)), [])
        if len(found) == 1 and found[0].name is None:
            words.append(FoundWord(name or None, found[0].tensors))
    return words


# In this order: the first that finds a word has it. The ids are those of docs/formats.md.
FORMATS = (
    Format("latent diffusion", _latent_diffusion),  # F1
    Format("A1111", _a1111),  # F2, F16
    Format("words in a LoRA", _bundled),  # F14
    Format("PTI LoRA", _pti),  # F15
    Format("encoder keys", _encoder_keys),  # F6, F10, F11, F12
    Format("emb_params", _nameless(r"emb_params(_out)?")),  # F5
    Format("OneTrainer", _nameless(r"emp_params(_out)?")),  # F9
    Format("cog", _nameless(r"text_encoders?_\d")),  # F7
    Format("emb and emb2", _nameless(r"emb\d?")),  # F8
    Format("bare tensor", _nameless(BARE)),  # F8
    Format("nameless tensor", _nameless(r"embeddings?|(embeddings?\.)?weight|vectors?")),
    Format(NAMED, _named),  # F3, F4
    Format("words by encoder", _dicts_by_word),
)
_NAMELESS = tuple(entry for entry in FORMATS if entry.name in ("A1111", "encoder keys", "emb_params", "emb and emb2"))


def _params(contents: Contents) -> dict[str, Tensor]:
    """A1111's and latent diffusion's tensors: those of the dict `string_to_param`, or of its keys joined by a dot."""
    if "string_to_param" in contents.dicts:
        return contents.dicts["string_to_param"].tensors
    dotted = {key: tensor for key, tensor in contents.tensors.items() if key.startswith("string_to_param.")}
    return {key.removeprefix("string_to_param."): tensor for key, tensor in dotted.items()}


def _is_a1111(contents: Contents) -> bool:
    """By its own fields, or because it stores tokens as plain numbers or none, where latent diffusion has tensors."""
    tokens = contents.dicts.get("string_to_token")
    has_numbers = tokens is None or any(isinstance(token, int) for token in tokens.raw.values())
    return has_numbers or any(key in contents.raw for key in _A1111_FIELDS)


def _is_encoder(key: str, tensor: Tensor) -> bool:
    return encoder_of_key(key.removesuffix("_out"), tensor.shape[-1]) is not None


def _is_output(key: str, tensor: Tensor) -> bool:
    return key.endswith("_out") and (key in ("emb_params_out", "emp_params_out") or _is_encoder(key, tensor))


def _is_zero(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not tensor.is_meta and not bool(tensor.float().any())


def _without_outputs(words: list[FoundWord]) -> tuple[list[FoundWord], list[str]]:
    """The words whose vectors are for the input of an encoder, and a sentence for each that is not.

    OneTrainer writes zeros under the key itself where a word was learned behind the encoder (under `<key>_out`).
    Raises Refused if no word is left.
    """
    kept, left = [], []
    for word in words:
        outputs = {key: tensor for key, tensor in word.tensors.items() if _is_output(key, tensor)}
        if not all(map(_is_zero, outputs.values())) or len(outputs) == len(word.tensors):
            left.append((word.name, ", ".join(outputs)))
        else:
            kept.append(FoundWord(word.name, {key: t for key, t in word.tensors.items() if key not in outputs}))
    why = "which are added behind the text encoder, and no part of this project can apply those"
    if not kept:
        raise Refused(f"holds output vectors ({left[0][1]}), {why}")
    return kept, [f"{name or 'A word'} has output vectors ({keys}), {why}; it is not read." for name, keys in left]


def _texts(contents: Contents) -> dict[str, str]:
    """What the file says, also in the dict of the tensors, where some programs put it."""
    inner = contents.dicts.get("string_to_param")
    return (inner.metadata if inner else {}) | contents.metadata


def _not_read(contents: Contents, words: list[FoundWord]) -> list[str]:
    used = {id(tensor) for word in words for tensor in word.tensors.values()}
    rest = [key for key, tensor in contents.tensors.items() if id(tensor) not in used]
    if not rest:
        return []
    kind = kind_by_keys(rest)
    what = kind.removesuffix(" without words") if kind else f"other tensors ({quoted(rest)})"
    return [f"It also holds {what}, of which nothing is read."]


def _instead(contents: Contents) -> str:
    keys = list(contents.all_keys())
    if kind := kind_by_keys(keys):
        return f"is {kind} and no embedding"
    if "string_to_param" in contents.raw:
        return "holds no vectors in its string_to_param, so it is no embedding"
    tensors = list(contents.tensor_keys())
    if not tensors:
        return "holds no tensor, so it is no embedding"
    count = f"{len(tensors):,} tensor{'s' * (len(tensors) > 1)}"
    return f"holds {count} ({quoted(tensors)}), which is no embedding that can be read"
