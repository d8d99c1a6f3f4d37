"""What `textual-inversion evaluate` compares with, and by what: checked before any model is opened."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.picture_files import PictureFiles, read_pictures
from ..evaluation.clip_folder import ClipFolder
from ..evaluation.dino_folder import DinoFolder
from ..evaluation.foreground import foreground
from ..evaluation.scorer import Scorer
from .model_flags import device_of


@dataclass(frozen=True)
class Compared:
    """training: pictures as they are. references: what generated pictures are compared with, without their background
    where there are masks. held_out: whether the references were not trained on."""

    training: list[Tensor]
    references: list[Tensor]
    held_out: bool
    names: list[str]
    masked: bool
    warnings: list[str]


def read_compared(pictures: Sequence[str], held_out: Sequence[str], masks: str | None) -> Compared:
    """Pictures and masks from files and folders. ValueError for a held-out picture that is a training picture too, and
    for a mask that is missing or does not fit its picture."""
    # Folders alone: a held-out file inside of a training folder was trained on, and has to be seen as such.
    in_use = [path for path in (*held_out, *([] if masks is None else [masks])) if Path(path).is_dir()]
    training = read_pictures(pictures, in_use)
    chosen = read_pictures(held_out, [] if masks is None else [masks]) if held_out else training
    if held_out:
        _check_apart(training, chosen)
    references, warnings = chosen.pictures, training.warnings + (chosen.warnings if held_out else [])
    if masks is not None:
        found, lost = _masks_of(chosen, Path(masks))
        references = [_masked(*each) for each in zip(chosen.names, references, found, strict=True)]
        warnings = warnings + lost
    return Compared(training.pictures, references, bool(held_out), chosen.names, masks is not None, warnings)


def folder_scorers(arguments: argparse.Namespace) -> list[Scorer]:
    """CLIP and DINO from the folders that the flags name; nothing is loaded yet. Errors as of the two classes."""
    scorers: list[Scorer] = []
    if arguments.clip is not None or arguments.dino is not None:
        device = device_of(arguments)
        if arguments.clip is not None:
            scorers.append(ClipFolder(arguments.clip, device))
        if arguments.dino is not None:
            scorers.append(DinoFolder(arguments.dino, device))
    return scorers


def _check_apart(training: PictureFiles, held_out: PictureFiles) -> None:
    for name, picture in zip(held_out.names, held_out.pictures, strict=True):
        for own, trained in zip(training.names, training.pictures, strict=True):
            if picture.shape == trained.shape and torch.equal(picture, trained):
                raise ValueError(
                    f"The held-out picture {name} is the training picture {own}; hold out one that was not trained on."
                )


def _masks_of(pictures: PictureFiles, folder: Path) -> tuple[list[Tensor], list[str]]:
    """A mask [h, w] in 0..1 for each picture, and warnings: the picture in `folder` of the same name, whatever its
    ending. ValueError where two pictures or two masks have the same."""
    if not folder.is_dir():
        raise ValueError(f"--masks names no folder: {folder}.")
    masks = read_pictures([folder])
    _check_names(pictures, "pictures")
    _check_names(masks, "masks")
    by_stem = {file.stem: mask.mean(0) for file, mask in zip(masks.files, masks.pictures, strict=True)}
    found = []
    for file, name in zip(pictures.files, pictures.names, strict=True):
        mask = by_stem.get(file.stem)
        if mask is None:
            raise ValueError(f"There is no mask of {name} in {folder}; call it {file.stem}.png, white on the thing.")
        found.append(mask)
    return found, masks.warnings


def _masked(name: str, picture: Tensor, mask: Tensor) -> Tensor:
    try:
        return foreground(picture, mask)
    except ValueError as error:
        raise ValueError(f"The mask of {name} cannot be used: {error}") from error


def _check_names(pictures: PictureFiles, what: str) -> None:
    first: dict[str, str] = {}
    for file, name in zip(pictures.files, pictures.names, strict=True):
        if file.stem in first:
            raise ValueError(
                f"The {what} {first[file.stem]} and {name} are both called {file.stem}, which is how masks are found; "
                "rename one."
            )
        first[file.stem] = name
