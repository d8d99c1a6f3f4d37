"""The command line through main([...]): what it writes, prints and returns, and what it says to bad input."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from small_models import small_autoencoder, small_scheduler, small_text_encoder, small_unet

from ti_engine import TokenEmbedding
from ti_engine import train as train_loop
from ti_engine.cli import main
from ti_engine.demo import model
from ti_engine.demo.learn import main as demo
from ti_engine.files import load_embedding, save_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.training import loop
from ti_engine.training.config import PRESETS, TrainConfig

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the demo model's shape: the tests are about the commands and not about what is learned."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "demo.safetensors"
    parts = {
        "unet.": model.build_unet(),
        "text_encoder.": model.build_text_encoder(),
        "vae.": model.build_autoencoder(),
    }
    tensors = {
        prefix + name: tensor.half().contiguous()
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
    }
    save_file(tensors, file)
    return file


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a folder of its own with two pictures."""
    monkeypatch.setattr(model, "WEIGHTS", weights)
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (40, 50), colour).save(name)


QUICK = [
    "--model",
    "demo",
    "--steps",
    "2",
    "--batch-size",
    "2",
    "--evaluate-every",
    "1",
    "--resolution",
    "64",
    "--quiet",
]
GENERATE = ["generate", "a S*", "--model", "demo", "--output", "o", "--embedding", "w.safetensors"]
Output = pytest.CaptureFixture[str]


def test_train_generate_inspect(capsys: Output) -> None:
    assert main(["train", "a.png", "b.jpg", *QUICK, "--num-vectors", "2", "--output", "w.safetensors", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file"] == "w.safetensors"
    assert result["steps"] == 2
    assert result["settings"]["num_vectors"] == 2

    assert main(["inspect", "w.safetensors", "--json", "--model", "demo"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["format"] == "safetensors: emb_params"
    (word,) = content["words"]
    assert word["name"] == "S*"
    assert word["vectors"]["clip_l"]["shape"] == [2, 128]
    assert word["vectors"]["clip_l"]["dtype"] == "float32"
    assert len(word["vectors"]["clip_l"]["sha256_f32"]) == 64
    record = json.loads(word["metadata"]["textual_inversion"])
    assert record["model"]["name"] == "demo"
    assert len(record["model"]["sha256"]) == 64
    assert record["num_pictures"] == 2
    assert str(Path.cwd()) not in word["metadata"]["textual_inversion"]

    prompt = ["generate", "a photo of S*", "--model", "demo", "--embedding", "w.safetensors", "--output", "out"]
    prompt += ["--num-images", "2", "--seed", "5", "--steps", "2", "--resolution", "64"]
    assert main([*prompt, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [5, 6]
    assert Image.open("out/6.png").size == (64, 64)
    assert main(prompt) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_preset_changes_several_settings(capsys: Output) -> None:
    arguments = ["train", "a.png", "b.jpg", *QUICK, "--preset", "paper", "--json"]
    assert main(arguments) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["learning_rate"], settings["schedule"], settings["flip"]) == (0.04, "constant", True)
    assert settings["steps"] == 2  # a flag of its own counts more


def test_warnings_come_before_the_run_and_after_it(capsys: Output) -> None:
    assert main(["train", "a.png", *QUICK, "--learning-rate", "10", "--evaluate-every", "0"]) == 0
    first, *others = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "only one picture" in first and any("times as long as a word" in line for line in others)


def test_a_run_that_ends_in_nan_is_saved_with_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:

    def stopped(*arguments: Any) -> Iterator[Any]:
        for step in train_loop(*arguments):
            step.record.stopped = (
                "The loss became nan at step 2; the vectors from before are kept." if step.index else None
            )
            yield step

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.train"), "train", stopped)
    assert main(["train", "a.png", *QUICK]) == 0
    assert "The loss became nan at step 2" in capsys.readouterr().err
    assert load_embedding("word.safetensors").num_vectors == 1


def test_the_same_seed_gives_the_same_file_content() -> None:
    for name in ("one", "two"):
        assert main(["train", "a.png", "b.jpg", *QUICK, "--output", f"{name}.safetensors"]) == 0
    one, two = (load_embedding(f"{name}.safetensors", {128: "clip_l"}).vectors["clip_l"] for name in ("one", "two"))
    assert torch.equal(one, two)


def test_start_from_a_file_takes_over_its_size_and_tells_it(capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(3, 128)}), "start.safetensors")
    assert main(["train", "a.png", *QUICK, "--init-from", "start.safetensors"]) == 0
    word = load_embedding("word.safetensors")
    assert word.num_vectors == 3
    digest = hashlib.sha256(Path("start.safetensors").read_bytes()).hexdigest()
    record = training_record(word.metadata)
    assert record["started_from"] == {"file": "start.safetensors", "sha256": digest}
    assert "Started from the vectors of S*." in capsys.readouterr().err


def test_the_tokens_that_vectors_start_from_are_told(capsys: Output) -> None:
    flags = ["--initial-words", "red, heart", "--num-vectors", "3"]
    assert main(["train", "a.png", *QUICK, *flags]) == 0
    assert "vector by vector: 1 red, 2 red, 3 heart." in capsys.readouterr().err
    assert training_record(load_embedding("word.safetensors").metadata)["started_from"] is None


def test_several_words_and_a_negative_prompt(capsys: Output) -> None:
    rows = torch.randn(3, 1, 128, generator=torch.Generator().manual_seed(0))
    for name, vectors in zip(("fox", "owl", "bad"), rows, strict=True):
        save_embedding(TokenEmbedding({"clip_l": vectors}, f"{name}*"), f"{name}.safetensors")

    def draw(output: str, prompt: str, *flags: str) -> bytes:
        model = ["--model", "demo", "--steps", "2", "--resolution", "64", "--output", output]
        assert main(["generate", prompt, *model, *flags]) == 0
        return (Path(output) / "0.png").read_bytes()

    fox, owl, bad = (["--embedding", f"{name}.safetensors"] for name in ("fox", "owl", "bad"))
    both = draw("a", "fox* beside owl*", *fox, *owl)
    assert both not in (draw("b", "fox* beside owl", *fox), draw("c", "fox* beside fox*", *fox))
    assert both == draw("d", "x beside y", *owl, *fox, "--placeholder", "y", "--placeholder", "x")
    away = draw("e", "fox* beside owl*", *fox, *owl, *bad, "--negative", "a bad*")
    assert away not in (both, draw("f", "fox* beside owl*", *fox, *owl, "--negative", "a bad"))
    capsys.readouterr()
    draw("g", "a fox*", *fox, *bad, "--negative", "a bad*", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["words"], told["negative"]) == (["fox*", "bad*"], "a bad*")


def test_names_of_other_syntaxes_are_no_words_of_a_prompt(capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 128)}, "fox"), "fox.safetensors")
    flags = ["--model", "demo", "--embedding", "fox.safetensors", "--output", "out"]
    for prompt, sentence in (
        ("a <fox-anim>", "does not contain fox.* inside of <fox-anim>"),
        ("a fox, <lora:fox:1>", "holds <lora:fox:1>, which no --embedding is called"),
        ("a fox beside embedding:den/fox", "holds embedding:den/fox"),
    ):
        assert main(["generate", prompt, *flags]) == 2
        assert re.search(sentence, capsys.readouterr().err)
    assert main(["generate", "a fox", *flags, "--negative", "<blur>"]) == 2
    assert "holds <blur>" in capsys.readouterr().err


