"""Writes a demo model with random weights, and what diffusers and transformers compute with it, into a folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ENGINE = Path(__file__).resolve().parents[2] / "ti_engine"


def main(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("ti_engine", ENGINE / "__init__.py")
    assert spec and spec.loader
    sys.modules["ti_engine"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    from ti_engine.demo.model import build_autoencoder, build_text_encoder, build_unet

    torch.manual_seed(1)
    unet, text_encoder, vae = (build().train(False) for build in (build_unet, build_text_encoder, build_autoencoder))
    for weight in vae.parameters():
        weight.data *= 2.0  # else fresh layers give next to nothing, and any two results would agree
    networks = {"unet.": unet, "text_encoder.": text_encoder, "vae.": vae}
    weights = {p + k: w.contiguous() for p, network in networks.items() for k, w in network.state_dict().items()}
    save_file(weights, folder / "demo.safetensors")

    ids = torch.tensor([[0, 5, 6, 7] + [1] * 28, [0, 9, 9, 12, 13] + [1] * 27])
    noisy, steps, pictures = torch.randn(2, 4, 16, 16), torch.tensor([10, 700]), torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        cond = text_encoder(input_ids=ids).last_hidden_state
        prediction = unet(noisy, steps, encoder_hidden_states=cond).sample
        latents = vae.encode(pictures * 2 - 1).latents
        decoded = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    tensors = dict(
        ids=ids, noisy=noisy, steps=steps, cond=cond, prediction=prediction, pictures=pictures, latents=latents,
        decoded=decoded,
    )  # fmt: skip
    save_file(tensors, folder / "reference.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
