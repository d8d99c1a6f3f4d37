"""The host's own text encoders in small: its classes, tokenizers and prompt templates, with narrow layers."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import comfy.sd
import torch
from comfy import text_encoders
from comfy.sd1_clip import SDClipModel, SDTokenizer
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders import flux, hunyuan_video, llama

WIDTH_L, WIDTH_G, WIDTH_T5, WIDTH_LLM = 32, 48, 40, 32
EMBEDDINGS = Path(tempfile.mkdtemp(prefix="embeddings-"))
"""Where `embedding:name` looks for files."""
_LAYERS = 4
_CLIP = dict(num_attention_heads=2, num_hidden_layers=3, intermediate_size=64)
_BERT = dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=64)
_T5 = dict(d_ff=48, d_kv=8, num_heads=2, num_layers=2)
_LLAMA = dict(
    hidden_size=WIDTH_LLM, intermediate_size=48, num_hidden_layers=_LAYERS, num_attention_heads=2,
    num_key_value_heads=1,
)  # fmt: skip
_HEAD = 16
_SPIECE_WORDS = 400


def small_clip(
    tokenizer: type,
    encoder: type,
    vocabulary: int | None = None,
    t5_width: int = WIDTH_T5,
    options: Mapping[str, Any] = MappingProxyType({"dtype": torch.float32}),
    **tokenizer_data: Any,
) -> Any:
    """A CLIP of the host's own classes for a tokenizer and an encoder. vocabulary: of networks whose own is larger."""
    with _small(vocabulary, t5_width):
        clip = comfy.sd.CLIP(
            ClipTarget(tokenizer, encoder), embedding_directory=[str(EMBEDDINGS)],
            model_options=dict(options), tokenizer_data=tokenizer_data,
        )  # fmt: skip
    for name, part in vars(clip.tokenizer).items():
        network = getattr(clip.cond_stage_model, name, None)
        if isinstance(part, SDTokenizer) and isinstance(network, SDClipModel):
            part.embedding_size = network.transformer.get_input_embeddings().weight.shape[1]
    return clip


@functools.cache
def spiece_model() -> torch.Tensor:
    """A sentencepiece vocabulary, which the host reads from its checkpoints."""
    import sentencepiece

    words = Path(json.__file__).read_text() + Path(functools.__file__).read_text()
    words += "\na photo of the cool S* and S* , red thing painting style\n" * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words.splitlines()), model_writer=model, vocab_size=_SPIECE_WORDS, pad_id=0, eos_id=1,
        bos_id=2, unk_id=3, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)


@functools.cache
def tekken_model() -> torch.Tensor:
    """Mistral's kind of vocabulary, single bytes and a few words, which the host reads from its checkpoints."""
    special = {
        1: "<s>",
        2: "</s>",
        3: "[INST]",
        4: "[/INST]",
        11: "<pad>",
        17: "[SYSTEM_PROMPT]",
        18: "[/SYSTEM_PROMPT]",
    }
    pieces = [bytes([number]) for number in range(256)] + [b"ph", b"pho", b" a", b" c", b"th"]
    told = {
        "config": {"default_vocab_size": len(pieces) + 20, "default_num_special_tokens": 20},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(p).decode()} for i, p in enumerate(pieces)],
        "special_tokens": [{"rank": i, "token_str": special.get(i, f"<SPECIAL_{i}>")} for i in range(20)],
    }
    return torch.frombuffer(bytearray(json.dumps(told).encode()), dtype=torch.uint8)


