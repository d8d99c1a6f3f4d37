"""The whole state of a run: what `train` goes on from, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..memory.ladder import Ladder
from ..method.sphere import SphereAdam, scaled_to
from ..word.embedding import TokenEmbedding
from .backend import Backend, EncoderInfo
from .config import TrainConfig
from .gradients import LossScale
from .record import TrainRecord
from .start_vectors import initial_vectors, trained_encoders

_BETAS = (0.9, 0.99)


@dataclass
class RunState:
    """A run after `step` updates. `train` changes it in place; `copy` takes it out whole.

    vectors: encoder key -> [num_vectors, width] in float32; those of encoders that are trained require a gradient.
    optimizer: over these. generator: draws the samples of every update. parts: that a batch is computed in.
    window_losses: of the last window, see `plan_cool_down`. cool_down: first and last update of the cool-down that ends
    the run; None before there is one.
    """

    step: int
    vectors: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    loss_scale: LossScale
    parts: int
    window_losses: Tensor | None
    cool_down: tuple[int, int] | None
    record: TrainRecord

    def last_step(self, config: TrainConfig) -> int:
        """The update with which the run ends."""
        return config.steps if self.cool_down is None else self.cool_down[1]

    def draw_from(self) -> tuple[torch.Generator, LossScale]:
        """Copies of the generator and the loss scale for the next update, which takes them over if it is made. One that
        trouble prevents leaves no trace, so a run that goes on draws the same samples again."""
        return torch.Generator().set_state(self.generator.get_state()), copy.copy(self.loss_scale)

    def update(
        self, loss: float, learning_rate: float, ladder: Ladder, generator: torch.Generator, loss_scale: LossScale
    ) -> None:
        """Makes the update that the gradients ask for, and records it. learning_rate: for a vocabulary of SD1's scale.

        ladder, generator, loss_scale: as they are after computing that gradient.
        """
        self.generator, self.loss_scale = generator, loss_scale
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self.optimizer.step()
        self.step += 1
        record = self.record
        for key, reached in record.reached.items():
            gradient = self.vectors[key].grad
            if gradient is not None:
                reached |= gradient.ne(0).any(1).cpu()
        if ladder.steps_down:
            record.ran_out_of_memory, ladder.steps_down = self.step, 0
        self.parts = record.parts = ladder.parts
        record.losses.append(loss)
        self.keep_vectors()

    def keep_vectors(self) -> None:
        """Adds the vectors as they are to the trajectory."""
        self.record.trajectory[self.step] = {key: rows.detach().clone() for key, rows in self.vectors.items()}

    def go_back(self, step: int) -> None:
        """Forgets the updates after `step`. Only for what the run returned then: the optimizer and the generator stay
        ahead, so no run goes on from here."""
        self.step, self.record = step, self.record.until(step)
        with torch.no_grad():
            for key, rows in self.vectors.items():
                rows.copy_(self.record.trajectory[step][key])

    def copy(self) -> RunState:
        """The same state in memory of its own: a run that goes on from it never touches this one."""
        vectors = {key: rows.detach().clone().requires_grad_(rows.requires_grad) for key, rows in self.vectors.items()}
        known = {id(rows): vectors[key] for key, rows in self.vectors.items()}  # the copy optimises the copied vectors
        optimizer = copy.deepcopy(self.optimizer, known)
        return RunState(
            self.step,
            vectors,
            optimizer,
            *self.draw_from(),
            self.parts,
            self.window_losses,
            self.cool_down,
            copy.deepcopy(self.record),
        )


def start_run(backend: Backend, config: TrainConfig, start: TokenEmbedding | None = None) -> RunState:
    """The state before the first update: vectors from `start`, from `config.initial_words`, or random.

    Raises ValueError for settings that do not fit the model.
    """
    vectors = initial_vectors(backend, config, start)
    trained = {key: vectors[key].requires_grad_(True) for key in trained_encoders(backend, config)}
    record = TrainRecord(config.placeholder)
    record.reached = {key: torch.zeros(len(rows), dtype=torch.bool) for key, rows in trained.items()}
    if config.norm == "vocabulary":
        record.norms = {key: backend.encoders[key].norm for key in trained}
        with torch.no_grad():
            for key, rows in trained.items():
                rows.copy_(scaled_to(rows, record.norms[key]))
    return RunState(
        step=0,
        vectors=vectors,
        optimizer=_optimizer(trained, backend.encoders, config),
        generator=torch.Generator().manual_seed(config.seed),
        loss_scale=LossScale(backend.loss_scale, backend.loss_scale),
        parts=config.gradient_accumulation_steps,
        window_losses=None,
        cool_down=None,
        record=record,
    )


def _optimizer(
    trained: Mapping[str, Tensor], encoders: Mapping[str, EncoderInfo], config: TrainConfig
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2017) without weight decay, which would pull the word towards nothing, or SphereAdam.

    A group for each encoder, with the scale of its vocabulary: gradients are as much smaller as a vocabulary is larger,
    so eps has to be too, for one learning rate to suit all.
    """
    groups = [
        {"params": [rows], "scale": (scale := encoders[key].scale), "eps": 1e-8 / scale}
        for key, rows in trained.items()
    ]
    if config.norm == "vocabulary":
        groups = [{**group, "norm": encoders[key].norm} for key, group in zip(trained, groups, strict=True)]
        return SphereAdam(groups, _BETAS)
    return torch.optim.AdamW(groups, betas=_BETAS, weight_decay=0.0)
