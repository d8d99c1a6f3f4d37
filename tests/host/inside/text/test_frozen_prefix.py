"""What stands in front of every caption is computed once, and everything is as if it were computed each time."""

from __future__ import annotations

import inspect

import comfy.model_management
import pytest
import torch
from comfy.text_encoders import llama
from in_host import plugin, snapshot
from loss_problem import in_float64
from small_encoders import WIDTH_LLM
from small_families import SMALL, Models, build
from test_memory import exactly
from torch.utils.flop_counter import FlopCounterMode

CONTINUES = "past_key_value" in inspect.signature(llama.TransformerBlock.forward).parameters
TOKENS = {
    "HunyuanImage 2.1": 34, "HunyuanVideo": None, "HunyuanVideo 1.5": 98, "Flux.2": None, "LongCat Image": 36,
    "Ovis Image": 29, "Qwen-Image": 34, "OmniGen 2": 23, "Kandinsky 5 Image": 41, "Kandinsky 5": 127, "PixelDiT": None,
    "Krea 2": 34, "Boogu Image": 29, "Mage-Flow": 34, "JoyImage": 36,
}  # fmt: skip
"""How many, by the family; None where the vocabulary may be a stand-in."""
CAPTIONS = ["S* in red", "a photo of S*", "a rendering of the cool S* and S*", "a photo of a small S*"]
needs_continuing = pytest.mark.skipif(not CONTINUES, reason="the layers of this host continue no text")
one_of_each = pytest.mark.parametrize("family", ["Qwen-Image", "PixelDiT", "HunyuanVideo"])


def backend_of(family):
    with torch.inference_mode():
        models = build(family)
    with torch.inference_mode(False):
        return plugin("nodes.host.backend").HostBackend(*models)


def lent(backend, checkpointing="off"):
    return backend.lent(1, backend.latent_shape(64), checkpointing)


def whole(backend):
    """Computes everything each time."""
    vars(backend.blocks)["prefixes"] = {}
    return backend


def vectors(backend, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(2, info.width, generator=generator).mul_(info.rms).to(torch.get_default_dtype())
        for key, info in backend.encoders.items()
    }


def encoded(backend, captions=CAPTIONS, seed=0):
    """The conditioning of captions, and the gradient of a random projection of it in the vectors."""
    rows = {key: value.requires_grad_() for key, value in vectors(backend, seed).items()}
    batch = backend.encode(captions, {"S*": rows}, differentiable=True)
    generator = torch.Generator().manual_seed(1)
    conditioning = []
    for entry in batch.cond.distinct:
        for value in entry.values():
            if torch.is_tensor(value) and value.requires_grad:
                value.grad = torch.randn(value.shape, generator=generator).to(value)
                conditioning.append(value.detach())
    batch.backward()
    return conditioning, [value.grad for value in rows.values()]


def encoded_alone(backend):
    """In a loan of its own."""
    with lent(backend) as on_loan:
        return encoded(on_loan)


def assert_same(found, wanted, rtol=1e-10):
    for ours, theirs in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=rtol * float(theirs.abs().max()))


@pytest.mark.parametrize("family", SMALL)
def test_which_families_have_one(family):
    with torch.inference_mode():
        prefixes = plugin("nodes.host.text.frozen_prefix").prompt_prefixes(build(family).clip).values()
    assert len(prefixes) == (CONTINUES and family in TOKENS)
    for tokens in prefixes:
        assert len(tokens) == TOKENS[family] if TOKENS[family] else len(tokens) > 50


@needs_continuing
def test_windows_that_slide_are_left_alone(monkeypatch):
    """Gemma 3's, whatever stands in front; Gemma 2 has none."""
    monkeypatch.setattr(plugin("nodes.host.text.frozen_prefix"), "_LEAST", 1)
    assert len(backend_of("Lumina 2").blocks.prefixes) == 1
    assert backend_of("NewBie").blocks.prefixes == {}