def test_captions_beside_pictures_and_in_a_file(capsys: Output) -> None:
    Path("a.txt").write_text("a red S*")
    assert main(["train", ".", *QUICK, "--what", "custom", "--templates", "my {}"]) == 0
    Path("lines").write_text("a red S*\n")
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines", "--overwrite"]) == 2
    assert "1 captions for 2 pictures" in capsys.readouterr().err
    Path("lines").write_text("a red S*\na blue thing\n")
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines", "--overwrite"]) == 2
    assert "does not contain 'S*'" in capsys.readouterr().err


def test_a_folder_as_people_have_it(capsys: Output) -> None:
    """With numbers, a capital ending, hidden and foreign files, and captions of several kinds."""
    folder = Path("set")
    folder.mkdir()
    for number in (1, 2, 10):
        Image.effect_noise((64, 64), 30 + number).convert("RGB").save(folder / f"{number}.PNG")
    (folder / "._1.PNG").write_bytes(b"macOS")
    (folder / "broken.webp").write_bytes(b"RIFF")
    (folder / "1.caption").write_bytes("\ufeffa red S* \\(fate\\)\r\n".encode())
    (folder / "10.PNG.txt").write_text("a blue S*")
    assert main(["train", "set", *QUICK]) == 0
    said = capsys.readouterr().err
    assert "2 of 3 pictures have a caption of their own" in said and "what = object" in said
    assert said.index("1.PNG: a red S* ") < said.index("2.PNG: (drawn)") < said.index("10.PNG: a blue S*")
    assert "broken.webp" in said and "._1" not in said


