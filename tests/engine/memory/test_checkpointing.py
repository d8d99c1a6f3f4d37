"""Checkpointed blocks: the gradient of the plain ones, and less to keep for it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.autograd.graph import allow_mutation_on_saved_tensors

from ti_engine.memory.checkpointing import checkpointed
from ti_engine.memory.overwritten import overwriting_allowed
from ti_engine.memory.peak_count import CountedMemory

WIDTH = 16


@dataclass
class Modulation:
    shift: torch.Tensor
    scale: torch.Tensor


class Block(nn.Module):
    """Takes and gives tensors in every way that the blocks of denoisers do."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        self.in_place = in_place

    def forward(self, picture, text, modulation, options, *, mask):
        options["calls"] = options.get("calls", 0) + 1
        inner = torch.layer_norm(picture, (WIDTH,)) * (1 + modulation[0].scale) + modulation[0].shift
        for _ in range(4):
            inner = torch.tanh(self.linear(inner) * options["gain"])
        if self.in_place:
            picture += inner * mask
            text += picture.mean(1, keepdim=True)
            picture += torch.layer_norm(picture, (WIDTH,))
        else:
            picture = picture + inner * mask
            text = text + picture.mean(1, keepdim=True)
            picture = picture + torch.layer_norm(picture, (WIDTH,))
        return picture, (text, None)


class Network(nn.Module):
    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(in_place) for _ in range(6))
        self.requires_grad_(False)

    def forward(self, text):
        picture = torch.linspace(-1, 1, 2 * 50 * WIDTH, dtype=torch.float64).view(2, 50, WIDTH)
        modulation = (Modulation(text.mean(1, keepdim=True), text.amax(1, keepdim=True)),)
        options = {"gain": 1.0}
        given = text * 1
        for block in self.blocks:
            picture, (given, _) = block(picture, given, modulation=modulation, options=options, mask=picture.sigmoid())
            options["gain"] += 0.25  # the second run has to see what the first one saw
        return picture.square().mean() + given.square().mean()


def gradient(network, text):
    text = text.clone().requires_grad_(True)
    loss = network(text)
    loss.backward()
    return loss.detach(), text.grad


