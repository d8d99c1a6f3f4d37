"""Training Options: all that Train has no widget for, checked where it is set."""

from __future__ import annotations

import importlib
from dataclasses import fields

import pytest


@pytest.fixture
def options(nodes):
    return importlib.import_module("ti_plugin.nodes.train_options")


@pytest.fixture
def config():
    return importlib.import_module("ti_plugin.ti_engine").TrainConfig


def as_the_host_calls(options, **changes):
    """With every widget's default but for `changes`."""
    defaults = {i.id: i.options["default"] for i in options.TrainOptions.define_schema().inputs}
    return options.TrainOptions.execute(**{**defaults, **changes}).args[0]


def test_every_setting_is_a_widget_of_one_of_the_two_nodes(options, config):
    mine = [i.id for i in options.TrainOptions.define_schema().inputs]
    assert "gradient_checkpointing" in mine and "train_encoders" in mine
    assert {*mine, *options.WIDGETS_OF_TRAIN, "templates"} == {setting.name for setting in fields(config)}
    assert not set(mine) & set(options.WIDGETS_OF_TRAIN)


def test_untouched_it_changes_nothing(options, config):
    given = as_the_host_calls(options)
    assert config(**given) == config()


def test_what_is_set_arrives(options, config):
    given = as_the_host_calls(options, flip=True, train_encoders="clip_l , clip_g,", gradient_checkpointing="on")
    made = config(initial_words="cat", **given)
    assert made.flip and made.train_encoders == ("clip_l", "clip_g") and made.gradient_checkpointing == "on"


@pytest.mark.parametrize(("name", "value"), [("warmup_steps", -1), ("gradient_checkpointing", "maybe")])
def test_a_wrong_value_is_told_here(options, name, value):
    with pytest.raises(ValueError, match=name):
        as_the_host_calls(options, **{name: value})


def test_what_clashes_with_trains_own_widgets_is_told_there(options, config):
    given = as_the_host_calls(options, gradient_accumulation_steps=3)
    with pytest.raises(ValueError, match="must divide batch_size"):
        config(batch_size=8, **given)
