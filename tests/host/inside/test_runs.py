"""A run of the Train node on disk: never lost, and never trained twice."""

from __future__ import annotations

import json

import comfy.model_management
import folder_paths
import pytest
import torch
from in_host import plugin

CANCELLED = comfy.model_management.InterruptProcessingException


@pytest.fixture
def progress():
    return plugin("nodes.host.page.progress").RunProgress


@pytest.fixture
def counted(monkeypatch):
    """Grows with every call of the denoiser."""
    backend, calls = plugin("nodes.host.loan.lent_backend"), []
    denoise = backend.denoise

    def counting(*arguments):
        calls.append(None)
        return denoise(*arguments)

    monkeypatch.setattr(backend, "denoise", counting)
    return calls


def cancel_at(monkeypatch, progress, index):
    original = progress.step

    def step(self, step):
        original(self, step)
        if step.index == index:
            comfy.model_management.interrupt_current_processing(True)

    monkeypatch.setattr(progress, "step", step)


def ask_at(monkeypatch, progress, index, wish):
    original = progress.step

    def step(self, step):
        original(self, step)
        if step.index == index:
            assert progress.ask(self._run_id, wish)

    monkeypatch.setattr(progress, "step", step)


def assert_equal(first, second):
    for key, rows in first[0].vectors.items():
        assert torch.equal(rows, second[0].vectors[key])
    losses = [
        plugin("ti_engine.files.formats.metadata").training_record(one[0].metadata)["losses"] for one in (first, second)
    ]
    assert losses[0] == losses[1]
    assert torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])


SETTINGS = dict(steps=[4], preview_every=[2])


@pytest.mark.parametrize("index", [0, 3, 4])
def test_a_cancelled_run_goes_on_to_the_bit(train, monkeypatch, progress, index):
    whole = train(**SETTINGS)
    with monkeypatch.context() as patch, pytest.raises(CANCELLED):
        cancel_at(patch, progress, index)
        train(**SETTINGS)
    resumed = train(anew=False, **SETTINGS)
    assert_equal(whole, resumed)
    assert f"Went on from step {index}" in resumed[3]


def test_a_run_that_an_error_broke_goes_on_to_the_bit(train, monkeypatch):
    whole = train(**SETTINGS)
    backend, calls = plugin("nodes.host.loan.lent_backend"), []
    denoise = backend.denoise

    def broken(*arguments):
        if torch.is_grad_enabled():
            calls.append(None)
        if len(calls) > 2:
            raise RuntimeError("broken on purpose")
        return denoise(*arguments)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="on purpose"):
        patch.setattr(backend, "denoise", broken)
        train(**SETTINGS)
    resumed = train(anew=False, **SETTINGS)
    assert "Went on from step" in resumed[3]
    assert_equal(whole, resumed)


def test_a_file_that_a_caption_names_belongs_to_the_run(train, counted, word, tmp_path, monkeypatch):
    folder = tmp_path / "embeddings"
    folder.mkdir()
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(folder)], extensions))
    captions = ["S* like embedding:cat\nS*"]

    def save(name, length):
        vectors = word().vectors["clip_l"] * length
        embedding = plugin("ti_engine").TokenEmbedding({"clip_l": vectors}, "S*")
        plugin("ti_engine.files").save_embedding(embedding, folder / f"{name}.safetensors", overwrite=True)

    settings = dict(captions=captions, **SETTINGS)
    save("cat", 1)
    train(anew=False, **settings)
    trained = len(counted)
    save("dog", 1)  # which no caption names
    train(anew=False, **settings)
    assert len(counted) == trained
    save("cat", 2)
    train(anew=False, **settings)
    assert len(counted) > trained


def test_pressing_run_twice_trains_once(train, counted):
    first = train(**SETTINGS)
    trained = len(counted)
    second = train(anew=False, **SETTINGS)
    assert len(counted) == trained
    assert_equal(first, second)
    assert "Not trained again" in second[3] and second[4].id == first[4].id
    renamed = train(anew=False, **{**SETTINGS, "preview_every": [5], "placeholder": ["thing*"]})
    assert len(counted) == trained and renamed[3].startswith("thing*:") and renamed[0].placeholder == "thing*"
    assert torch.equal(renamed[0].vectors["clip_l"], first[0].vectors["clip_l"])
    train(anew=False, **SETTINGS, options=[{"if_exists": "retrain"}])
    assert len(counted) > trained