@pytest.fixture
def text():
    return torch.randn(2, 3, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("in_place", [False, True])
def test_same_loss_and_gradient(in_place, text):
    network = Network(in_place)
    with allow_mutation_on_saved_tensors():
        plain = gradient(network, text)
    guard = overwriting_allowed if in_place else nullcontext
    with guard(), checkpointed(network.blocks, guard):
        twice = gradient(network, text)
    assert bool(plain[1].any())
    assert torch.equal(plain[0], twice[0])
    torch.testing.assert_close(plain[1], twice[1], rtol=1e-12, atol=1e-12)  # but for the order of sums


@pytest.mark.parametrize("in_place", [False, True])
def test_against_central_differences(in_place, text):
    network = Network(in_place)
    guard = overwriting_allowed if in_place else nullcontext
    with guard(), checkpointed(network.blocks, guard):
        _, found = gradient(network, text)
        direction = torch.randn(text.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            above, below = (network(text + s * 1e-6 * direction) for s in (1, -1))
    measured, told = float((above - below) / 2e-6), float((found * direction).sum())
    assert abs(measured - told) < 1e-7 * abs(told)


@pytest.mark.parametrize(
    ("outside", "inside"),
    [(nullcontext, nullcontext), (overwriting_allowed, nullcontext), (nullcontext, overwriting_allowed)],
)
def test_blocks_that_add_in_place_are_refused_without_their_guard(outside, inside, text):
    network = Network(in_place=True)
    with outside(), checkpointed(network.blocks, inside), pytest.raises(RuntimeError, match=r"in-?place operation"):
        gradient(network, text)


def test_a_tensor_that_reaches_a_block_unseen_keeps_its_gradient(text):
    network = Network(in_place=False)
    plain = gradient(network, text)
    original, hidden = network.blocks[2].forward, []

    def with_hidden(picture, *args, **kwargs):
        return original(picture + hidden[0].mean(), *args, **kwargs)

    def found():
        given = text.clone().requires_grad_(True)
        hidden[:] = [given]
        network(given).backward()
        return given.grad

    network.blocks[2].forward = with_hidden
    wanted = found()
    with checkpointed(network.blocks):
        assert torch.equal(found(), wanted)
    assert not torch.equal(wanted, plain[1])


def test_less_is_kept(text):
    network = Network(in_place=False)

    def peak(blocks):
        with checkpointed(blocks), CountedMemory() as counted:
            gradient(network, text)
        return counted.peak["cpu"]

    assert peak(network.blocks) < 0.6 * peak([])


def test_a_block_is_let_go_of_when_its_gradient_is_known():
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Linear(WIDTH, 8 * WIDTH)

        def forward(self, x):
            return x + self.wide(x).tanh().view(*x.shape, 8).sum(-1)

    def peak(count):
        blocks = nn.ModuleList(Wide() for _ in range(count)).requires_grad_(False)
        text = torch.randn(100, WIDTH, requires_grad=True)
        with checkpointed(blocks), CountedMemory(blocks.parameters()) as counted:
            out = text
            for block in blocks:
                out = block(out)
            out.sum().backward()
        return counted.peak["cpu"]

    one_input = 100 * WIDTH * 4
    assert peak(20) - peak(10) <= 10 * one_input


def test_an_output_without_a_gradient_claims_none():
    class Bias(nn.Module):
        def forward(self, x, bias=None):
            bias = torch.ones(3, 3) if bias is None else bias
            return x + bias @ x, bias

    blocks = nn.ModuleList([Bias(), Bias()])
    text = torch.randn(3, WIDTH, requires_grad=True)
    with checkpointed(blocks):
        out, bias = blocks[0](text)
        assert out.requires_grad and not bias.requires_grad
        out, bias = blocks[1](out, bias)
        assert out.requires_grad and not bias.requires_grad
        out.sum().backward()
    step = torch.eye(3) + 1
    torch.testing.assert_close(text.grad, (step @ step).T @ torch.ones(3, WIDTH))


class Handing(nn.Module):
    """A layer that hands on a table which it was given, in one of many ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x, table, unread=None):
        if self.way == "added to":
            table += x.mean()
        x = x + (table.tanh() @ x)
        if self.way == "added to later":
            table += 0.5
        if self.way == "a view is added to":
            table[1:] *= 2
        if self.way == "its own":
            table = x.mean() + torch.ones_like(table)
        if self.way == "a view":
            table = table.view(-1).view(len(table), -1)
        return x, [table, unread]


WAYS = ["as it was", "added to", "added to later", "a view is added to", "a view", "its own"]


def through(layers, text, table):
    """The sum of what comes out and the last table, which the caller adds to after every layer of the second half."""
    for i, layer in enumerate(layers):
        text, (table, _) = layer(text, table=table)
        if i >= len(layers) // 2:
            table += 0.1
    return text.sum() + table.square().sum()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_tensors_that_are_handed_on(way, learned):
    layers = nn.ModuleList(Handing(way) for _ in range(4))

    def gradients(run_in, guard):
        text = torch.linspace(-1, 1, 3 * WIDTH, dtype=torch.float64).view(3, WIDTH).requires_grad_()
        start = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64).view(3, 3).requires_grad_(learned)
        with run_in, guard():
            through(layers, text, start * 1).backward()
        return text.grad, start.grad

    plain = gradients(nullcontext(), allow_mutation_on_saved_tensors)
    twice = gradients(checkpointed(layers, overwriting_allowed), overwriting_allowed)
    torch.testing.assert_close(twice, plain, rtol=1e-12, atol=1e-12)


def test_a_block_gets_the_tensors_that_it_is_given():
    """So what it hands on is kept once for all blocks, and what it overwrites is overwritten as ever."""
    text = torch.ones(3, WIDTH, requires_grad=True)
    for way in WAYS:
        layer = Handing(way)
        found = []
        for guard in (nullcontext, overwriting_allowed):
            table = torch.zeros(3, 3)
            with overwriting_allowed(), checkpointed([layer], guard) if guard is overwriting_allowed else guard():
                _, (given, unread) = layer(text * 1, table=table, unread=text)
            assert unread is text
            found.append((given is table, given, table))
        assert found[0][0] == found[1][0]
        torch.testing.assert_close(found[0][1:], found[1][1:])


@pytest.mark.parametrize("guard", [nullcontext, overwriting_allowed])
@pytest.mark.parametrize("shape", ["expanded", "a part of wide rows", "padded", "transposed"])
def test_the_second_run_gets_inputs_laid_out_as_in_the_first(shape, guard):
    """By which torch chooses what a product of matrices computes and keeps."""
    linear = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64).requires_grad_(False)
    text = torch.rand(3, 5, WIDTH, dtype=torch.float64)
    start = {
        "expanded": text[:1].expand(3, 5, WIDTH),
        "a part of wide rows": text.repeat(1, 1, 3)[..., :WIDTH],
        "padded": nn.functional.pad(text, (0, 5))[..., :WIDTH],
        "transposed": text.movedim(0, 1).contiguous().movedim(1, 0),
    }[shape]

    def found(run_in):
        given = torch.zeros((), dtype=torch.float64, requires_grad=True)
        with guard(), run_in:
            out = block(start.detach().requires_grad_(), given)
            out.square().sum().backward()
        return given.grad

    class Block(nn.Module):
        def forward(self, x, more):
            return linear(linear(x).tanh() + more)

    block = Block()
    wanted = found(nullcontext())
    torch.testing.assert_close(found(checkpointed([block], guard)), wanted, rtol=1e-12, atol=1e-12)


def test_a_block_that_computes_something_else_the_second_time_is_an_error():
    class Changing(nn.Module):
        def forward(self, x):
            calls.append(1)
            return x.exp().sum() if len(calls) == 1 else x[:2].exp().sum()

    calls: list[int] = []
    with checkpointed([block := Changing()]):
        out = block(torch.ones(4, requires_grad=True))
        with pytest.raises(RuntimeError, match="something else"):
            out.backward()


def test_overwritten_without_a_guard_is_no_wrong_gradient():
    layers = nn.ModuleList([Handing("as it was")])
    text, table = torch.ones(3, WIDTH, requires_grad=True), torch.zeros(3, 3)
    with checkpointed(layers):
        out, (given, _) = layers[0](text, table)
        given += 1
        with pytest.raises(RuntimeError, match="inplace operation"):
            out.sum().backward()


def test_a_block_that_computes_nothing():
    block = nn.Identity()
    text = torch.ones(3, requires_grad=True)
    with checkpointed([block]):
        assert block(text) is text


@pytest.mark.parametrize("guard", [nullcontext, overwriting_allowed])
@pytest.mark.parametrize("how", ["handed on", "by name"])
def test_a_table_is_kept_once(how, guard):
    side = 200
    table_bytes = side * side * 4

    class Layer(nn.Module):
        def forward(self, x, table):
            x = x + (table @ x) / side
            return x, table if how != "by name" else table * 1

    def held(count):
        layers = nn.ModuleList(Layer() for _ in range(count))
        text = torch.ones(side, 1, requires_grad=True)
        with checkpointed(layers, guard), guard(), CountedMemory([text]) as counted:
            x, table = text, torch.ones(side, side)
            for layer in layers:
                x, table = layer(x, table=table)
            kept = counted.now["cpu"]
            x.sum().backward()
        return kept, counted.peak["cpu"]

    few, many = held(4), held(14)
    per_layer = 10 * (table_bytes if how == "by name" else 0)
    assert many[0] - few[0] < per_layer + 0.5 * table_bytes and many[1] - few[1] < per_layer + 0.5 * table_bytes
    assert few[1] > table_bytes


def test_without_gradients_each_block_runs_once_and_as_it_is(text):
    network = Network(in_place=True)
    options = {"gain": 1.0}
    with checkpointed(network.blocks, overwriting_allowed), torch.no_grad():
        picture, modulation = text.clone(), (Modulation(text, text),)
        out, _ = network.blocks[0](picture, text.clone(), modulation, options, mask=text)
    assert options["calls"] == 1 and out is picture


@pytest.mark.parametrize("ends", ["well", "in an error"])
def test_every_forward_comes_back(ends, text):
    network = Network(in_place=False)
    original = network.blocks[1].forward

    def own(*args, **kwargs):
        return original(*args, **kwargs)

    network.blocks[1].forward = own  # as another pack may have left it
    before = [dict(vars(block)) for block in network.blocks]
    try:
        with checkpointed(network.blocks):
            assert all(vars(block)["forward"] is not own for block in network.blocks)
            if ends != "well":
                raise RuntimeError("broken on purpose")
    except RuntimeError:
        pass
    assert [dict(vars(block)) for block in network.blocks] == before


def test_an_error_in_the_second_run_comes_through(text):
    network = Network(in_place=False)
    original, calls = network.blocks[3].forward, []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    network.blocks[3].forward = fail
    with checkpointed(network.blocks), pytest.raises(KeyboardInterrupt):
        gradient(network, text)


def test_a_block_with_compiled_code():
    """Into which no mode of torch's looks, so that all that the block is given is kept."""

    class Block(nn.Module):
        def forward(self, x, table):
            return add(x, table)

    add = torch.compile(lambda x, table: torch.sin(x) * table, backend="eager", fullgraph=True)
    x, table = torch.rand(4, requires_grad=True), torch.rand(4)
    block = Block()
    (wanted,) = torch.autograd.grad(block(x, table).sum(), [x])
    with checkpointed([block]):
        block(x, table).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, wanted)