@contextmanager
def _small(vocabulary: int | None, t5_width: int) -> Iterator[None]:
    original = SDClipModel.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["textmodel_json_config"] = _narrow_config(vocabulary, t5_width, **kwargs)
        if isinstance(kwargs.get("layer"), list):
            kwargs["layer"] = list(range(1, 1 + len(kwargs["layer"])))
        original(self, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(stand_in_tokenizers())
        stack.enter_context(patch.object(SDClipModel, "__init__", init))
        # Eyes, which words do not need and which cannot be made small.
        stack.enter_context(patch.object(llama.qwen_vl, "Qwen2VLVisionTransformer", lambda **_: torch.nn.Identity()))
        qwen3 = getattr(text_encoders, "qwen3vl", None)
        if qwen3 is not None:
            small = {name: _narrow_llama(config, vocabulary) for name, config in qwen3.QWEN3VL_CONFIGS.items()}
            stack.enter_context(patch.object(qwen3, "QWEN3VL_CONFIGS", small))
            stack.enter_context(patch.object(qwen3, "Qwen3VLVisionModel", lambda *_, **__: torch.nn.Identity()))
        for name, config in list(vars(llama).items()):
            if dataclasses.is_dataclass(config) and name.endswith(("Config", "_Config")):
                stack.enter_context(patch.object(llama, name, _narrow_llama(config, vocabulary)))
        yield


@contextmanager
def stand_in_tokenizers() -> Iterator[None]:
    """In place of those whose files this host lacks or cannot read."""
    with ExitStack() as stack:
        if not (Path(hunyuan_video.__file__).with_name("llama_tokenizer") / "tokenizer.json").is_file():
            stack.enter_context(patch.object(hunyuan_video, "LlamaTokenizerFast", _Llama3Tokenizer))
        if hasattr(flux, "load_mistral_tokenizer") and not hasattr(flux, "from_tekken_json"):
            # This host reads the vocabulary with a part of transformers that newer releases of it have changed.
            stack.enter_context(patch.object(flux, "load_mistral_tokenizer", lambda _: {}))
            stack.enter_context(patch.object(flux.MistralTokenizerClass, "from_pretrained", _Letters))
        yield


_LLAMA3 = {"<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eot_id|>": 128009, "user": 882, "\n\n": 271}


class _Llama3Tokenizer:
    """Stands in for Llama 3's where the host's checkout has been made without that large file."""

    _pattern = re.compile("|".join([*map(re.escape, _LLAMA3), r" ?\w+", r"\S", r"\s+"]))

    @classmethod
    def from_pretrained(cls, path: str, **_: Any) -> Any:
        return cls()

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        words = self._pattern.findall(text)
        return {"input_ids": [128000, *(_LLAMA3.get(w, 1000 + zlib.crc32(w.encode()) % 100000) for w in words)]}

    def get_vocab(self) -> dict[str, int]:
        return _LLAMA3


class _Letters:
    """Stands in for Mistral's tokenizer: a token for every byte."""

    def __init__(self, path: str, **_: Any) -> None:
        pass

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [1, *(20 + byte for byte in text.encode())]}

    def get_vocab(self) -> dict[str, int]:
        return {chr(number): 20 + number for number in range(128)}


def _narrow_config(
    vocabulary: int | None,
    t5_width: int,
    textmodel_json_config: Any = None,
    model_class: Any = None,
    layer: Any = None,
    **_: Any,
) -> Any:
    if model_class is not None and issubclass(model_class, llama.BaseLlama):
        layers = {"num_hidden_layers": 1 + len(layer)} if isinstance(layer, list) else {}
        return {**(textmodel_json_config or {}), **layers}
    if model_class is not None and model_class.__module__.endswith("jina_clip_2"):
        return {**_BERT, "vocab_size": vocabulary}
    path = textmodel_json_config or Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    config = dict(path) if isinstance(path, dict) else json.loads(Path(path).read_text())
    kind = "CLIP" if model_class is None else model_class.__name__
    if kind.startswith("CLIP"):
        config |= {**_CLIP, "hidden_size": {768: WIDTH_L, 1280: WIDTH_G}.get(config["hidden_size"], WIDTH_L)}
    else:
        config |= {**_T5, "d_model": t5_width} if kind == "T5" else _BERT
        if vocabulary is not None and kind == "T5":
            config["vocab_size"] = vocabulary
    return config


def _narrow_llama(config: Any, vocabulary: int | None) -> Any:
    """Some of a configuration's numbers are fields, others belong to its class."""
    own: dict[str, Any] = {"head_dim": _HEAD}
    if getattr(config, "rope_dims", None) is not None:
        own["rope_dims"] = [4, 2, 2] if getattr(config, "interleaved_mrope", False) else [2, 3, 3]
    small = type(config.__name__, (config,), own)

    def make(**given: Any) -> Any:
        fields = {**_LLAMA, **given} | ({} if vocabulary is None else {"vocab_size": vocabulary})
        return small(**fields)

    return make