@needs_continuing
@pytest.mark.parametrize("family", TOKENS)
def test_conditioning_and_gradient_of_every_family(family, monkeypatch):
    """Captions that differ in front of the word or begin with it, two words, other vectors, in one loan."""
    other = whole(backend_of(family))
    with torch.inference_mode(False), lent(other) as on_loan, in_float64(on_loan, monkeypatch):
        wanted = [encoded(on_loan, seed=seed) for seed in (0, 1)]
    backend = backend_of(family)
    for block in backend.blocks.encoders:  # what runs twice does so in float64, too
        vars(block)["forward"] = exactly(block.forward)
    for checkpointing in ("off", "on"):
        with torch.inference_mode(False), lent(backend, checkpointing) as on_loan, in_float64(on_loan, monkeypatch):
            for seed in (0, 1, 0):
                found = encoded(on_loan, seed=seed)
                assert found[0][0].dtype == torch.float64
                assert_same(found, wanted[seed])
            batch = on_loan.encode(CAPTIONS, {"S*": vectors(backend)}, differentiable=False)
            tensors = [t for entry in batch.cond.distinct for t in entry.values() if torch.is_tensor(t)]
            assert_same(([t for t in tensors if t.is_floating_point()], []), (wanted[0][0], []))


@needs_continuing
@one_of_each
def test_in_the_precision_of_a_run(family):
    backend, other = backend_of(family), whole(backend_of(family))
    with torch.inference_mode(False):
        with lent(backend) as on_loan:
            found = encoded(on_loan)
            assert_bits(found, encoded(on_loan))
        with lent(other) as on_loan:
            wanted = encoded(on_loan)
    assert_same(found, wanted, rtol=1e-4)


def assert_bits(found, wanted):
    assert all(torch.equal(a, b) for a, b in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True))


@needs_continuing
def test_weights_in_fp8():
    """Which the host converts in every layer."""
    backend, other = backend_of("Qwen-Image"), whole(backend_of("Qwen-Image"))
    for one in (backend, other):
        for block in one.blocks.encoders:
            for weight in block.parameters():
                if weight.ndim == 2:
                    weight.data = weight.data.to(torch.float8_e4m3fn)
    with torch.inference_mode(False), lent(backend, "on") as ours, lent(other) as theirs:
        assert_same(encoded(ours), encoded(theirs), rtol=1e-4)


@needs_continuing
@one_of_each
def test_what_was_encoded_before_changes_no_bit(family):
    """So that a run which goes on from its middle, or stops to draw, learns the same word."""
    backend = backend_of(family)
    with torch.inference_mode(False), lent(backend) as on_loan:
        first = encoded(on_loan)
        with on_loan.loan.paused():
            pass
        encoded(on_loan, CAPTIONS[::-1], seed=1)
        assert_bits(encoded(on_loan), first)


@needs_continuing
@pytest.mark.parametrize("family", ["Qwen-Image", "PixelDiT"])  # which have no second encoder
@pytest.mark.parametrize("how", ["off", "on"])
def test_a_step_computes_nothing_in_front_of_the_caption(family, how):
    def work(backend):
        with torch.inference_mode(False), lent(backend, how) as on_loan:
            encoded(on_loan, ["a photo of S*"])
            with FlopCounterMode(display=False) as counter:
                encoded(on_loan, ["a photo of S*"])
        return counter.get_total_flops()

    tokens = []
    backend, other = backend_of(family), whole(backend_of(family))
    ((network, prefix),) = backend.blocks.prefixes.items()
    network.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.append(kwargs["embeds"].shape[1]), with_kwargs=True
    )
    ours, theirs = work(backend), work(other)
    # All but the table of angles, which is the whole text's.
    assert ours / theirs == pytest.approx(1 - len(prefix) / tokens[0], rel=0.001)


