"""Files that are no word, or no word for the model, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from format_contents import LORA, SD1, SDXL, Read, a1111, rows, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ti_engine.files import load, load_embedding, read_embedding_file
from ti_engine.files.containers.container import Container
from ti_engine.files.formats.table import find_words
from ti_engine.files.refused import Refused
from ti_engine.word.inspection import describe


@pytest.mark.parametrize(
    ("content", "encoders", "sentence"),
    [
        ({"emb_params": rows(2, 1024)}, SD1, r"width 1024; this model takes width 768 \(clip_l\), and .* for SD2"),
        ({"emb_params": rows()}, SDXL, r"width 768 \(clip_l\); this model takes .* and width 1280 .* for SD1"),
        ({"clip_l": rows(), "clip_g": rows(2, 1280)}, SD1, r"width 1280 \(clip_g\); this model .* for SDXL"),
        ({"clip_l": rows(), "t5": rows(2, 4096)}, SDXL, r"width 4096 \(t5xxl\); this model .* for Flux"),
        ({"llama": rows(2, 4096)}, {4096: "t5xxl"}, r"width 4096 \(llama\); this model takes width 4096 \(t5xxl\)"),
    ],
)
def test_a_word_for_another_model_is_refused(content: Any, encoders: Any, sentence: str, read: Read) -> None:
    with pytest.raises(ValueError, match=sentence):
        read(content, encoder_for_width=encoders)


REFUSED: dict[str, tuple[Any, str]] = {
    "XTI": ({f"IN{n:02}": rows(1) for n in (1, 2, 4, 5, 7, 8)} | {"MID": rows(1)}, "XTI"),
    "XTI squeezed": ({"IN01": rows(1)[0], "MID": rows(1)[0], "OUT03": rows(1)[0]}, "layers of the UNet"),
    "output vectors": ({"emp_params": torch.zeros(2, 768), "emp_params_out": rows()}, "output vectors .emp_params_out"),
    "output beside input": (
        {"clip_l": rows(), "t5": torch.zeros(2, 4096), "t5_out": rows(2, 4096)},
        "output vectors .t5_out",
    ),
    "output alone": ({"clip_g_out": rows(2, 1280)}, "output vectors .clip_g_out"),
    "output in a bundle": ({"bundle_emb.<a>.clip_l_out": rows(), **LORA}, "output vectors"),
    "zeros": ({"emb_params": torch.zeros(2, 768)}, "only zeros"),
    "padded SDXL": ({"clip_l": rows(), "clip_g": torch.zeros(2, 1280)}, "only zeros in clip_g"),
    "a zero vector": ({"emb_params": torch.cat([rows(), torch.zeros(1, 768)])}, "zeros as vector 3 of 3"),
    "NaN": ({"emb_params": torch.full((1, 768), float("nan"))}, "NaN or infinity"),
    "overflow": ({"emb_params": torch.full((1, 768), 1e300, dtype=torch.float64)}, "numbers beyond float32"),
    "integers": ({"emb_params": torch.ones(1, 768, dtype=torch.int64)}, "int64 and not floating"),
    "no rows": ({"emb_params": torch.ones(0, 768)}, "holds no vector"),
    "conditioning": ({"clip_l": torch.ones(1, 77, 768)}, "has shape"),
    "token table": ({"weight": torch.ones(1000, 768)}, "1,000 vectors"),
    "mask": ({"mask": torch.rand(512, 512) + 1}, "is a picture, a latent or a mask and no embedding"),
    "prompt": ({"prompt_embeds": rows(77)}, "is the output of a text encoder"),
    "prompts of SDXL": (
        {"prompt_embeds": rows(77)[None], "pooled_prompt_embeds": rows(1, 1280)},
        "is the output of a text encoder",
    ),
    "statistics": ({"mean": rows(1), "std": rows(1).abs()}, "is statistics"),
    "small picture": ({"pixels": torch.rand(64, 64)}, "is a picture"),
    "words without a mark": ({"cat": rows(1), "dog": rows(1)}, r"holds 2 tensors \(cat, dog\)"),
    "LoRA": (LORA, "is a LoRA without words"),
    "LoHa": ({"lora_te.hada_w1_a": torch.ones(2, 2), "lora_te.hada_w1_b": torch.ones(2, 2)}, "LoRA"),
    "PEFT": ({"base.to_q.lora_A.weight": torch.ones(2, 2)}, "LoRA"),
    "VAE": ({"encoder.conv_in.weight": torch.ones(2, 2, 3, 3), "decoder.conv_in.bias": torch.ones(2)}, "is a VAE"),
    "checkpoint": (
        {
            "model.diffusion_model.time_embed.0.weight": torch.ones(2, 2),
            "first_stage_model.quant_conv.bias": torch.ones(2),
        },
        "is a checkpoint",
    ),
    "whole model": ({"unet.conv_in.weight": torch.ones(2), "text_encoder.a.weight": rows()}, "is a checkpoint"),
    "diffusers UNet": ({"down_blocks.0.attentions.0.norm.weight": torch.ones(2)}, "is a diffusion model"),
    "Flux": ({"double_blocks.0.img_attn.proj.weight": torch.ones(2, 2)}, "is a diffusion model"),
    "text encoder": ({"text_model.embeddings.token_embedding.weight": rows()}, "is a text encoder"),
    "T5": ({"shared.weight": rows(2, 4096), "encoder.block.0.layer.0.weight": torch.ones(2)}, "is a text encoder"),
    "ControlNet": ({"control_model.input_blocks.0.weight": torch.ones(2)}, "is a ControlNet"),
    "latent": ({"latent_tensor": torch.ones(1, 4, 8, 8), "latent_format_version_0": torch.ones(0)}, "a ComfyUI latent"),
    "linear layer": ({"weight_a": rows(1), "weight_b": rows(1)}, "holds 2 tensors .weight_a, weight_b"),
    "a layer's bias": ({"proj.bias": rows(1)[0]}, "part of a network"),
}
REFUSED_PICKLES: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "holds no tensor"),
    "None": (None, "holds nothing"),
    "text": ("<cat>", "holds text"),
    "no states": ([], "holds a list"),
    "two encoders without names": ([rows(1)[0], rows(1, 1280)[0]], "a list of 2 different things"),
    "words of one key": ([a1111({"*": rows()}), a1111({"*": rows()}, name="b")], "a list of 2 different things"),
    "word and name": (("<cat>", rows()), "holds a list and no word"),
    "ComfyUI's conditioning": ([[rows(77)[None], {"pooled_output": rows(1)}]], "holds a list and no word"),
    "deep inside": ({"a": {"b": {"c.weight": rows()}}, "d": {"x": rows(1)}}, "part of a network"),
    "deep inside, of no kind": ({"a": {"b": {"c": rows()}}}, r"holds 1 tensor \(a\.b\.c\)"),
    "no params": ({"string_to_token": {"*": 265}, "string_to_param": {}}, "no vectors in its string_to_param"),
    "picture": (torch.rand(1, 64, 64, 3), "bare tensor of shape"),
    "grey picture": (torch.rand(512, 768), "bare tensor of shape"),
    "other width": (torch.randn(512, 512), "bare tensor of shape"),
    ".optim": ({"hash": "ab12", "optimizer_state_dict": {"state": {}, "param_groups": []}}, "state of an optimizer"),
    "hypernetwork": ({320: [{"linear.weight": rows()}], 768: [], "step": 9, "name": "x"}, "a hypernetwork"),
    "Lightning": ({"state_dict": {"model.diffusion_model.a.weight": rows()}, "global_step": 1}, "is a checkpoint"),
    "IP-Adapter": ({"image_proj": {"a.weight": rows()}, "ip_adapter": {"b.weight": rows()}}, "an IP-Adapter"),
}


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_PICKLES])
def test_what_is_no_word_is_refused_by_what_it_is(name: str, read: Read) -> None:
    content, sentence = (REFUSED | REFUSED_PICKLES)[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        read(content, pickled=name in REFUSED_PICKLES)
    assert str(caught.value).startswith("my cat.pti ")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_bundle_keeps_its_other_words_when_one_is_for_the_output(read: Read) -> None:
    bundle = {
        "bundle_emb.<a>.clip_l": torch.zeros(1, 768),
        "bundle_emb.<a>.clip_l_out": rows(1),
        "bundle_emb.<b>.clip_l": rows(),
    }
    file = read({**bundle, **LORA})
    assert [word.name for word in file.words] == ["<b>"]
    assert any("<a> has output vectors" in warning for warning in file.warnings)


def test_two_sets_of_vectors_for_one_encoder_are_refused(read: Read) -> None:
    with pytest.raises(ValueError, match="2 sets of vectors for clip_l"):
        read({"text_encoders_0": rows(1), "text_encoders_1": rows(2)})


def test_names_and_texts_of_strangers_do_not_break_a_sentence(read: Read) -> None:
    with pytest.raises(ValueError, match="int64") as caught:
        read({"evil\n\x1b[31m": torch.ones(1, 768, dtype=torch.int64)})
    assert str(caught.value).isprintable()


def test_more_words_than_memory_is_held_for_are_refused(read: Read) -> None:
    words = {f"<{number}>": rows(500, 4096) for number in range(3)}
    with pytest.raises(ValueError, match="words of more than 4,194,304 numbers"):
        read({key: rows.bfloat16() for key, rows in words.items()})


def test_more_words_than_anybody_lists_are_refused(read: Read) -> None:
    with pytest.raises(ValueError, match=r"holds 2,001 words, and at most 2,000 are read"):
        read({f"<{number}>": torch.ones(1, 32) for number in range(2001)})


def test_tensors_that_were_not_read_are_no_word() -> None:
    big = Container("safetensors", {"<cat>": rows(), "unet.lora_up.weight": torch.empty(4, 4, device="meta")})
    found = find_words(big)
    assert [word.name for word in found.words] == ["<cat>"]
    outputs = {"emp_params": rows(), "emp_params_out": torch.empty(2, 768, device="meta")}
    with pytest.raises(Refused, match=r"output vectors \(emp_params_out\)"):
        find_words(Container("safetensors", outputs))
    with pytest.raises(Refused, match="LoRA"):
        find_words(Container("safetensors", {"unet.lora_up.weight": torch.empty(4, 4, device="meta")}))


_KEYS = st.sampled_from(
    [
        "string_to_param",
        "string_to_token",
        "*",
        "<cat>",
        "emb_params",
        "emp_params_out",
        "clip_l",
        "t5",
        "t5_out",
        "llama",
        "bundle_emb.a.clip_l",
        "bundle_emb.",
        "emb",
        "emb2",
        "text_encoders_0",
        "IN01",
        "MID",
        "state_dict",
        "name",
        "lora_up.weight",
        "weight",
        "step",
    ]
) | st.text(max_size=5)
_TENSORS = st.builds(
    lambda shape, dtype, value, device: torch.full(shape, value).to(dtype).to(device),
    st.lists(st.sampled_from([0, 1, 2, 80, 768, 1280]), max_size=2) | st.just([1, 2, 3]),
    st.sampled_from(
        [torch.float32, torch.float64, torch.float16, torch.float8_e5m2, torch.int64, torch.bool, torch.complex64]
    ),
    st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf")]),
    st.sampled_from(["cpu", "cpu", "meta"]),  # of files too large to be read whole
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_CONTENTS = st.recursive(
    _TENSORS | _SCALARS,
    lambda inner: st.dictionaries(_KEYS | st.integers(0, 999), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.filterwarnings("error")  # which Python would print beside the sentence
@settings(max_examples=400, deadline=None, derandomize=True)
@given(content=_CONTENTS, encoders=st.sampled_from([None, SD1, SDXL]))
def test_whatever_a_file_holds_is_words_or_one_sentence(content: Any, encoders: dict[int, str] | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "read_container", lambda path, wanted: Container("pickle", content))
        try:
            file = read_embedding_file("none.pt", encoders)
        except ValueError as error:
            assert str(error).startswith("none.pt ") and str(error).endswith(".")
            assert str(error).isprintable() and "(, " not in str(error)
        else:
            describe(file)
            assert file.words and all(word.embedding.vectors for word in file.words)
            assert all(isinstance(text, str) for word in file.words for text in word.embedding.metadata.values())


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 2815, 19778, 35615])
def test_a_header_whose_length_looks_like_another_format(length: int, tmp_path: Path) -> None:
    """The first bytes of safetensors are a number, which may be those of a pickle, a JPEG XL, a BMP or a gzip."""
    header = b'{"emb_params":{"dtype":"F32","shape":[1,768],"data_offsets":[0,3072]}}'.ljust(length)
    file = tmp_path / "cat.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + header + rows(1).numpy().tobytes())
    assert torch.equal(vectors(read_embedding_file(file))["clip_l"], rows(1))


class TestPair:
    def write(self, folder: Path, first: str, second: str, token: str = "<cat>", other: str = "<cat>") -> None:
        save_file({token: rows()}, folder / first, {"format": "pt"})
        save_file({other: rows(2, 1280)}, folder / second, {"format": "pt"})

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("learned_embeds.safetensors", "learned_embeds_2.safetensors"),
            ("learned_embeds-steps-500.safetensors", "learned_embeds_2-steps-500.safetensors"),
            ("cat.safetensors", "cat_2.safetensors"),
        ],
    )
    def test_two_files_beside_each_other_are_one_word(self, first: str, second: str, tmp_path: Path) -> None:
        self.write(tmp_path, first, second)
        for name, other in ((first, second), (second, first)):
            file = read_embedding_file(tmp_path / name)
            (word,) = file.words
            assert word.name == "<cat>"
            assert torch.equal(word.embedding.vectors["clip_l"], rows())
            assert torch.equal(word.embedding.vectors["clip_g"], rows(2, 1280))
            assert file.warnings == [f"Read together with {other}, its other half beside it."]
        assert list(load_embedding(tmp_path / first, SDXL).vectors) == ["clip_l", "clip_g"]

    def test_both_can_be_named(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.safetensors", "b.safetensors")
        for names in (("a", "b"), ("b", "a")):
            one, two = (tmp_path / f"{name}.safetensors" for name in names)
            assert list(vectors(read_embedding_file(one, partner=two))) == ["clip_l", "clip_g"]
        assert list(vectors(read_embedding_file(tmp_path / "a.safetensors"))) == ["clip_l"]

    def test_others_are_no_pair(self, tmp_path: Path) -> None:
        self.write(tmp_path, "cat.safetensors", "cat_2.safetensors", other="<dog>")
        assert list(vectors(read_embedding_file(tmp_path / "cat.safetensors"))) == ["clip_l"]
        assert list(vectors(read_embedding_file(tmp_path / "cat_2.safetensors"))) == ["clip_g"]
        with pytest.raises(ValueError, match=r"cat\.safetensors and cat_2\.safetensors are no pair"):
            read_embedding_file(tmp_path / "cat.safetensors", partner=tmp_path / "cat_2.safetensors")
        (tmp_path / "cat_2.safetensors").write_bytes(b"broken")
        assert list(vectors(read_embedding_file(tmp_path / "cat.safetensors"))) == ["clip_l"]

    def test_a_link_beside_a_file_opens_no_file_elsewhere(self, tmp_path: Path) -> None:
        elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
        elsewhere.mkdir()
        here.mkdir()
        self.write(elsewhere, "cat.safetensors", "cat_2.safetensors")
        (here / "cat.safetensors").write_bytes((elsewhere / "cat.safetensors").read_bytes())
        (here / "cat_2.safetensors").symlink_to(elsewhere / "cat_2.safetensors")
        assert list(vectors(read_embedding_file(here / "cat.safetensors"))) == ["clip_l"]
        (here / "cat.safetensors").unlink()  # a cache, in which every file is a link to one folder
        (here / "cat.safetensors").symlink_to(elsewhere / "cat.safetensors")
        assert list(vectors(read_embedding_file(here / "cat.safetensors"))) == ["clip_l", "clip_g"]
