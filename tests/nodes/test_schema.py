"""Every node declares what it does, and the same thing twice never differs."""

from __future__ import annotations

import asyncio
import importlib
import inspect

import pytest

NODE_IDS = [
    "TI_Train", "TI_LoadEmbedding", "TI_EncodePrompt", "TI_SaveEmbedding", "TI_LoadDemoModel", "TI_InspectEmbedding",
    "TI_MergeEmbeddings", "TI_TrainOptions", "TI_LoadRun", "TI_PickStep", "TI_Dial", "TI_ScoreImages",
]  # fmt: skip
WIDGETS = [
    "steps", "learning_rate", "batch_size", "num_vectors", "initial_words", "placeholder", "what", "seed",
    "resolution", "preview_every",
]  # fmt: skip


@pytest.fixture
def schemas(nodes):
    return {node: node.define_schema() for node in nodes.NODES}


def test_the_ids_never_change(schemas):
    assert [s.node_id for s in schemas.values()] == NODE_IDS


def test_the_entry_point_lists_the_nodes(nodes):
    import ti_plugin

    extension = asyncio.run(ti_plugin.comfy_entrypoint())
    assert asyncio.run(extension.get_node_list()) == nodes.NODES


def test_execute_takes_exactly_the_inputs(schemas):
    for node, schema in schemas.items():
        if schema.node_id != "TI_TrainOptions":  # which takes whatever settings there are
            assert list(inspect.signature(node.execute).parameters) == [i.id for i in schema.inputs], schema.node_id


def test_optional_inputs_have_defaults(schemas):
    for node, schema in schemas.items():
        parameters = inspect.signature(node.execute).parameters
        for socket in schema.inputs:
            if socket.options.get("optional"):
                assert parameters[socket.id].default is None, (schema.node_id, socket.id)


def test_everything_is_explained(schemas):
    for schema in schemas.values():
        assert schema.description and schema.category == "textual inversion"
        for socket in [*schema.inputs, *schema.outputs]:
            assert socket.options.get("tooltip"), (schema.node_id, socket.id or socket.options)


def test_the_train_node_shows_ten_widgets_with_the_engines_defaults(schemas, nodes):
    (schema,) = (s for s in schemas.values() if s.node_id == "TI_Train")
    engine = importlib.import_module("ti_plugin.ti_engine")
    widgets = {i.id: i.options for i in schema.inputs if "default" in i.options}
    assert list(widgets) == WIDGETS
    for name, options in widgets.items():
        assert options["default"] == getattr(engine.TrainConfig, name)
    assert widgets["steps"]["min"] == 1
    assert widgets["what"]["options"] == ["object", "style", "custom"]


def test_tooltips_speak_of_what_the_nodes_have(schemas):
    """They are the engine's own texts, which the command line shows as well."""
    said = {(s.node_id, i.id): i.options["tooltip"] for s in schemas.values() for i in s.inputs}
    for name, tooltip in said.items():
        assert not any(word in tooltip for word in ("--", "caller", "flag", "templates")), name
    config = importlib.import_module("ti_plugin.ti_engine.training.config")
    assert said["TI_Train", "what"] == config.setting_limits("what")["help"]


def test_the_seed_never_changes_by_itself(schemas):
    for schema in (s for s in schemas.values() if s.node_id in ("TI_Train", "TI_PickStep")):
        (seed,) = (i for i in schema.inputs if i.id == "seed")
        assert seed.options["control_after_generate"] is False
        assert seed.options["max"] <= 2**53  # larger numbers are rounded in browsers


def test_options_that_the_host_does_not_know_are_left_out(nodes):
    schema = importlib.import_module("ti_plugin.nodes.schema")

    def old(id, default=None):
        return id, default

    assert schema.supported(old, "steps", default=3, tooltip="new hosts only") == ("steps", 3)