@needs_continuing
def test_texts_that_begin_otherwise():
    """Some tokenizers add nothing to what brings its own template."""
    captions = ["<|im_start|>user\nS* in red<|im_end|>", "a photo of S*", "<|im_start|>system\nDescribe S*"]
    backend, other = backend_of("Qwen-Image"), whole(backend_of("Qwen-Image"))
    with torch.inference_mode(False), lent(backend) as ours, lent(other) as theirs:
        assert_same(encoded(ours, captions), encoded(theirs, captions), rtol=1e-4)
        assert_bits(encoded(ours, captions[::2]), encoded(theirs, captions[::2]))


@needs_continuing
@pytest.mark.parametrize("between", ["loans", "pauses", "checkpointing"])
def test_nothing_outlives_a_change_of_the_weights(between):
    backend, other = backend_of("Qwen-Image"), whole(backend_of("Qwen-Image"))
    layer = "transformer.model.layers.0.mlp.down_proj.weight"

    def change(one):
        (network,) = one.family.encoders.values()
        network.network.get_parameter(layer).data.mul_(3)

    with torch.inference_mode(False):
        change(other)
        with lent(other) as on_loan:
            wanted = encoded(on_loan)
        with lent(backend, "auto") as on_loan:
            before = encoded(on_loan)
            if between == "pauses":
                with on_loan.loan.paused():
                    change(backend)
                found = encoded(on_loan)
            elif between == "checkpointing":
                change(backend)
                assert on_loan.save_memory()
                found = encoded(on_loan)
        if between == "loans":
            change(backend)
            with lent(backend) as on_loan:
                found = encoded(on_loan)
    assert_same(found, wanted, rtol=1e-4)
    with pytest.raises(AssertionError):
        assert_same(before, wanted, rtol=1e-2)


@needs_continuing
def test_a_lora_on_the_encoder():
    def with_lora(models):
        clip = models.clip.clone()
        keys = [k for k in clip.patcher.model.state_dict() if "layers" in k and k.endswith("proj.weight")]
        patches = {}
        for number, key in enumerate(keys):
            shape = clip.patcher.model.state_dict()[key].shape
            patches[key] = (0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(number)),)
        assert clip.patcher.add_patches(patches)
        return clip

    with torch.inference_mode():
        models, others = build("Qwen-Image"), build("Qwen-Image")
        plain = plugin("nodes.host.backend").HostBackend(*models)
        patched = plugin("nodes.host.backend").HostBackend(models.model, with_lora(models), models.vae)
        other = whole(plugin("nodes.host.backend").HostBackend(others.model, with_lora(others), others.vae))
    with torch.inference_mode(False):
        before, found, wanted = map(encoded_alone, (plain, patched, other))
    assert_same(found, wanted, rtol=1e-4)
    with pytest.raises(AssertionError):
        assert_same(before, wanted, rtol=1e-2)


@needs_continuing
@pytest.mark.parametrize("error", [RuntimeError, comfy.model_management.InterruptProcessingException])
@pytest.mark.parametrize("calls", [1, 6])  # while the tokens in front are read, and later on
def test_layers_come_back_after_errors(error, calls, monkeypatch):
    backend = backend_of("Qwen-Image")
    (encoder,) = backend.family.encoders.values()
    modules = list(encoder.network.modules())
    before, bits = [dict(vars(module)) for module in modules], snapshot(backend_models(backend))
    forward, seen = llama.MLP.forward, []

    def failing(self, x):
        seen.append(x)
        if len(seen) == calls:
            raise error
        return forward(self, x)

    with torch.inference_mode(False):
        with pytest.raises(error), lent(backend) as on_loan:
            monkeypatch.setattr(llama.MLP, "forward", failing)
            encoded(on_loan)
        assert len(seen) == calls
        assert all("forward" not in vars(module) for module in modules)
        assert all(vars(module).keys() == own.keys() for module, own in zip(modules, before, strict=True))
        for key, (parameter, values) in snapshot(backend_models(backend)).items():
            assert parameter is bits[key][0] and torch.equal(values, bits[key][1])
        assert_same(encoded_alone(backend), encoded_alone(whole(backend_of("Qwen-Image"))), rtol=1e-4)


