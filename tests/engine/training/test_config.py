import json
import math
from dataclasses import fields
from typing import Any

import pytest

from ti_engine import PRESETS, TrainConfig


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 0, "from 1 to 1000000"),
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("steps", "30", "a whole number"),
        ("learning_rate", 0, "above 0 and at most 10"),
        ("learning_rate", -0.1, "above 0"),
        ("learning_rate", math.nan, "above 0"),
        ("learning_rate", math.inf, "above 0"),
        ("learning_rate", 11, "at most 10"),
        ("batch_size", 0, "from 1 to 4096"),
        ("num_vectors", 0, "from 1"),
        ("seed", -1, "from 0"),
        ("seed", 2**63, "from 0"),
        ("resolution", 56, "0 or a multiple of 8 from 64 to 2048"),
        ("resolution", 100, "a multiple of 8"),
        ("warmup_steps", -1, "from 0"),
        ("gradient_accumulation_steps", 0, "from 1"),
        ("gradient_accumulation_steps", 3, "must divide batch_size"),
        ("gradient_accumulation_steps", 16, "must divide batch_size"),
        ("gradient_clip", -1.0, "at least 0"),
        ("gradient_clip", math.nan, "at least 0"),
        ("gradient_clip", math.inf, "at least 0"),
        ("high_noise_bias", -0.5, "from 0 to 4"),
        ("high_noise_bias", math.nan, "from 0 to 4"),
        ("evaluate_every", -1, "from 0"),
        ("preview_every", -1, "from 0"),
        ("what", "animal", "object, style, custom"),
        ("schedule", "linear", "cosine, constant"),
        ("flip", "no", "true or false"),
        ("flip", 1, "true or false"),
        ("early_stop", None, "true or false"),
        ("initial_words", None, "a text"),
        ("placeholder", 5, "a text"),
        ("templates", "a photo of {}", "list of texts"),
        ("templates", (1,), "list of texts"),
        ("templates", ("a photo of {}",), "what = custom only"),
        ("class_noun", 3, "a text"),
        ("class_noun", "a {} heart", "plain words"),
        ("class_noun", "embedding:cat", "plain words"),
        ("class_noun", "(heart:1.4)", "plain words"),
        ("class_noun", "S* heart", r"holds the word 'S\*' itself"),
        ("placeholder", "", "is empty"),
        ("placeholder", "  ", "is empty"),
        ("placeholder", " S*", "a space at its ends"),
        ("placeholder", "S,*", "must not contain ',' because"),
        ("placeholder", "embedding:cat", "contain ':' because"),
        ("placeholder", "(S*:1.2)", r"contain '\(' '\)' ':' because"),
        ("placeholder", "{}", "contain '{' '}' because"),
        ("placeholder", "[name]", r"contain '\[' '\]' because"),
        ("placeholder", "S\n*", r"contain '\\n' because"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError, match=allowed) as caught:
        TrainConfig(**{name: value})
    assert name.split("_")[0] in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("placeholder", ["S*", "*", "my-cat_2", "sks", "Ünï", "my cat", "学"])
def test_these_placeholders_are_allowed(placeholder):
    assert TrainConfig(placeholder=placeholder).placeholder == placeholder


def test_the_limits_themselves_are_allowed():
    for setting in fields(TrainConfig):
        low, high = setting.metadata["min"], setting.metadata["max"]
        if low is not None and not setting.metadata["open_low"]:
            values = {setting.name: low}
            if setting.name == "batch_size":
                values["gradient_accumulation_steps"] = 1
            TrainConfig(**values)
        if high not in (None, math.inf) and setting.name != "gradient_accumulation_steps":
            TrainConfig(**{setting.name: high})
    TrainConfig(batch_size=4096, gradient_accumulation_steps=4096)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(ValueError, match="Unknown setting 'learning_rte'; there are steps, learning_rate"):
        TrainConfig.from_dict({"learning_rte": 1.0})


def test_settings_survive_json():
    config = TrainConfig(what="custom", templates=("a photo of {}", "[name] in the snow"), seed=2**63 - 1, flip=True)
    text = json.dumps(config.to_dict())
    assert TrainConfig.from_dict(json.loads(text)) == config


def test_every_setting_has_its_explanation():
    for setting in fields(TrainConfig):
        assert setting.metadata["help"].endswith("."), setting.name


def test_presets_are_valid_and_can_be_changed():
    for name in PRESETS:
        assert TrainConfig.preset(name, steps=7).steps == 7
    assert TrainConfig.preset("default") == TrainConfig()


def test_the_paper_preset_is_the_papers():
    config = TrainConfig.preset("paper")
    assert (config.steps, config.batch_size) == (5000, 8)
    assert config.learning_rate == pytest.approx(0.005 * config.batch_size)
    assert (config.schedule, config.warmup_steps, config.high_noise_bias, config.early_stop) == (
        "constant",
        0,
        0,
        False,
    )


@pytest.mark.parametrize(("name", "changes"), [("fastest", {}), ("paper", {"stepz": 1})])
def test_an_unknown_preset_or_change_is_an_error(name, changes: dict[str, Any]):
    with pytest.raises(ValueError, match=r"There is no preset|Unknown setting"):
        TrainConfig.preset(name, **changes)


def test_a_class_noun_is_part_of_what_prompts_say():
    assert TrainConfig(class_noun=" red  heart ").in_prompt() == "S* red heart"
    assert TrainConfig(placeholder="T*").in_prompt() == "T*"


@pytest.mark.parametrize("what, more", [("style", {}), ("custom", {"templates": ("a {}",)})])
def test_a_class_noun_is_refused_where_no_caption_for_objects_is_used(what, more):
    with pytest.raises(ValueError, match="class_noun goes with what = object only"):
        TrainConfig(class_noun="heart", what=what, **more)
