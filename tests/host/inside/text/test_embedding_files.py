"""Files in the host's embeddings folders: listed, read, named in prompts, inspected and merged."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from in_host import plugin
from safetensors.torch import save_file
from small_clip import core, same, small_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    return SimpleNamespace(clip=small_clip(folder), folder=folder)


@pytest.fixture
def folder(clip, monkeypatch):
    """The host's only embeddings folder, emptied."""
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(clip.folder)], extensions))
    for path in sorted(clip.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    return clip.folder


def rows(count=2, width=768, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def save(path, vectors):
    """In the manner of the program that writes such files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({"emb_params": vectors}, path)
    elif path.suffix == ".pt":  # A1111
        torch.save(
            {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "inner", "step": 500}, path
        )
    else:  # diffusers
        torch.save({"<trigger>": vectors}, path)


def encode(clip, text, *words):
    with torch.inference_mode():
        return plugin("nodes.encode_prompt").EncodePrompt.execute(clip, text, *words).args


def load(*settings):
    with torch.inference_mode():
        return plugin("nodes.load_embedding").LoadEmbedding.execute(*settings).args


NAMES = ["one.safetensors", "pets/two.safetensors", "three.pt", "pets/four.pt", "five.bin"]
TEXTS = ["a photo of {}", "a photo of ({}:1.2)", "{}, a red thing", "{} beside {} in (the ({}:0.7) style)",
         "thing " * 70 + "{} end", "a\n{}"]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_what_it_means_in_the_core_node(clip, folder, name, dtype):
    save(folder / name, rows().to(dtype))
    stem = name.rpartition(".")[0]
    for text in TEXTS:
        wanted = core(clip.clip, text.replace("{}", f"embedding:{stem}"))
        for spelled in (f"<{stem}>", f"<{name}>", f"<{stem.split('/')[-1].upper()}>", f"embedding:<{stem}>"):
            assert same(encode(clip.clip, text.replace("{}", spelled))[0], wanted), (text, spelled)
        connected = load(name, "S*")[0]
        assert same(encode(clip.clip, text.replace("{}", "S*"), connected)[0], wanted)


def test_names_that_the_core_node_cannot_write(clip, folder):
    vectors = rows(3)
    save(folder / "plain.pt", vectors)
    for name in ("v1.5, my (best) cat", "sub folder/Ünï: 1.2"):
        save(folder / f"{name}.pt", vectors)
        assert same(encode(clip.clip, f"a <{name}>, b")[0], core(clip.clip, "a embedding:plain, b"))


def test_several_names_beside_a_connected_word(clip, folder, word):
    save(folder / "one.safetensors", rows(seed=1))
    save(folder / "two.pt", rows(3, seed=2))
    plugin("ti_engine.files").save_embedding(word(1, 768), folder / "own.safetensors")
    text = "{} and (two:1.1){} with {} and {}"
    wanted = core(clip.clip, text.format("embedding:one", " embedding:two", "embedding:own", "embedding:one"))
    mine, report = encode(clip.clip, text.format("<one>", "<two>", "S*", "<ONE>"), word(1, 768))
    assert same(mine, wanted)
    assert "<one.safetensors>: 2 vectors at position 1-2, " in report and "<two.pt>: 3 vectors" in report


@pytest.mark.parametrize("text", ["a < b and c > d", "<|endoftext|> a", "a (red:1.2) <- b", "<Prompt Start> x", "<3"])
def test_without_a_name_it_is_the_core_node(clip, folder, text):
    assert same(encode(clip.clip, text)[0], core(clip.clip, text))


def test_the_pictures_of_a1111(clip, folder):
    word = plugin("ti_engine").TokenEmbedding({"clip_l": rows(2)}, "cat")
    for name in ("cat.png", "plain.safetensors"):
        plugin("ti_engine.files").save_embedding(word, folder / name)
    assert same(encode(clip.clip, "a <cat>")[0], core(clip.clip, "a embedding:plain"))
    assert torch.equal(load("cat.png")[0].vectors["clip_l"], word.vectors["clip_l"])


def test_the_list_has_every_file_and_no_previews(folder, tmp_path):
    listed = [*NAMES, "a/b/six.pti", "carrier.png"]
    word = plugin("ti_engine").TokenEmbedding({"clip_l": rows()}, "cat")
    for name in [*listed, "one.preview.png", "one.png", "notes.txt", ".hidden/seven.pt", "._one.pt", "a/b/._six.pti"]:
        save(folder / name, rows())
    for name in ("carrier.png", "five.png"):  # the word travels in the picture, even beside five.bin
        plugin("ti_engine.files").save_embedding(word, folder / name, overwrite=True)
    save(tmp_path / "outside.pt", rows())
    (folder / "link.pt").symlink_to(tmp_path / "outside.pt")
    (folder / "links").symlink_to(tmp_path)
    for name in ("deep/seven.bin", "elsewhere/nine.pt", ".hidden/eight.pt"):
        save(tmp_path / name, rows())
    for link, to in (("deep/round", tmp_path), ("again", folder), ("more", tmp_path / "elsewhere")):
        (tmp_path / link).symlink_to(to)
    (tmp_path / "elsewhere/ring").symlink_to(tmp_path / "elsewhere/ring")
    (folder / "inside.pt").symlink_to(folder / "three.pt")
    (folder / "gone.pt").symlink_to(folder / "no.pt")
    schema = plugin("nodes.load_embedding").LoadEmbedding.define_schema()
    assert sorted(schema.inputs[0].options) == sorted(
        [*listed, "five.png", "inside.pt", "link.pt", "links/outside.pt", "links/deep/seven.bin", "links/more/nine.pt",
         "links/elsewhere/nine.pt"]
    )  # fmt: skip
    for name in ("inside.pt", "link.pt", "links/outside.pt", "links/deep/seven.bin"):
        assert load(name)[0].num_vectors == 2
    for name in (str(tmp_path / "outside.pt"), "links/../one.safetensors"):
        with pytest.raises(ValueError, match="leads out of the embeddings folders; copy the file"):
            load(name)
    for name in ("gone.pt", "x" * 5000, "a\0b"):
        with pytest.raises(ValueError, match="no embedding"):
            load(name)


def test_names_behind_links_mean_what_they_mean_in_the_core_node(clip, folder, tmp_path):
    save(tmp_path / "pets/fox.pt", rows(3))
    (folder / "far").symlink_to(tmp_path / "pets")
    (folder / "near").symlink_to(folder / "far")
    (folder / "owl.pt").symlink_to(tmp_path / "pets/fox.pt")
    wanted = core(clip.clip, "a embedding:far/fox")
    for spelled in ("<fox>", "<far/fox>", "<near/fox.pt>", "<owl>", "embedding:near/fox", "embedding:owl"):
        mine, report = encode(clip.clip, f"a {spelled}")
        assert same(mine, wanted) and "Warning: emb" not in report, report
    save(folder / "own/fox.pt", rows(3))
    with pytest.raises(ValueError, match="could be any of"):
        encode(clip.clip, "a <fox>")


def test_one_of_several_words(folder):
    words = {"bundle_emb.<cat>.emb_params": rows(1), "bundle_emb.<dog>.emb_params": rows(3)}
    save_file(words, folder / "both.safetensors")
    assert load("both.safetensors", "", "<dog>")[0].num_vectors == 3
    embedding, report = load("both.safetensors", "S*", " <cat> ")
    assert embedding.num_vectors == 1 and embedding.placeholder == "S*"
    assert "both.safetensors (safetensors: " in report and "clip_l: 1 vector of width 768" in report
    with pytest.raises(ValueError, match=r"holds 2 words: <cat>, <dog>\. Write the one you want into word"):
        load("both.safetensors")
    with pytest.raises(ValueError, match="holds no word cow; it holds <cat>, <dog>"):
        load("both.safetensors", "", "cow")


def test_an_ambiguous_bundle_is_not_applied(clip, folder):
    save_file({"bundle_emb.cat.emb_params": rows(1), "bundle_emb.dog.emb_params": rows(3)}, folder / "both.safetensors")
    with pytest.raises(ValueError, match=r"both.safetensors holds 2 words \(cat, dog\); choose one in Load Embedding"):
        encode(clip.clip, "a <both>")


def test_a_changed_file_is_read_again(clip, folder):
    encode_node, load_node = plugin("nodes.encode_prompt").EncodePrompt, plugin("nodes.load_embedding").LoadEmbedding
    prints, results = [], []
    for seed in (0, 0, 1):
        save(folder / "cat.safetensors", rows(seed=seed))
        path = folder / "cat.safetensors"
        prints.append((encode_node.fingerprint_inputs(text="a <cat>"), load_node.fingerprint_inputs(str(path.name))))
        results.append(encode(clip.clip, "a <cat>")[0])
    assert prints[1][0] != prints[2][0] and prints[1][1] != prints[2][1]
    assert same(results[0], results[1]) and not same(results[1], results[2])


@pytest.mark.parametrize(
    ("width", "sentence"),
    [
        (
            1024,
            r"<big\.pt> does not fit this CLIP: it holds clip_h of width 1024 \(SD2\), .*clip_l of width 768 \(SD1\)",
        ),
        (1280, r"clip_g of width 1280 \(Stable Cascade or SDXL's refiner\), .*clip_l of width 768 \(SD1\)"),
    ],
)
def test_a_word_of_another_family_is_one_sentence(clip, folder, width, sentence):
    save(folder / "big.pt", rows(width=width))
    with pytest.raises(ValueError, match=sentence):
        encode(clip.clip, "a <big>")


def test_a_broken_file_is_one_sentence(clip, folder):
    (folder / "cat.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"cat\.pt.*Git LFS pointer"):
        encode(clip.clip, "a <cat>")


def test_half_of_a_word_is_no_word(clip, folder):
    save_file({"clip_l": rows(), "clip_g": rows(width=1280)}, folder / "xl.safetensors")
    sentence = (
        r"holds clip_l of width 768 and clip_g of width 1280 \(SDXL\), the CLIP takes clip_l of width 768 \(SD1\)"
    )
    with pytest.raises(ValueError, match=sentence):
        encode(clip.clip, "a <xl>")


class Table(torch.nn.Module):
    """As much of a network as tells its width."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.empty(1, width)

    def get_input_embeddings(self):
        return self


def encoders_of(clip, *keys, loaded):
    """A CLIP that has `keys` and of these only `loaded` with their weights."""
    tokenizers, networks = vars(clip.tokenizer), vars(clip.cond_stage_model)["_modules"]
    parts = {key: SimpleNamespace() for key in ("tokenizer", "cond_stage_model")}
    for key in keys:
        tokenizer, network = copy.copy(tokenizers["clip_l"]), copy.copy(networks["clip_l"])
        tokenizer.embedding_key = key
        table = Table({"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}[key])
        network._modules = {**network._modules, "transformer": table}
        setattr(parts["tokenizer"], key, tokenizer)
        setattr(parts["cond_stage_model"], key, network if key in loaded else None)
    return SimpleNamespace(**parts)


def test_what_was_not_loaded_is_not_missed(clip):
    """SD3 without T5 takes a word of SD3; SDXL's refiner one of SDXL; nobody one whose file names other encoders."""
    make, fit = plugin("ti_engine").TokenEmbedding, plugin("nodes.host.text.words").vectors_for
    xl = {"clip_l": rows(), "clip_g": rows(width=1280)}
    sd3 = encoders_of(clip.clip, "clip_l", "clip_g", "t5xxl", loaded=("clip_l", "clip_g"))
    assert set(fit(sd3, make({**xl, "t5xxl": rows(width=4096)}))) == {"clip_l", "clip_g"}
    refiner = encoders_of(clip.clip, "clip_g", loaded=("clip_g",))
    assert set(fit(refiner, make(xl))) == {"clip_g"}
    with pytest.raises(ValueError, match=r"holds bert of width 1280 \(the first latent diffusion model\)"):
        fit(refiner, make({"bert": rows(width=1280)}))
    flux = encoders_of(clip.clip, "clip_l", "t5xxl", loaded=("clip_l", "t5xxl"))
    assert set(fit(flux, make({"clip_l": rows(), "t5xxl": rows(width=4096)}))) == {"clip_l", "t5xxl"}
    with pytest.raises(ValueError, match=r"llama of width 4096 \(HunyuanVideo\), the CLIP takes .* \(Flux\.1\)"):
        fit(flux, make({"clip_l": rows(), "llama": rows(width=4096)}))


def test_a_name_that_leads_out_is_not_looked_up(folder, tmp_path):
    """Whoever sends a graph learns nothing of other files, not even whether they are there."""
    save(tmp_path / "there.pt", rows())
    told = set()
    for name in ("there.pt", "not.pt"):
        for way in (str(tmp_path / name), f"../{tmp_path.name}/{name}", f"pets/../../{name}", f"..\\{name}"):
            with pytest.raises(ValueError) as caught:
                load(way)
            told.add(str(caught.value).replace(repr(way), ""))
    assert told == {" leads out of the embeddings folders; copy the file itself into one of them."}


def test_texts_of_a_file_stay_on_their_lines(folder):
    save_file({"<cat>\nWarning: fine": rows()}, folder / "x.safetensors", {"note\n": "a\nWarning: b"})
    report = load("x.safetensors")[1].split("\n")
    assert sum(line.startswith("Warning: ") for line in report) == 2  # of the width, and of the name
    assert "Warning: fine" not in report
    assert "'note\\n': 'a\\nWarning: b'" in report


def test_letters_without_meaning_stay_what_they_are(clip, folder, word):
    text = "a \ue000 and S* \ue001"
    files = plugin("ti_engine.files")
    files.save_embedding(word(1, 768), folder / "own.safetensors")
    assert same(encode(clip.clip, text, word(1, 768))[0], core(clip.clip, text.replace("S*", "embedding:own")))


def test_a_changed_other_half_is_noticed(folder):
    node = plugin("nodes.load_embedding").LoadEmbedding
    save_file({"<cat>": rows()}, folder / "learned_embeds.safetensors")
    prints = [node.fingerprint_inputs("learned_embeds.safetensors")]
    for seed in (0, 1):
        save_file({"<cat>": rows(width=1280, seed=seed)}, folder / "learned_embeds_2.safetensors")
        prints.append(node.fingerprint_inputs("learned_embeds.safetensors"))
    assert len(set(prints)) == 3
    assert set(load("learned_embeds.safetensors")[0].vectors) == {"clip_l", "clip_g"}


def test_a_second_folder_with_the_same_name_is_told(clip, folder, tmp_path, monkeypatch):
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(folder), str(tmp_path)], extensions))
    save(folder / "cat.pt", rows(1))
    save(tmp_path / "cat.pt", rows(2))
    save(tmp_path / "dog.pt", rows(3))
    embedding, report = load("cat.pt")
    assert embedding.num_vectors == 1 and f"Warning: {tmp_path / 'cat.pt'} has the same name" in report
    assert load("dog.pt")[0].num_vectors == 3 and "dog.pt" in plugin("nodes.host.text.folders").embedding_files()


def test_nothing_is_saved_through_a_link_that_leads_out(folder, tmp_path, word):
    (folder / "out").symlink_to(tmp_path)
    save_node = plugin("nodes.save_embedding").SaveEmbedding
    with pytest.raises(ValueError, match=r"'out/cat' leads out of the embeddings folders by a link"):
        save_node.execute(word(), "out/cat")
    assert list(tmp_path.iterdir()) == []


def test_saves_at_the_same_moment_take_different_names(folder, word):
    save_node = plugin("nodes.save_embedding").SaveEmbedding
    with ThreadPoolExecutor(8) as pool:
        saved = list(pool.map(lambda number: save_node.execute(word(number), "cat").args[1], range(1, 17)))
    assert len(set(saved)) == 16
    for number, name in enumerate(saved, 1):
        assert load(f"{name.removeprefix('embedding:')}.safetensors")[0].num_vectors == number
    assert len(list(folder.iterdir())) == 16


def inspect(embedding, clip=None):
    with torch.inference_mode():
        return plugin("nodes.inspect_embedding").InspectEmbedding.execute(embedding, clip)


def merge(clip, *words, add="", subtract="", weights="", rescale=False):
    others = [*words[1:], None, None, None][:3]
    with torch.inference_mode():
        node = plugin("nodes.merge_embeddings").MergeEmbeddings
        return node.execute(words[0], "weighted sum", weights, add, subtract, rescale, "S*", *others, clip).args


def word_rows(clip, text):
    """The vectors of `text` from the weight itself."""
    weight = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    ids = clip.tokenizer.clip_l.tokenizer(text)["input_ids"][1:-1]
    return weight[ids].float().clone()


def test_a_word_of_the_vocabulary_is_its_own_nearest(clip):
    king, cat = word_rows(clip.clip, "king"), word_rows(clip.clip, "cat")
    word = plugin("ti_engine").TokenEmbedding({"clip_l": torch.cat([king, cat * 40])}, "S*")
    output = inspect(word, clip.clip)
    report, picture = output.args
    assert "nearest words king 1.00, " in report and "nearest words cat 1.00, " in report
    assert "Warning: Vector 2 of clip_l" in report and "x a word's: it will dominate the prompt" in report
    assert picture.shape == (1, 240, 768, 3) and output.ui["text"] == [report]


def test_a_word_for_another_model_is_still_shown(clip):
    word = plugin("ti_engine").TokenEmbedding({"clip_h": rows(width=1024)}, "S*")
    report = inspect(word, clip.clip).args[0]
    assert "clip_h: 2 vectors of width 1024" in report and "nearest" not in report
    assert "Warning: The embedding S* does not fit this CLIP" in report


def test_king_minus_man_plus_woman(clip):
    king, man, woman = (word_rows(clip.clip, word) for word in ("king", "man", "woman"))
    word = plugin("ti_engine").TokenEmbedding({"clip_l": torch.cat([king, king * 2])}, "king")
    merged, report = merge(clip.clip, word, add="woman", subtract="man")
    assert torch.allclose(merged.vectors["clip_l"], torch.cat([king, king * 2]) - man + woman, atol=1e-6)
    assert "king (1), woman (1), man (-1)" in report
    weight = clip.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    lengths = merge(clip.clip, word, rescale=True)[0].vectors["clip_l"].norm(dim=1)
    assert torch.allclose(lengths, weight.float().norm(dim=1).median(), rtol=1e-4)
    with pytest.raises(ValueError, match="holds clip_h of width 1024"):
        merge(clip.clip, plugin("ti_engine").TokenEmbedding({"clip_h": rows(width=1024)}, "x"), rescale=True)


def test_what_is_merged_can_be_saved_and_named(clip, folder, word):
    merged, _ = merge(None, word(1, 768), word(1, 768, "T*"), weights="0.3, 0.7")
    plugin("nodes.save_embedding").SaveEmbedding.execute(merged, "both")
    assert load("both.safetensors")[0].metadata["modelspec.merged_from"] == "S* (0.3), T* (0.7)"
    assert same(encode(clip.clip, "a <both>")[0], core(clip.clip, "a embedding:both"))