def backend_models(backend):
    return Models(backend.patcher, backend.clip, backend.vae)


@needs_continuing
def test_an_error_in_the_middle_of_a_text_is_forgotten(monkeypatch):
    """The loan goes on after one that training survives, as it does with full memory."""
    backend, other = backend_of("Qwen-Image"), whole(backend_of("Qwen-Image"))
    forward, seen = llama.MLP.forward, []

    def failing(self, x):
        seen.append(x)
        if len(seen) == 4:
            raise MemoryError
        return forward(self, x)

    with torch.inference_mode(False), lent(backend) as ours, lent(other) as theirs:
        monkeypatch.setattr(llama.MLP, "forward", failing)
        with pytest.raises(MemoryError):
            encoded(ours)
        assert_same(encoded(ours), encoded(theirs), rtol=1e-4)


class Texts:
    """A language model that reads texts of tokens and vectors, whole or after what is in front."""

    def __init__(self, prefix):
        (encoder,) = backend_of("Qwen-Image").family.encoders.values()
        self.network, self.prefix = encoder.network, prefix

    def read(self, texts, frozen):
        prefixes = {self.network: self.prefix} if frozen else {}
        guard = plugin("nodes.host.text.caption_encoding").encoder_guard()
        lent = plugin("nodes.host.text.frozen_prefix").frozen_prefixes(prefixes)
        with torch.inference_mode(False), torch.no_grad(), guard, lent:
            return [self.network(text)[0].clone() for text in texts]

    def agree(self, texts):
        pairs = zip(self.read(texts, True), self.read(texts, False), strict=True)
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)


WORD, PAD = torch.ones(WIDTH_LLM), 151643


@needs_continuing
def test_padding_in_front_sees_what_follows(monkeypatch):
    """Everything is masked for it alike, so that it is computed anew each time."""
    texts = Texts([PAD] * 20)
    told = [[[PAD] * 20 + [5, 6, WORD * scale, 7]] for scale in (1, -1)]
    assert texts.agree(told)
    monkeypatch.setattr(plugin("nodes.host.text.frozen_prefix"), "looks_only_back", lambda *_: True)
    assert not texts.agree(told)


@needs_continuing
def test_padding_behind_and_between():
    texts = Texts([*range(10), PAD, *range(10)])
    assert texts.agree([[[*texts.prefix, 5, WORD * scale, 7] + [PAD] * scale] for scale in (1, 2, 3)])


@needs_continuing
@pytest.mark.parametrize(
    "mask",
    [
        None,
        torch.ones(20, 20, dtype=torch.bool).tril(),
        torch.zeros(20, 20),
        torch.full((20, 20), -1e38).triu(2),  # sees one that follows
        torch.full((20, 20), -1.0).triu(1),  # a bias, no mask
        torch.full((1, 1, 20, 20), -1e38).triu(1).index_fill(-1, torch.arange(2), -1e38),
    ],
)
def test_masks_that_prove_nothing(mask):
    looks_only_back = plugin("nodes.host.text.frozen_prefix").looks_only_back
    assert looks_only_back(torch.full((20, 20), -1e38).triu(1), 16)
    assert not looks_only_back(mask, 16)


@needs_continuing
def test_several_texts_at_once_are_read_whole(monkeypatch):
    texts = Texts([*range(20)])
    both = [[[*range(20), 5, WORD, 7], [*range(20), 6, -WORD, 8]]]
    whole, joined = texts.read(both, False), texts.read(both, True)
    assert torch.equal(whole[0], joined[0])


@needs_continuing
def test_the_prefix_alone_is_read_whole():
    texts = Texts([*range(20)])
    assert texts.agree([[[*range(20)]], [[*range(21)]], [[*range(19), WORD]]])
