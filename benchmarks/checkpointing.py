"""Gradient checkpointing by torch's own function and by ours: is the gradient right, what is held, how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/checkpointing.py

Twelve layers of attention and a feed-forward network, in three kinds: as most denoisers are; adding in place, as Flux
and the host's text encoders do; and with a table that every layer adds to its scores and hands on, as in T5. Prints the
table of docs/memory.md: the error of the gradient relative to its norm, the highest point of memory beside the weights,
and the process's own time, the best of several rounds in turns. torch's function gets copies of a block's inputs. "With
hooks": its second run is inside of `overwriting_allowed`, which copies what the block overwrites.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from ti_engine.memory.checkpointing import Forward, checkpointed, lent_forwards
from ti_engine.memory.overwritten import overwriting_allowed
from ti_engine.memory.peak_count import CountedMemory

WIDTH, HEADS, TOKENS, LAYERS, ROUNDS = 128, 8, 128, 12, 3
Guard = Callable[[], AbstractContextManager[Any]]


class Layer(nn.Module):
    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.in_place = in_place

    def forward(self, x: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor | None]:
        query, key, value = self.qkv(torch.layer_norm(x, (WIDTH,))).unflatten(-1, (3, HEADS, -1)).movedim(2, 0)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = scaled_dot_product_attention(query, key, value, attn_mask=table)
        x = self.add(x, self.out(attended.transpose(1, 2).flatten(2)))
        return self.add(x, self.narrow(self.wide(torch.layer_norm(x, (WIDTH,))).sigmoid())), table

    def add(self, x: Tensor, more: Tensor) -> Tensor:
        if not self.in_place:
            return x + more
        x += more
        return x


def main() -> None:
    torch.manual_seed(0)
    text, table = torch.randn(2, TOKENS, WIDTH), torch.randn(1, HEADS, TOKENS, TOKENS)
    print("| layers | checkpointing | error of the gradient | peak | time |")
    print("|---|---|---|---|---|")
    for kind, in_place, given in (("out of place", False, None), ("in place", True, None), ("T5", True, table)):
        layers = nn.ModuleList(Layer(in_place) for _ in range(LAYERS)).requires_grad_(False)
        guard = overwriting_allowed if in_place else nullcontext
        ways: dict[str, tuple[Guard, Guard]] = {
            "none": (guard, nullcontext),
            **({"none, torch's guard": (allow_mutation_on_saved_tensors, nullcontext)} if in_place else {}),
            "torch": (guard, lambda: by_torch(layers, nullcontext)),  # noqa: B023 - called in this round
            "torch, with hooks": (guard, lambda: by_torch(layers, guard)),  # noqa: B023
            "ours": (guard, lambda: checkpointed(layers, guard)),  # noqa: B023
        }
        with allow_mutation_on_saved_tensors():
            wanted = gradient(layers, text, given)
        figures: dict[str, list[Any]] = {}
        for _ in range(ROUNDS):
            for name, (outside, inside) in ways.items():
                try:
                    with outside(), inside():
                        start = time.process_time()
                        found = gradient(layers, text, given)
                        seconds = time.process_time() - start
                        if name not in figures:
                            with CountedMemory([text, table, *layers.parameters()]) as counted:
                                gradient(layers, text, given)
                            figures[name] = [float((found - wanted).norm() / wanted.norm()), counted.peak["cpu"], 1e9]
                        figures[name][2] = min(seconds, figures[name][2])
                except RuntimeError as error:
                    figures[name] = [type(error).__name__]
        for name, (error, *cost) in figures.items():
            told = [f"{error:.1e}", f"{cost[0] / 1e6:.1f} MB", f"{cost[1] * 1e3:.0f} ms"] if cost else [error, "-", "-"]
            print(f"| {kind} | {name} | {' | '.join(told)} |", flush=True)


def gradient(layers: nn.ModuleList, text: Tensor, table: Tensor | None) -> Tensor:
    leaf = text.clone().requires_grad_()
    x = leaf * 1
    for layer in layers:
        x, table = layer(x, table)
    x.square().mean().backward()
    assert leaf.grad is not None
    return leaf.grad


def by_torch(layers: nn.ModuleList, guard: Guard) -> AbstractContextManager[None]:
    def make(forward: Forward) -> Forward:
        def on_copies(*inputs: Any) -> Any:
            return forward(*map(copied, inputs))

        def run(*inputs: Any) -> Any:
            return checkpoint(
                on_copies, *inputs, use_reentrant=False, preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), guard()),
            )  # fmt: skip

        return run

    return lent_forwards(layers, make)


def copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


if __name__ == "__main__":
    main()
