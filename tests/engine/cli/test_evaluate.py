"""`textual-inversion evaluate`: its figures, what it says is missing, and what it refuses before a model is opened."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from command_line import Output, refused, run
from PIL import Image
from small_towers import write_clip, write_dino

from ti_engine import TokenEmbedding
from ti_engine.cli import evaluate, main
from ti_engine.cli.evaluation_input import read_compared
from ti_engine.demo import model
from ti_engine.demo.quality import Score
from ti_engine.evaluation.clip_folder import ClipFolder
from ti_engine.evaluation.cosines import pairwise_cosines
from ti_engine.files import load_embedding, save_embedding

QUICK = ["--model", "demo", "--num-images", "2", "--steps", "2", "--resolution", "64", "--quiet"]
WORD = ["evaluate", "w.safetensors"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("towers") / "small-clip"))


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dino(tmp_path_factory.mktemp("towers") / "small-dino"))


@pytest.fixture(autouse=True)
def word(pictures_and_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "EDITS", evaluate.EDITS[::4])
    rows = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    save_embedding(TokenEmbedding({"clip_l": rows}), "w.safetensors")
    for name, colour in (("c.png", "purple"), ("d.png", "navy")):
        Image.new("RGB", (50, 40), colour).save(name)


def test_the_demo_model_is_scored_by_its_judge_and_the_rest_is_named(capsys: Output) -> None:
    assert main([*WORD, "--pictures", "a.png", "b.jpg", "c.png", *QUICK, "--json", "s.json"]) == 0
    told, text = json.loads(Path("s.json").read_text()), capsys.readouterr().out
    (scores,) = told["scores"]
    assert scores["scorer"] == "judge of the demo model" and scores["text"] is None and scores["patches"] is None
    assert scores["likeness"]["low"] <= scores["likeness"]["value"] <= scores["likeness"]["high"]
    assert set(told["judge"]) == set(scores["groups"]) == {"background", "style", "property", "relation"}
    assert (told["pictures_a_prompt"], told["steps"], told["word"]) == (2, 2, "S*")
    assert told["references"] == {"held_out": False, "pictures": ["a.png", "b.jpg", "c.png"], "foreground": False}
    assert "Missing: text (editability), which needs a CLIP: --clip FOLDER" in text
    assert "which sees more of the shape" in text and "--held-out" in text and "--masks" in text
    assert f"likeness {scores['likeness']['value']:.3f} (" in text and "show what is asked" in text


def test_the_figures_are_those_of_the_pictures_that_generate_draws(capsys: Output, clip: str) -> None:
    from ti_engine.data.picture_files import read_pictures

    assert main([*WORD, "--pictures", "a.png", "b.jpg", *QUICK, "--clip", clip, "--json", "s.json"]) == 0
    generate = ["generate", "a photo of S*", "--embedding", "w.safetensors", "--output", "photos"]
    assert main([*generate, "--model", "demo", "--num-images", "2", "--steps", "2", "--resolution", "64"]) == 0
    by_clip, by_judge = json.loads(Path("s.json").read_text())["scores"]
    tower = ClipFolder(clip)
    photos, training = (read_pictures(paths).pictures for paths in (["photos"], ["a.png", "b.jpg"]))
    cosines = pairwise_cosines(tower.embed_pictures(photos), tower.embed_pictures(training))
    assert by_clip["likeness"]["value"] == pytest.approx(float(cosines.mean()), abs=2e-3)  # PNG rounds to 8 bit
    among = pairwise_cosines(tower.embed_pictures(training[:1]), tower.embed_pictures(training[1:]))
    assert by_clip["ceiling"]["value"] == pytest.approx(float(among), abs=1e-6)
    assert by_clip["text"]["value"] and by_clip["groups"]["style"]["text_of_mean"] and by_clip["patches"]
    assert by_judge["text"] is None
    assert "Missing: text" not in capsys.readouterr().out


def test_held_out_pictures_and_masks_change_what_is_compared(capsys: Output, dino: str) -> None:
    figures = {}
    Path("masks").mkdir()
    for name, size in (("c.png", (50, 40)), ("a.png", (40, 50))):
        mask = Image.new("L", size, 0)
        mask.paste(255, (0, 0, 20, 20))
        mask.save(Path("masks") / name)
    for name, flags in (
        ("plain", []),
        ("held", ["--held-out", "c.png"]),
        ("masked", ["--held-out", "c.png", "--masks", "masks"]),
    ):
        assert main([*WORD, "--pictures", "a.png", *flags, *QUICK, "--dino", dino, "--json", f"{name}.json"]) == 0
        figures[name] = json.loads(Path(f"{name}.json").read_text())
    likeness = {figure["scores"][0]["likeness"]["value"] for figure in figures.values()}
    assert len(likeness) == 3
    assert figures["plain"]["scores"][0]["ceiling"] is None  # of one training picture
    assert figures["held"]["scores"][0]["ceiling"]["value"] < 1
    assert figures["masked"]["references"] == {"held_out": True, "pictures": ["c.png"], "foreground": True}
    out = capsys.readouterr().out
    assert "Compared with the held-out pictures, each without its background: c.png." in out


def test_another_model_is_scored_by_the_folders_alone(capsys: Output, clip: str, dino: str) -> None:
    from small_pipelines import build_pipeline

    pipeline = build_pipeline("sd1", torch.float32)
    pipeline.save_pretrained("sd")
    width = pipeline.text_encoder.config.hidden_size
    save_embedding(TokenEmbedding({"clip_l": torch.randn(1, width)}), "small.safetensors")
    flags = [
        "--pictures",
        "a.png",
        "b.jpg",
        "--model",
        "sd",
        "--num-images",
        "1",
        "--steps",
        "1",
        "--resolution",
        "64",
        "--quiet",
    ]
    word = ["evaluate", "small.safetensors", *flags]
    assert main([*word, "--clip", clip, "--dino", dino, "--json", "both.json"]) == 0
    both = json.loads(Path("both.json").read_text())
    assert [one["scorer"] for one in both["scores"]] == ["CLIP small-clip", "DINO small-dino"]
    assert list(both["scores"][0]["groups"]) == list(evaluate.PROMPTS) == list(both["prompts"])
    assert "judge" not in both and both["scores"][1]["text"] is None
    capsys.readouterr()
    assert main([*word, "--dino", dino, "--json", "dino.json"]) == 0
    alone = json.loads(Path("dino.json").read_text())
    assert alone["scores"] == [{**both["scores"][1], "groups": {}}]  # no prompt was drawn whose text nothing reads
    assert "Missing: text (editability), which needs a CLIP" in capsys.readouterr().out


def test_a_concept_of_the_benchmark_is_scored_against_fresh_renders(capsys: Output, monkeypatch) -> None:
    class Short(evaluate.ConceptScorer):
        def __init__(self, judge, concepts):
            super().__init__(judge, concepts[:2])

    monkeypatch.setattr(evaluate, "ConceptScorer", Short)
    name = evaluate.COMBINATIONS[0].name
    flags = ["--num-images", "1", "--steps", "1", "--quiet", "--model", "demo"]
    assert main([*WORD, "--pictures", "a.png", *flags, "--concept", name, "--json", "s.json"]) == 0
    told = json.loads(Path("s.json").read_text())["concept"]
    assert told["name"] == name and told["ceiling"]["reconstruction"] > told["score"]["reconstruction"]
    assert f"Against fresh renders of {name}" in capsys.readouterr().out


def test_the_presets() -> None:
    assert evaluate.PRESETS["paper"] == (64, 50)
    fast, paper = evaluate.PRESETS["fast"], evaluate.PRESETS["paper"]
    assert fast[0] < paper[0] and fast[1] < paper[1]


def test_a_word_answers_to_another_placeholder(capsys: Output) -> None:
    assert main([*WORD, "--pictures", "a.png", *QUICK, "--placeholder", "<cat>", "--json", "s.json"]) == 0
    assert json.loads(Path("s.json").read_text())["word"] == "<cat>"


def test_a_word_that_the_file_calls_as_a_prompt_calls_another_thing(capsys: Output, monkeypatch) -> None:
    from ti_engine.standalone import DiffusersBackend

    called: list[tuple[str, list[str]]] = []

    def generate(self, prompts, words, seeds, resolution, steps):
        called.extend((prompt, list(words)) for prompt in prompts)
        return torch.rand(len(prompts), 3, 64, 64)

    monkeypatch.setattr(DiffusersBackend, "generate", generate)
    word = load_embedding("w.safetensors")
    save_embedding(TokenEmbedding(word.vectors, "star"), "star.safetensors")
    assert main(["evaluate", "star.safetensors", "--pictures", "a.png", *QUICK]) == 0
    assert all(words == ["S*"] and prompt.count("S*") == 1 for prompt, words in called)
    assert any("star" in prompt for prompt, _ in called)


def test_a_placeholder_that_is_the_noun_is_refused(capsys: Output) -> None:
    learned_with("heart")
    flags = ["--pictures", "a.png", *QUICK, "--placeholder", "heart"]
    assert "--placeholder heart is a word of 'heart'" in refused(["evaluate", "noun.safetensors", *flags], capsys)


def learned_with(noun: str, file: str = "noun.safetensors") -> None:
    """A word whose record says that it was learned with this noun behind it."""
    rows = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    record = {"version": 1, "settings": {"class_noun": noun}}
    save_embedding(TokenEmbedding({"clip_l": rows}, "S*", {"textual_inversion": json.dumps(record)}), file)


def test_a_word_that_was_learned_with_a_noun_is_drawn_with_it(capsys: Output, monkeypatch, clip: str) -> None:
    from ti_engine.standalone import DiffusersBackend

    class Called(evaluate.ConceptScorer):
        """Notes what it would call the word, and draws nothing."""

        def __init__(self, judge, concepts):
            pass

        def score(self, concept, draw, word):
            prompts.append(f"concept {word}")
            return self.ceiling(concept)

        def ceiling(self, concept):
            return Score(1, 0, None, 1, 1)

    prompts: list[str] = []
    generate, embed = DiffusersBackend.generate, ClipFolder.embed_texts
    texts: list[str] = []
    monkeypatch.setattr(
        DiffusersBackend,
        "generate",
        lambda self, drawn, *r, **k: prompts.extend(drawn) or generate(self, drawn, *r, **k),
    )
    monkeypatch.setattr(ClipFolder, "embed_texts", lambda self, read: texts.extend(read) or embed(self, read))
    monkeypatch.setattr(evaluate, "EDITS", evaluate.EDITS[::9])
    monkeypatch.setattr(evaluate, "ConceptScorer", Called)
    learned_with("heart")
    name = evaluate.COMBINATIONS[0].name
    flags = ["--num-images", "1", "--steps", "1", "--quiet", "--model", "demo", "--clip", clip, "--concept", name]
    assert main(["evaluate", "noun.safetensors", "--pictures", "a.png", *flags, "--json", "s.json"]) == 0
    assert prompts[0] == "a photo of S* heart" and all("S* heart" in prompt for prompt in prompts)
    assert prompts[-1] == "concept S* heart"
    assert texts and not any("S*" in text or "heart" in text for text in texts)
    assert json.loads(Path("s.json").read_text())["class_noun"] == "heart"
    assert capsys.readouterr().out.count("S* heart") == 1


def test_ctrl_c_writes_nothing(capsys: Output, interruptible: None, monkeypatch) -> None:
    from ti_engine.standalone import DiffusersBackend

    monkeypatch.setattr(DiffusersBackend, "generate", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run(*WORD, "--pictures", "a.png", *QUICK, "--json", "s.json") == 130
    assert "stopped; nothing was written" in capsys.readouterr().err and not Path("s.json").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--pictures none.png", "There is no picture none.png"),
        ("--pictures a.png --held-out copy.png", "The held-out picture copy.png is the training picture a.png"),
        ("--pictures cats --held-out cats/4.png", "The held-out picture 4.png is the training picture 4.png"),
        ("--pictures a.png --masks empty", "holds no picture"),
        ("--pictures a.png --masks none", "--masks names no folder: none"),
        ("--pictures a.png b.jpg --masks masks", "There is no mask of b.jpg in masks; call it b.png"),
        (
            "--pictures c.png --masks masks",
            "The mask of c.png cannot be used: A mask is 40 x 50 pixels, its picture 50 x 40",
        ),
        ("--pictures a.png --masks masks", "A mask covers nothing"),
        ("--pictures a.png --clip empty", "empty has no config.json; give a folder that holds a CLIP"),
        ("--pictures a.png --clip none", "There is no folder none"),
        ("--pictures a.png --dino empty", "empty has no config.json; give a folder that holds a DINO"),
        ("--pictures a.png --num-images 0", "--num-images must be from 1"),
        ("--pictures a.png --steps 0", "--steps must be from 1"),
        ("--pictures a.png --seed -1", "--seed must be from 0"),
        ("--pictures a.png --guidance nan", "--guidance must be from 0"),
        ("--pictures a.png --json a.png", "a.png exists already; choose another --json"),
        ("--pictures a.png --json masks", "a folder has that name"),
        ("--pictures a.png --placeholder a,b", "must not contain ','"),
        ("--pictures a.png --placeholder photo", "--placeholder photo is a word of 'a photo of {}'"),
        ("--pictures a.png --placeholder star", "--placeholder star is a word of 'a photo of a yellow star"),
        ("--pictures a.png --placeholder=", "placeholder is empty"),
        ("--pictures a.png --device moon", "There is no device 'moon'"),
        ("--pictures a.png --model sd", "Nothing can score pictures of this model; name a folder with --clip"),
        ("--pictures a.png --concept red", "invalid choice"),
        ("--pictures a.png --resolution 99", "--resolution must be"),
        ("", "--pictures"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(flags: str, sentence: str, capsys: Output, monkeypatch) -> None:
    if "resolution" not in flags and "device" not in flags:  # which only a model can judge
        monkeypatch.setattr(evaluate, "open_model", lambda _: pytest.fail("a model was opened"))
    Path("empty").mkdir()
    Path("masks").mkdir()
    for name in ("a.png", "c.png"):
        mask = Image.new("L", (40, 50), 0)
        mask.paste(255, (0, 0, 20, 20 * (name == "c.png")))
        mask.save(Path("masks") / name)
    Image.open("a.png").save("copy.png")
    Path("cats").mkdir()
    for file, colour in (("cats/3.png", "red"), ("cats/4.png", "blue")):
        Image.new("RGB", (40, 50), colour).save(file)
    assert sentence in refused([*WORD, "--model", "demo", *flags.split()], capsys)


def test_held_out_pictures_in_a_folder_inside_of_the_training_folder() -> None:
    Path("cats/apart").mkdir(parents=True)
    for file, colour in (("cats/3.png", "red"), ("cats/apart/5.png", "green")):
        Image.new("RGB", (40, 50), colour).save(file)
    compared = read_compared(["cats"], ["cats/apart"], None)
    assert len(compared.training) == 1 and compared.names == ["5.png"] and not compared.warnings


def test_masks_whose_picture_is_in_doubt_are_refused() -> None:
    for folder in ("x", "y", "masks"):
        Path(folder).mkdir()
    for file, colour in (("x/1.png", "red"), ("y/1.png", "blue"), ("masks/1.png", "white")):
        Image.new("RGB", (40, 50), colour).save(file)
    with pytest.raises(ValueError, match=r"The pictures x/1\.png and y/1\.png are both called 1"):
        read_compared(["x", "y"], [], "masks")
    Path("masks/readme.doc").write_text("x")
    compared = read_compared(["x"], [], "masks")
    assert any("readme.doc" in warning for warning in compared.warnings)
    Image.new("RGB", (40, 50), "white").save("masks/1.jpg")
    with pytest.raises(ValueError, match=r"The masks 1\.jpg and 1\.png are both called 1"):
        read_compared(["x"], [], "masks")


def test_scores_are_shown_when_the_disk_is_full(capsys: Output, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate, "write_atomically", full)
    monkeypatch.setattr(evaluate, "EDITS", ())
    assert run(*WORD, "--pictures", "a.png", *QUICK, "--json", "s.json") == 2
    assert "likeness" in capsys.readouterr().out


def test_warnings_about_the_word_are_passed_on(capsys: Output, monkeypatch) -> None:
    read = evaluate.read_word
    monkeypatch.setattr(evaluate, "read_word", lambda *a, **k: (read(*a, **k)[0], ["odd"] if k else ["nobody asked"]))
    assert main([*WORD, "--pictures", "a.png", *QUICK]) == 0
    err = capsys.readouterr().err
    assert err.count("warning: odd") == 1 and "nobody asked" not in err


def test_files_that_are_no_word_of_this_model(capsys: Output) -> None:
    flags = ["--pictures", "a.png", *QUICK]
    assert "There is no file" in refused(["evaluate", "none.pt", *flags], capsys)
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 768)}), "wide.safetensors")
    assert "width 768" in refused(["evaluate", "wide.safetensors", *flags], capsys)
    assert load_embedding("w.safetensors").placeholder == "S*" and model.WEIGHTS.is_file()


def test_concepts_are_those_of_the_demo_model(capsys: Output) -> None:
    name = evaluate.COMBINATIONS[0].name
    arguments = [*WORD, "--pictures", "a.png", "--model", "sd", "--concept", name]
    assert "--concept goes with --model demo" in refused(arguments, capsys)
