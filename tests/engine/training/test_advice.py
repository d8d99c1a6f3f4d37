import pytest
import torch
from toy import ToyBackend, toy_config

from ti_engine import TokenEmbedding, TrainRecord, result_warnings, setting_warnings
from ti_engine.word.inspection import vector_warnings


@pytest.mark.parametrize("changes", [{}, {"initial_words": "ball"}, {"initial_words": "red ball", "num_vectors": 2}])
def test_usual_settings_need_no_advice(changes):
    assert setting_warnings(ToyBackend(), toy_config(**changes), 4) == []


@pytest.mark.parametrize(
    ("num_pictures", "changes", "sentence"),
    [
        (1, {}, "only one picture"),
        (4, dict(placeholder="ball"), "ball is a word that the model knows"),
        (
            4,
            dict(initial_words="a red ball"),
            "(1): no vector starts from red, ball. Set num_vectors to 3, or choose fewer words.",
        ),
        (4, dict(initial_words="ball " * 100), "ball, ball, .... Choose fewer words."),
    ],
)
def test_what_is_probably_not_meant_is_said_before_the_run(num_pictures, changes, sentence):
    (said,) = setting_warnings(ToyBackend(), toy_config(**changes), num_pictures)
    assert sentence in said


def record(times=2.0, evaluations=(1.0, 0.5), **more):
    """A run of one step whose vectors end `times` as long as a word."""
    key, info = next(iter(ToyBackend().encoders.items()))
    rows = torch.full((1, info.width), times * info.norm / info.width**0.5)
    before, after = (torch.full((16,), loss) for loss in evaluations)
    return TrainRecord("S*", {0: {key: rows}, 1: {key: rows}}, [0.7], {0: before}, {range(1, 2): after}, **more)


def test_a_usual_result_needs_no_advice():
    assert result_warnings(ToyBackend(), toy_config(), record()) == []


@pytest.mark.parametrize(("times", "is_told"), [(6, False), (19, False), (21, True)])
def test_a_length_is_too_much_after_training_where_it_is_too_much_in_a_file(times, is_told):
    told = result_warnings(ToyBackend(), toy_config(), record(times))
    assert ["will dominate" in warning for warning in told] == [True] * is_told
    told = vector_warnings(TokenEmbedding(record(times).trajectory[0]), ToyBackend())
    assert ["will dominate" in warning for warning in told] == [True] * is_told


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (record(parts=4), "did not hold a batch of 8, so it was computed in 4 parts"),
        (record(ran_out_of_memory=3), "Memory ran out at step 3"),
        (record(evaluations=(0.5, 1.0)), "nothing was learned"),
        (record(times=100), "became 100 times as long as a word"),
        (record(reached={"clip_l": torch.tensor([False])}), "The vectors of clip_l never got a gradient"),
        (record(reached={"clip_l": torch.tensor([True, False])}), "Vectors 2 of clip_l never got a gradient"),
    ],
)
def test_a_result_that_is_probably_not_meant_is_one_sentence(result, sentence):
    (said,) = result_warnings(ToyBackend(), toy_config(), result)
    assert sentence in said