def test_stop_and_keep_returns_the_word_and_can_go_on(train, monkeypatch, progress):
    whole = train(**SETTINGS)
    with monkeypatch.context() as patch:
        ask_at(patch, progress, 3, "stop")
        stopped = train(**SETTINGS)
    assert "learned in 3 of at most 4 steps" in stopped[3] and "Stopped by hand after step 3" in stopped[3]
    assert bool(stopped[0].vectors["clip_l"].isfinite().all())
    assert not stopped[4].read().finished
    assert_equal(whole, train(anew=False, **SETTINGS))


def test_fewer_steps_are_the_first_of_the_run_on_disk(train, counted):
    settings = dict(preview_every=[1], options=[{"schedule": "constant", "early_stop": False}])
    short, long = train(steps=[2], **settings), train(steps=[4], **settings)
    trained = len(counted)
    again = train(anew=False, steps=[2], **settings)
    assert "these are the first steps of a run that has made 4" in again[3] and again[4].id == long[4].id
    assert_equal(short, again)
    assert len(counted) > trained  # for the fixed evaluation set
    assert_equal(long, train(anew=False, steps=[4], **settings))


def test_a_sample_can_be_asked_for(train, monkeypatch, progress):
    ask_at(monkeypatch, progress, 2, "sample")
    assert len(train(steps=[3])[2]) == 2  # of step 2 and of the result
    assert not progress.ask("0" * 32, "sample")


def test_training_starts_from_another_word(train, word):
    start = word()
    result = train(initial_words=[""], init_from=[start])
    assert torch.equal(result[4].read().record.trajectory[0]["clip_l"], start.vectors["clip_l"])
    assert "Started from the vectors of S*" in result[3]
    from_result = train(anew=False, initial_words=[""], init_from=[result[0]])
    assert from_result[4].config()["parent"] == result[4].id
    with pytest.raises(ValueError, match="either from an embedding"):
        train(init_from=[start])


def test_models_that_cannot_be_told_from_others_are_trained_every_time(models, train, counted):
    patched = models.model.clone()
    patched.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]))
    first = train(model=[patched])
    trained = len(counted)
    second = train(anew=False, model=[patched])
    assert len(counted) == 2 * trained and first[4].id != second[4].id


def test_a_folder_that_cannot_be_written_loses_nothing(train, output_folder):
    whole = train(**SETTINGS)
    output_folder.mkdir(exist_ok=True)
    (output_folder / "textual_inversion").rename(output_folder / "elsewhere")
    (output_folder / "textual_inversion").write_text("a file in the folder's place")
    result = train(anew=False, **SETTINGS)
    assert_equal(whole, result)
    assert "Warning: The run" in result[3] and "a part of its path is a file" in result[3]


def test_what_the_folder_holds(train, output_folder):
    run = train(**SETTINGS)[4]
    assert run.path.parent == output_folder / "textual_inversion"
    names = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())
    previews = [f"previews/{step:07d}.png" for step in (0, 2)]
    assert names == ["README.txt", "config.json", "log.jsonl", *previews, "previews/result.png", "state.safetensors"]
    assert run.config()["settings"]["steps"] == 4
    assert [json.loads(line)["step"] for line in run.log_file.read_text().splitlines()] == [1, 2, 3, 4]


def test_the_oldest_finished_runs_make_room(train):
    first = train(steps=[2])[4]
    second = train(anew=False, steps=[3], options=[{"runs_gb": 0.0}])[4]
    assert not first.path.exists() and second.path.exists()


def test_a_page_reads_a_run_from_disk(train, monkeypatch, progress):
    message_of = plugin("nodes.host.page.saved_run").message_of
    run = train(**SETTINGS)[4]
    message = message_of(run.id)
    assert (message["step"], message["steps"], message["state"], message["run"]) == (4, 4, "done", run.id)
    assert [step for step, _ in message["batches"]] == [1, 2, 3, 4] and message["result"]
    assert message_of(run.id[:8]) == message
    with pytest.raises(ValueError, match="is not on disk any more"):
        message_of("0" * 32)
    with monkeypatch.context() as patch, pytest.raises(CANCELLED):
        cancel_at(patch, progress, 3)
        train(anew=False, steps=[5])
    newest = max(run.path.parent.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
    message = message_of(newest.name)
    assert message["state"] == "cancelled" and message["step"] == 3 and "Run goes on" in message["sentence"]
