"""Load Run and Pick Step: a run on disk, its word, any of its steps, and the sheet to choose from."""

from __future__ import annotations

import json
import shutil

import comfy.model_management as memory
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from in_host import plugin, snapshot

RUN_ID = "0123456789abcdef" * 2
STEPS = 4
PREVIEWS = (0, 2, None)


@pytest.fixture
def store(output_folder):
    return plugin("nodes.host.run_store").run_store()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of runs that a test has trained, for the next one: (steps, previews, config.json) -> folder."""
    return {}


@pytest.fixture
def make_run(models, store, trained, tmp_path_factory):
    """Trains four steps of the demo model into the host's output folder, or the first `until`."""

    def make(until=STEPS, previews=(), **about):
        what = (until, previews, str(about))
        if what not in trained:
            elsewhere = type(store)(tmp_path_factory.mktemp("runs"))
            trained[what] = train_demo(models, elsewhere, until, previews, about)
        folder = store.folder(RUN_ID)
        shutil.copytree(trained[what].path, folder.path)
        return folder

    return make


def train_demo(models, store, until, previews, about):
    engine = plugin("ti_engine")
    config = engine.TrainConfig(
        steps=STEPS, batch_size=2, initial_words="circle", resolution=64, evaluate_every=2, seed=3
    )
    told = {"settings": config.to_dict(), "model": "DemoSD", "pictures": 2, **about}
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        pictures = list(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        dataset = engine.encode_training_set(backend, pictures, config, [None, None])
        with store.open(RUN_ID, told, False, print) as run, backend.lent(2, dataset.mean.shape[1:]) as lent:
            state = engine.start_run(lent, config)
            for step in engine.train(lent, dataset, config, state):
                run.keep(step)
                if step.index == until < STEPS:
                    break
            else:
                run.finish(state, config)
            for step in previews:
                run.keep_preview(step, lent.sample("a photo of S*", state.record.embedding(step), 3, 64))
    return run.folder


@pytest.fixture
def load(store):
    def run(entry):
        with torch.inference_mode():
            return plugin("nodes.load_run").LoadRun.execute(entry)

    return run


@pytest.fixture
def pick():
    def run(folder, what="result", step=-1, first=-10, prompts="a photo of {}", columns=3, seed=3, **sockets):
        with torch.inference_mode():
            return plugin("nodes.pick_step").PickStep.execute(
                folder, what, step, first, prompts, columns, seed, **sockets
            )

    return run


def entries():
    (run,) = plugin("nodes.load_run").LoadRun.define_schema().inputs
    return run.options


def states(folder):
    """What the run returned, in words."""
    return plugin("ti_engine.training.result").describe_states(folder.read().record.returned)


def rows(word):
    return word.vectors["clip_l"]


def test_a_finished_run_is_listed_and_loaded(make_run, load, store):
    folder = make_run(previews=PREVIEWS, parent="cd" * 16)
    (entry,) = entries()
    assert entry.startswith("S*, ") and entry.endswith(", 4 steps, 01234567")
    assert plugin("nodes.load_run").LoadRun.validate_inputs(entry) is True
    output = load(entry)
    run, word, samples, report = output.args
    assert run == folder and run.path == store.root / RUN_ID
    record = folder.read().record
    assert torch.equal(rows(word), rows(record.embedding()))
    previews = dict(folder.previews())
    assert torch.equal(samples, torch.stack([previews[step] for step in (0, 2, None)]).movedim(1, -1))
    assert output.ui == {"text": [report]}
    for told in (
        f"S*: {states(folder)}. The run is finished, with 4 steps.",
        "Model: DemoSD. 2 picture(s). Trained for ",
        'Settings: steps 4, learning_rate 0.01, batch_size 2, num_vectors 1, initial_words "circle", what "object"',
        "Loss on the fixed evaluation set: ",
        f"It started from a word of the run {'cd' * 16}.",
        f"Run {RUN_ID}, in the folder textual_inversion/{RUN_ID} of the output folder.",
    ):
        assert told in report, report
    assert "evaluate_every" not in report and str(store.root.parent) not in report


def test_the_run_of_the_train_node_is_loaded_and_trained_on(train, load, pick):
    learned, *_, run = train()
    loaded = load(run.id).args[1]
    assert torch.equal(rows(loaded), rows(learned)) and loaded.metadata == learned.metadata
    word = pick(run, "step", 1).args[0]
    *_, second = train(anew=False, init_from=[word], initial_words=[""])
    assert second != run and torch.equal(rows(pick(second, "step", 0).args[0]), rows(word))
    assert f"It started from a word of the run {run.id}." in load(second.id).args[3]


def test_a_run_that_was_stopped_has_a_word_too(make_run, load):
    make_run(until=3)
    (entry,) = entries()
    assert ", 3 of 4 steps, " in entry
    _, word, samples, report = load(entry).args
    assert rows(word).shape == (1, 128) and isinstance(samples, ExecutionBlocker)
    assert "The run is not finished: 3 of 4 steps. Train Textual Inversion goes on from there" in report


def test_a_run_before_its_first_step_gives_no_word(make_run, load):
    make_run(until=0)
    assert "has not learned anything yet" in load(RUN_ID).args[1].message


def test_a_run_that_has_gone_is_said_in_a_sentence(make_run, load, store):
    folder = make_run()
    (entry,) = entries()
    node = plugin("nodes.load_run").LoadRun
    before = node.fingerprint_inputs(entry)
    assert node.fingerprint_inputs(entry) == node.fingerprint_inputs(None) == before
    store.delete(folder)
    assert entries() == ["no run on disk"]
    sentence = f"The run '{entry}' is not on disk any more. Press R and choose another one."
    assert node.validate_inputs(entry) == sentence
    with pytest.raises(ValueError, match=r"is not on disk any more\. Press R"):
        load(entry)
    assert "There is no run on disk yet" in node.validate_inputs("no run on disk")
    assert node.validate_inputs() is True  # the name comes from another node


def test_a_run_that_goes_on_is_loaded_again(make_run):
    node = plugin("nodes.load_run").LoadRun
    folder = make_run()
    before = node.fingerprint_inputs(RUN_ID)
    plugin("ti_engine.run.kept_run").KeptRun(folder, folder.read(), {}).keep_preview(None, torch.zeros(3, 64, 64))
    assert node.fingerprint_inputs(RUN_ID) != before


def test_every_step_and_every_window_can_be_picked(make_run, pick):
    folder = make_run()
    trajectory = [state["clip_l"] for state in folder.read().record.trajectory.values()]
    for step, picked in ((0, 0), (2, 2), (4, 4), (-1, 4), (-5, 0)):
        assert torch.equal(rows(pick(folder, "step", step).args[0]), trajectory[picked])
    assert torch.equal(rows(pick(folder, "average", -1, -2).args[0]), torch.stack(trajectory[3:]).mean(0))
    assert torch.equal(rows(pick(folder, "average", 3, 1).args[0]), torch.stack(trajectory[1:4]).mean(0))
    word, sheet, report = pick(folder).args
    assert torch.equal(rows(word), rows(folder.read().record.embedding()))
    assert isinstance(sheet, ExecutionBlocker) and "connect model, clip and vae" in sheet.message
    assert f"S*: {states(folder)} of the run {RUN_ID}, which has steps 0 to 4." in report


def test_the_word_says_where_it_is_from(make_run, pick):
    folder = make_run()
    word, _, report = pick(folder, "step", 2).args
    record = json.loads(word.metadata["textual_inversion"])
    assert (record["run"], record["returned_steps"], record["model"]["name"]) == (RUN_ID, [2, 2], "DemoSD")
    assert f"The run itself returned {states(folder)}." in report
    assert "Loss on the fixed evaluation set: " in report  # that step was evaluated


def test_a_step_that_the_run_does_not_have(make_run, pick, store):
    folder = make_run()
    with pytest.raises(ValueError, match=r"The run has no step 200: its steps go from 0 to 4\."):
        pick(folder, "step", 200)
    with pytest.raises(ValueError, match=r"The window ends at step 1, before its first step, 3\."):
        pick(folder, "average", 1, 3)
    store.delete(folder)
    with pytest.raises(ValueError, match=f"The run {RUN_ID} is not on disk any more"):
        pick(folder)


def test_the_sheet_shows_steps_and_prompts_with_the_same_seed(make_run, pick, models):
    folder = make_run(previews=PREVIEWS)
    before = snapshot(models)
    torch.manual_seed(11)
    drawn_next = torch.rand(4)
    torch.manual_seed(11)
    output = pick(folder, "step", 2, prompts="a photo of S*\n\n{} on a beach", **models._asdict())
    assert torch.equal(torch.rand(4), drawn_next)
    _, sheet, report = output.args
    sheet_of = plugin("ti_engine.data.contact_sheet").contact_sheet
    previews = dict(folder.previews())
    blank = torch.zeros(2, 3, 64, 64)
    expected = sheet_of([("step 0", blank), ("step 2 (picked)", blank), ("step 4", blank)])
    assert sheet.shape == (1, expected.height, expected.width, 3)
    # The first row was drawn as the previews were: the same prompt, seed and size. The captions are above it.
    head = expected.height - 2 * (64 + 6)
    for number, step in enumerate((0, 2)):
        left = 6 + number * (64 + 6)
        cell = sheet[0, head : head + 64, left : left + 64].movedim(-1, 0)
        assert torch.allclose(cell, previews[step], atol=1e-3), step
    assert "Row 1 of the sheet: a photo of S*\nRow 2 of the sheet: S* on a beach\n" in report
    assert "Columns of the sheet: step 0, step 2 (picked), step 4." in report
    assert len(output.ui["images"]) == 1 and output.ui["text"] == [report]
    after = snapshot(models)
    assert all(after[key][0] is tensor and torch.equal(after[key][0], bits) for key, (tensor, bits) in before.items())


def test_the_default_prompts_name_the_noun_of_the_training(make_run, pick, models):
    folder = make_run(settings={"class_noun": "heart", "resolution": 64})
    default = plugin("nodes.pick_step")._PROMPTS
    report = pick(folder, prompts=default, columns=0, **models._asdict()).args[2]
    assert "Row 1 of the sheet: a photo of S* heart\nRow 2 of the sheet: a photo of S* heart on a beach\n" in report


def test_what_was_picked_has_a_column_of_its_own(make_run, pick, models):
    folder = make_run()
    report = pick(folder, "average", -1, -2, columns=2, **models._asdict()).args[2]
    assert "Columns of the sheet: step 0, step 4, mean of 3 to 4 (picked)." in report
    report = pick(folder, "step", 1, columns=0, **models._asdict()).args[2]
    assert "Columns of the sheet: step 1 (picked)." in report


@pytest.mark.parametrize(
    ("left_out", "sentence"),
    [("model", "The sheet needs model too"), ("clip", "The sheet needs clip too"), ("vae", "The sheet needs vae too")],
)
def test_a_socket_that_is_left_out_is_said(make_run, pick, models, left_out, sentence):
    sockets = {name: socket for name, socket in models._asdict().items() if name != left_out}
    with pytest.raises(ValueError, match=sentence):
        pick(make_run(), **sockets)


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        (" \n", "prompts is empty"),
        ("a photo of {}\na cat", r"The prompt 'a cat' does not contain S\*; write S\* or {}"),
    ],
)
def test_a_prompt_without_the_word_is_refused(make_run, pick, models, prompts, sentence):
    with pytest.raises(ValueError, match=sentence):
        pick(make_run(), prompts=prompts, **models._asdict())


def test_a_word_for_another_model_is_refused(make_run, pick, models):
    folder = make_run()
    wide = plugin("ti_engine.run.folder").RunFolder.read

    class Other(type(folder)):
        def read(self):
            saved = wide(self)
            for state in saved.record.trajectory.values():
                state["clip_l"] = torch.zeros(1, 768)
            return saved

    with pytest.raises(ValueError, match="does not fit this CLIP"):
        pick(Other(folder.path), "step", 2, **models._asdict())


def test_cancelling_takes_effect_between_two_pictures(make_run, pick, models, monkeypatch):
    folder = make_run()
    before = snapshot(models)
    drawing = plugin("nodes.host.drawing")
    drawn = []

    def draw(*arguments):
        drawn.append(1)
        if len(drawn) == 2:
            memory.interrupt_current_processing()
        return torch.zeros(3, 64, 64)

    monkeypatch.setattr(drawing, "sample_picture", draw)
    with pytest.raises(memory.InterruptProcessingException):
        pick(folder, prompts="{}\na {}", **models._asdict())
    assert len(drawn) == 2
    after = snapshot(models)
    assert all(after[key][0] is tensor and torch.equal(after[key][0], bits) for key, (tensor, bits) in before.items())