@pytest.mark.parametrize(
    ("lines", "flags", "pairs"),
    [
        ("one S*\r\ntwo S*\r\n\r\n", (), ["a.png: one S*", "b.jpg: two S*"]),
        ("b.jpg: two S*\na.png\tone S*\n", (), ["a.png: one S*", "b.jpg: two S*"]),
        ("one S*\ntwo S*", ("--what", "custom"), ["a.png: one S*", "caption_lines"]),
        ("one S*\ntwo S*", ("--what", "custom", "--caption-lines", "drawn"), ["draws from the 2 captions"]),
        ("one S*\ntwo S*\nthree S*\n\n", ("--what", "custom"), ["draws from the 3 captions"]),
    ],
)
def test_a_caption_file_is_shown_as_it_is_used(
    lines: str, flags: tuple[str, ...], pairs: list[str], capsys: Output
) -> None:
    Path("lines.txt").write_bytes(lines.encode())
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines.txt", *flags]) == 0
    said = capsys.readouterr().err
    assert all(pair in said for pair in pairs)


def test_pictures_that_teach_little_are_named(capsys: Output) -> None:
    Image.effect_noise((400, 50), 60).save("wide.png")
    assert main(["train", "a.png", "wide.png", *QUICK]) == 0
    said = capsys.readouterr().err
    assert "warning: a.png is one colour all over" in said and "warning: wide.png is 400 x 50" in said


