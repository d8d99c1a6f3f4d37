import pytest
from toy import ToyBackend, toy_config

from ti_engine import TrainRecord, training_warnings


def warnings(num_pictures=4, parts=1, **changes):
    return training_warnings(ToyBackend(), toy_config(**changes), TrainRecord("S*", parts=parts), num_pictures)


@pytest.mark.parametrize("changes", [{}, {"initial_words": "ball"}, {"initial_words": "red ball", "num_vectors": 2}])
def test_usual_settings_need_no_advice(changes):
    assert warnings(**changes) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(num_pictures=1), "only one picture"),
        (dict(placeholder="ball"), "ball is a word that the model knows"),
        (dict(initial_words="a red ball"), "initial_words has 3 tokens and the word has 1"),
        (dict(parts=4), "did not hold a batch of 8, so it was computed in 4 parts"),
    ],
)
def test_what_is_probably_not_meant_is_one_sentence(changes, sentence):
    (said,) = warnings(**changes)
    assert sentence in said
