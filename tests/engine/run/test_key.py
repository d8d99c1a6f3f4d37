"""Which changes make another run."""

import pytest
import torch

from ti_engine import TokenEmbedding, TrainConfig
from ti_engine.run.folder import is_run_id
from ti_engine.run.key import run_key

PICTURES = [torch.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8), torch.zeros(3, 4, 8)]


def test_what_does_not_change_the_vectors_does_not_change_the_key():
    key = run_key("models", PICTURES, ["a photo of S*", None], TrainConfig())
    for same in (
        TrainConfig(preview_every=7),
        TrainConfig(evaluate_every=7),
        TrainConfig(gradient_checkpointing="on"),
        TrainConfig(gradient_accumulation_steps=2),
        TrainConfig(caption_lines="paired"),
        TrainConfig(if_exists="retrain"),
        TrainConfig(runs_gb=1.0),
    ):
        assert key == run_key("models", PICTURES, ["a photo of S*", None], same)
    assert key == run_key("models", PICTURES, ["a photo of cat*", None], TrainConfig(placeholder="cat*"))
    assert key == run_key("models", PICTURES, ["a photo of {}", None], TrainConfig(placeholder="S2*"))


def test_templates_count_by_the_texts_around_the_word():
    def key(*templates, **changes):
        return run_key("models", PICTURES, [], TrainConfig(what="custom", templates=templates, **changes))

    assert key("a S*", "b {}") == key("a X", "b [name]", placeholder="X")
    assert key("a S*", "b {}") != key("a S*", "c {}")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 151},
        {"seed": 1},
        {"learning_rate": 0.02},
        {"initial_words": "cat"},
        {"num_vectors": 2},
        {"flip": True},
        {"class_noun": "heart"},
        {"schedule": "constant"},
        {"schedule": "constant", "early_stop": False},
    ],
)
def test_what_changes_the_vectors_changes_the_key(changes):
    assert run_key("m", PICTURES, [], TrainConfig()) != run_key("m", PICTURES, [], TrainConfig(**changes))


def test_pictures_captions_and_models_change_the_key():
    key = run_key("m", PICTURES, ["S* a", None], TrainConfig())
    other_pixel = [PICTURES[0].clone(), PICTURES[1]]
    other_pixel[0][0, 0, 0] = 0.5
    for other in (
        run_key("other", PICTURES, ["S* a", None], TrainConfig()),
        run_key("m", PICTURES, ["S* b", None], TrainConfig()),
        run_key("m", PICTURES, [None, "S* a"], TrainConfig()),
        run_key("m", PICTURES, [], TrainConfig()),
        run_key("m", other_pixel, ["S* a", None], TrainConfig()),
        run_key("m", PICTURES[::-1], ["S* a", None], TrainConfig()),
        run_key("m", [PICTURES[0], PICTURES[1].reshape(3, 8, 4)], ["S* a", None], TrainConfig()),
    ):
        assert other != key


def test_the_number_of_steps_counts_only_where_the_schedule_depends_on_it():
    def key(**changes):
        return run_key("m", PICTURES, [], TrainConfig(**changes))

    free = {"schedule": "constant", "early_stop": False}
    assert key(steps=100, **free) == key(steps=200, **free)
    assert key(steps=100, schedule="constant") != key(steps=200, schedule="constant")
    assert key(steps=100, early_stop=False) != key(steps=200, early_stop=False)


def test_what_a_run_starts_from_counts():
    keys = {
        run_key("m", PICTURES, [], TrainConfig(), start)
        for start in (
            None,
            TokenEmbedding({"clip_l": torch.zeros(1, 4)}),
            TokenEmbedding({"clip_l": torch.ones(1, 4)}),
            TokenEmbedding({"clip_g": torch.zeros(1, 4)}),
        )
    }
    assert len(keys) == 4 and all(map(is_run_id, keys))