def test_ctrl_c_keeps_what_was_learned(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:

    def interrupted(*arguments: Any) -> Iterator[Any]:
        for step in train_loop(*arguments):
            yield step
            if step.index == stop_after:
                raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.train"), "train", interrupted)
    stop_after = 1
    assert main(["train", "a.png", *QUICK]) == 130
    assert "what was learned is saved" in capsys.readouterr().err
    assert load_embedding("word.safetensors").num_vectors == 1
    stop_after = 0
    assert main(["train", "a.png", *QUICK, "--output", "none.safetensors"]) == 130
    assert not Path("none.safetensors").exists()


def test_a_full_memory_keeps_what_was_learned(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    compute = loop.compute_gradient

    def full(*arguments: Any) -> float:
        nonlocal full_after
        full_after -= 1
        if full_after < 0:
            raise torch.cuda.OutOfMemoryError
        return compute(*arguments)

    monkeypatch.setattr(loop, "compute_gradient", full)
    full_after = 1
    assert main(["train", "a.png", *QUICK]) == 0
    assert "There was no memory for step 2. Lower resolution" in capsys.readouterr().err
    assert load_embedding("word.safetensors").num_vectors == 1
    full_after = 0
    assert main(["train", "a.png", *QUICK, "--output", "none.safetensors"]) == 2
    assert "The memory of cpu does not hold a step of training. Lower resolution (now" in capsys.readouterr().err
    assert not Path("none.safetensors").exists()


def test_what_was_learned_is_not_lost_when_it_cannot_be_saved(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:

    def folder_taken(*arguments: Any) -> Iterator[Any]:
        Path("folder").write_text("")
        yield from train_loop(*arguments)

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.train"), "train", folder_taken)
    assert main(["train", "a.png", *QUICK, "--output", "folder/my.safetensors"]) == 2
    error = capsys.readouterr().err
    assert "my.safetensors could not be written" in error
    rescued = Path(error.split(" is in ")[1].split(" instead")[0])
    assert load_embedding(rescued).num_vectors == 1
    rescued.unlink()
    rescued.parent.rmdir()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("a.png/w.safetensors", "because a part of its path is a file and not a folder"),
        ("a.png/new/w.safetensors", "because a part of its path is a file and not a folder"),
        ("folder.safetensors", "because a folder has that name"),
        ("new/" + 300 * "w" + ".safetensors", "because the name is too long"),
        ("new/" + 300 * "w" + "/w.safetensors", "because the name is too long"),
        ("a\0b.safetensors", "'a\\x00b.safetensors' could not be written, because its name holds a character"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_the_model_is_opened(
    output: str, sentence: str, capsys: Output
) -> None:
    Path("folder.safetensors").mkdir()
    before = sorted(Path().rglob("*"))
    for command in (["train", "a.png"], ["merge", "--add", "cat"]):
        assert main([*command, "--model", "nowhere", "--output", output, "--overwrite"]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1 and "nowhere" not in error
    assert main(["generate", "S*", "--model", "nowhere", "--embedding", "w.pt", "--output", f"a.png/{output}"]) == 2
    assert "could not be written" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def interruptible() -> None:
    """For a child process: Ctrl-C reaches it, also where the tests run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_torch_is_imported_is_one_sentence() -> None:
    ours = [sys.executable, "-X", "importtime", "-m", "ti_engine", "train", "--help"]
    pipe = subprocess.PIPE
    with subprocess.Popen(ours, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, preexec_fn=interruptible) as process:
        assert process.stderr is not None
        assert any("| " in line and " torch." in line for line in process.stderr)  # reads until the first part of it
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:") and line.strip()]
    assert said == ["textual-inversion: stopped; nothing was written.\n"]
    assert process.returncode == 130


def test_importing_the_engine_loads_no_torch_and_leaves_ctrl_c_alone() -> None:
    code = (
        "import signal, sys, ti_engine, ti_engine.cli\n"
        "print('torch' in sys.modules, signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "from ti_engine import TrainConfig\n"
        "print('torch' in sys.modules)\n"
        "try: ti_engine.cli.main(['train', '--help'])\n"
        "except SystemExit: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, preexec_fn=interruptible
    )
    first, second, *_, last = done.stdout.splitlines()
    assert (first, second, last) == ("False True", "False", "True"), done.stderr


def test_every_public_name_of_the_engine_is_found_and_no_other() -> None:
    code = (
        "import ti_engine\n"
        "print(all(getattr(ti_engine, name) is not None for name in ti_engine.__all__))\n"
        "print(hasattr(ti_engine, 'no_such_name'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required"),
        (["train"], "required"),
        (["train", "none.png", *QUICK], "There is no picture none.png"),
        (["train", "broken.png", *QUICK], "broken.png"),
        (["train", "empty", *QUICK], "holds no picture"),
        (["train", "a.png", "--model", "nowhere"], "There is no model nowhere"),
        (["train", "a.png", "--model", "empty"], "no diffusers pipeline"),
        (["train", "a.png", "--model", "xl"], "StableDiffusionXLPipeline"),
        (["train", "a.png", "--model", "a.png"], "is no checkpoint"),
        (["train", "a.png", "--model", "sd.safetensors", "--config", "empty"], "no diffusers folder"),
        (["train", "a.png", "--model", "demo", "--device", "gpu7"], "There is no device"),
        (["train", "a.png", "--model", "demo", "--device", "meta"], "There is no device 'meta'"),
        (["train", "a.png", "--model", "/dev/null"], "null is neither a file nor a folder"),
        (["train", "a.png", *QUICK, "--captions", "empty"], "empty is no file; give a text file"),
        (["train", "a.png", *QUICK, "--steps", "0"], "steps must be"),
        (["train", "a.png", *QUICK, "--steps", "many"], "invalid int value"),
        (["train", "a.png", *QUICK, "--learning-rate", "0"], "learning_rate must be"),
        (["train", "a.png", *QUICK, "--learning-rate", "nan"], "learning_rate must be"),
        (["train", "a.png", *QUICK, "--placeholder", ""], "placeholder is empty"),
        (["train", "a.png", *QUICK, "--placeholder", "a,b"], "must not contain ',' because"),
        (["train", "a.png", *QUICK, "--initial-words", "gloop"], "gloop"),
        (
            ["train", "a.png", *QUICK, "--initial-words", "heart", "--init-from", "w.safetensors"],
            "either from an embedding (--init-from) or from initial_words",
        ),
        (["train", "a.png", *QUICK, "--init-from", "none.safetensors"], "There is no file none.safetensors"),
        (["train", "a.png", *QUICK, "--num-vectors", "500"], "use fewer"),
        (["train", "a.png", *QUICK, "--output", "a.pt"], "must end in .safetensors"),
        (["train", "a.png", *QUICK, "--output", "old.safetensors"], "exists already"),
        (["train", "a.png", *QUICK, "--captions", "none.txt"], "no caption file"),
        (["train", "a.png", *QUICK, "--captions", "broken.png"], "no text in UTF-8"),
        (["inspect", "none.safetensors"], "There is no file"),
        (["inspect", "a.png"], "a picture without an embedding"),
        (["inspect", "old.safetensors", "--model", "demo"], "width 768"),
        (["generate", "a S*", "--model", "demo", "--embedding", "none.pt", "--output", "o"], "There is no file"),
        (["generate", "a cat", "--model", "demo", "--embedding", "w.safetensors", "--output", "o"], "does not contain"),
        (["generate", "S*", "--model", "demo", "--embedding", "old.safetensors", "--output", "o"], "width 768"),
        (
            ["generate", "S*", "--model", "demo", "--embedding", "w.safetensors", "--output", "o", "--num-images", "0"],
            "--num-images must be",
        ),
        (
            [*GENERATE, "--embedding", "w.safetensors"],
            "Two of the embeddings are called S*; say with --placeholder",
        ),
        ([*GENERATE, "--embedding", "w.safetensors", "--placeholder", "x"], "2 --embedding and 1 --placeholder"),
        ([*GENERATE, "--negative", "blur", "--guidance", "1"], "With --guidance 1 a negative prompt does nothing"),
        *(
            (
                ["generate", "S*", "--model", "demo", "--embedding", "w.safetensors", "--output", "o", "--guidance", x],
                f"--guidance must be from 0 to 1000, got {x}",
            )
            for x in ("nan", "inf", "-1.0")
        ),
        (["train", "a.png", *QUICK, "--gradient-clip", "inf"], "gradient_clip must be a number at least 0, got inf"),
        (
            ["merge", "w.safetensors", "--weights", "nan", "--output", "m.safetensors"],
            "weights must be finite numbers, got",
        ),
        (
            [
                "merge",
                "w.safetensors",
                "w.safetensors",
                "--method",
                "slerp",
                "--weights",
                "1",
                "inf",
                "--output",
                "m.safetensors",
            ],
            "weights must be finite numbers, got '1 inf'",
        ),
        (
            [
                "generate",
                "S*",
                "--model",
                "demo",
                "--embedding",
                "w.safetensors",
                "--output",
                "o",
                "--resolution",
                "99",
            ],
            "--resolution must be",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str, capsys: Output) -> None:
    Path("empty").mkdir()
    Path("xl").mkdir()
    Path("xl/model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    save_file({"x": torch.zeros(1)}, "sd.safetensors")
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 768)}), "old.safetensors")
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 128)}), "w.safetensors")
    old = Path("old.safetensors").read_bytes()
    try:
        code = main(arguments)
    except SystemExit as exit:  # argparse's own
        code = exit.code
    streams = capsys.readouterr()
    assert code == 2
    assert sentence in streams.err
    assert streams.out == ""
    last = streams.err.strip().splitlines()[-1]
    assert last.startswith("textual-inversion")
    assert "Traceback" not in streams.err
    assert Path("old.safetensors").read_bytes() == old


def test_help_names_every_setting_and_its_default(capsys: Output) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in set(TrainConfig().to_dict()) - {"preview_every"}:
        assert "--" + name.replace("_", "-") in text
    assert f"[{TrainConfig.steps}]" in text
    assert all(name in text for name in PRESETS)


def test_the_demo_writes_its_three_files(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    small = {"steps": 2, "batch_size": 2, "evaluate_every": 1, "resolution": 128}
    module: Any = sys.modules["ti_engine.demo.learn"]
    monkeypatch.setattr(module, "TrainConfig", lambda **changes: TrainConfig(**{**small, **changes}))
    monkeypatch.setattr(module, "SAMPLER_STEPS", 2)
    for _ in range(2):  # the second run replaces what the first one wrote
        assert demo() == 0
    assert sorted(f.name for f in Path("demo-output").iterdir()) == [
        "contact-sheet.png",
        "report.json",
        "word.safetensors",
    ]
    report = json.loads(Path("demo-output/report.json").read_text())
    assert report["steps"] == 2
    assert str(report["seconds_learning"]) in capsys.readouterr().out


def _write_clip_tokenizer(folder: Path) -> None:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    entries = letters + [letter + "</w>" for letter in [*letters, "*", ","]] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def test_a_diffusers_folder_is_a_model(capsys: Output) -> None:
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    _write_clip_tokenizer(Path("tokenizer"))
    tokenizer = CLIPTokenizer.from_pretrained("tokenizer")
    ends = {"start": tokenizer.bos_token_id, "end": tokenizer.eos_token_id}
    parts: dict[str, Any] = {
        "vae": small_autoencoder(),
        "text_encoder": small_text_encoder(vocab_size=len(tokenizer), length=77, **ends),
        "tokenizer": tokenizer,
        "unet": small_unet(),
        "scheduler": small_scheduler(PNDMScheduler, skip_prk_steps=True, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
    }
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained("pipeline")
    flags = ["--model", "pipeline", "--steps", "2", "--batch-size", "2", "--initial-words", "cat", "--num-vectors", "4"]
    assert main(["train", "a.png", *flags, "--resolution", "64", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "pipeline"
    prompt = [
        "generate",
        "a (S*), in a hat",
        "--model",
        "pipeline",
        "--embedding",
        "word.safetensors",
        "--output",
        "out",
    ]
    assert main([*prompt, "--steps", "2", "--resolution", "64"]) == 0
    assert Image.open("out/0.png").size == (64, 64)
