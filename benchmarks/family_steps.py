"""The steps that gpu.py and ratio.py compare, of any model in the host's classes, once it is lent.

- ours: one update of the engine, without looks at the evaluation set.
- bare: forward and backward of the denoiser alone, called as that update called it, from the same inputs to the
  conditioning, with the same attention and its blocks run as often.
- encoders: what an update does with the text encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from host import Models, plugin
from torch import Tensor

Step = Callable[[], object]


def steps_of(backend: Any, latents: list[int], samples: int, checkpointing: str = "auto") -> dict[str, Step]:
    """latents: the shape of one sample's, [1, C, (1,) h, w]."""
    ours = _our_step(backend, latents, samples, checkpointing)
    return {"ours": ours, "bare": _bare_step(backend, ours), "encoders": _encoding_step(backend, samples)}


def latent_shape(models: Models, samples: int, resolution: int) -> list[int]:
    latent = models.model.model.latent_format
    side = resolution // getattr(latent, "spacial_downscale_ratio", 8)
    frames = [1] if getattr(latent, "latent_dimensions", 2) == 3 else []
    return [samples, latent.latent_channels, *frames, side, side]


def captions_of(samples: int) -> list[str]:
    """All different, as they mostly are in training: equal ones are encoded once."""
    templates = plugin("ti_engine.data.captions").OBJECT_TEMPLATES
    return [template.replace("{}", "S*") for template in templates[:samples]]


def _our_step(backend: Any, latents: list[int], samples: int, checkpointing: str) -> Step:
    engine = plugin("ti_engine")
    mean = torch.randn([4, *latents[1:]], generator=torch.Generator().manual_seed(0))
    source = engine.CaptionSource("S*", plugin("ti_engine.data.captions").OBJECT_TEMPLATES)
    dataset = engine.TrainingSet(mean, torch.zeros_like(mean), source, len(mean))
    config = engine.TrainConfig(
        steps=100_000, batch_size=samples, gradient_checkpointing=checkpointing, evaluate_every=0, early_stop=False
    )
    loop = engine.train(backend, dataset, config)
    for _ in range(4):  # until the loss scale has settled
        next(loop)

    def step() -> None:
        if next(loop).record.stopped:
            raise RuntimeError("The run has ended; the weights do not suit this model.")

    return step


def _bare_step(backend: Any, update: Step) -> Step:
    network = backend.models.patcher.model.diffusion_model
    calls: list[tuple[Any, Any]] = []
    handle = network.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    update()
    handle.remove()
    # Several where captions differ in length and the model does not take them side by side.
    calls = [([_leaf(v) for v in args], {name: _leaf(v) for name, v in kwargs.items()}) for args, kwargs in calls]
    adds_in_place = backend.models.family.adds_in_place
    guard = plugin("ti_engine.memory.overwritten").overwriting_allowed if adds_in_place else nullcontext

    def step() -> None:
        for value in [value for args, kwargs in calls for value in (*args, *kwargs.values())]:
            if isinstance(value, Tensor):
                value.grad = None
        with guard():
            answers = [network(*args, **kwargs) for args, kwargs in calls]
        torch.stack([answer.float().square().mean() for answer in answers]).sum().backward()

    return step


def _leaf(value: Any) -> Any:
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _encoding_step(backend: Any, samples: int) -> Step:
    """To the conditioning, and from its gradient to the vectors."""
    vectors = {key: torch.zeros(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}

    def step() -> None:
        encoded = backend.encode(captions_of(samples), {"S*": vectors}, differentiable=True)
        for entry in encoded.cond.distinct:
            for tensor in entry.values():
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.grad = torch.ones_like(tensor)
        encoded.backward()

    return step
