"""Reading the words in a file, whoever wrote it. Nothing in a file is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..word.embedding import TokenEmbedding
from ..word.placeholder import composed
from .containers.container import read_container
from .formats.contents import MOST_PLAIN, quoted
from .formats.encoders import ENCODER_KEYS, assign_encoders, known_width
from .formats.lookalikes import printable_name
from .formats.pair import with_partner
from .formats.table import Found, FoundWord, find_words, may_be_word
from .refused import Refused

MAX_VECTORS = 512  # what the longest text encoder takes at once; more are a token table
_MAX_NUMBERS = 4 << 20  # in all words of a file: 16 MB once they are float32, and three times that while checked
_MAX_WORDS = 2_000
MOST_LISTED = 50  # words named in a sentence


@dataclass(frozen=True, eq=False)
class StoredWord:
    """A word out of a file.

    embedding: in float32; its placeholder is `name`, or the file's name without the ending where there is none.
    name: the trigger as the file says it, verbatim. None where it says none: A1111, whose prompts call a word by the
        file's name, and files that hold vectors only.
    precisions: encoder key -> the number format in the file, such as "float16".
    """

    embedding: TokenEmbedding
    name: str | None
    precisions: dict[str, str]


@dataclass(frozen=True, eq=False)
class EmbeddingFile:
    """All words of a file, and how sure that is. file: its name without folders. format: "safetensors: diffusers"."""

    file: str
    format: str
    words: list[StoredWord]
    warnings: list[str]


def load_embedding(
    path: str | Path, encoder_for_width: Mapping[int, str] | None = None, word: str | None = None
) -> TokenEmbedding:
    """The word in a file of any known format, in float32, with all that the file says of it as metadata.

    word: which, if the file holds several. Everything else and all errors: see `read_embedding_file`. ValueError also
    for several words where none is named, and for one that is not in the file.
    """
    file = read_embedding_file(path, encoder_for_width)
    words = [stored.embedding for stored in file.words]
    names = quoted([embedding.placeholder for embedding in words], MOST_LISTED)
    if word is None and len(words) > 1:
        raise ValueError(f"{printable_name(path)} holds {len(words)} words ({names}); say which.")
    for embedding in words:
        if word is None or composed(word) == embedding.placeholder:
            return embedding
    raise ValueError(f"{printable_name(path)} holds no word {word}; it holds {names}.")


def read_embedding_file(
    path: str | Path, encoder_for_width: Mapping[int, str] | None = None, partner: str | Path | None = None
) -> EmbeddingFile:
    """Every word in a file, found by its content whatever its name ends in.

    encoder_for_width: the text encoders of the model that the words are for, width -> key; a word must have vectors
        for each. Without it any word is taken, and where the file does not say which encoder it is for, the most
        common one of its width is shown with a warning.
    partner: the file with the same word's vectors for the second text encoder. diffusers writes two for SDXL; one that
        lies beside `path` under diffusers' own name is found without being named.
    Raises ValueError (one sentence that begins with the file's name) for everything that holds no word, that does not
    fit the model, or that would do harm; FileNotFoundError and OSError for what cannot be read.
    """
    path = Path(path)
    found, kind = _found(path)
    try:
        if len(found.words) > _MAX_WORDS:
            raise Refused(f"holds {len(found.words):,} words, and at most {_MAX_WORDS:,} are read; take it apart")
        found = with_partner(path, found, None if partner is None else Path(partner), lambda other: _found(other)[0])
        words, warnings, numbers = [], found.warnings, 0
        for word in found.words:
            for key, tensor in word.tensors.items():
                _check_shape(tensor, key, encoder_for_width or {})
                numbers += tensor.numel()
            if numbers > _MAX_NUMBERS:  # before they are widened
                raise Refused(f"holds words of more than {_MAX_NUMBERS:,} numbers in all; take it apart")
            stored, doubts = _stored(word, found, encoder_for_width, path.stem)
            words.append(stored)
            warnings = warnings + [doubt for doubt in doubts if doubt not in warnings]
    except Refused as refused:
        raise ValueError(f"{printable_name(path)} {refused}.") from refused
    return EmbeddingFile(path.name, f"{kind}: {found.format}", words, warnings)


def _found(path: Path) -> tuple[Found, str]:
    """The words in a file, still as it has them, and the kind of its container."""
    container = read_container(path, may_be_word)
    try:
        found = find_words(container)
    except Refused as refused:
        raise ValueError(f"{printable_name(path)} {refused}.") from refused
    return replace(found, warnings=[*container.warnings, *found.warnings]), container.kind


def _stored(
    word: FoundWord, found: Found, encoder_for_width: Mapping[int, str] | None, stem: str
) -> tuple[StoredWord, list[str]]:
    """One word, checked, and the doubts about its encoders."""
    rows = {key: _checked(tensor, key) for key, tensor in word.tensors.items()}
    widths = {key: tensor.shape[1] for key, tensor in rows.items()}
    encoders, doubts = assign_encoders(widths, encoder_for_width, found.metadata)
    order = sorted(encoders, key=lambda key: (*ENCODER_KEYS, encoders[key]).index(encoders[key]))
    name = word.name
    if name is None and len(found.words) == 1:
        name = found.metadata.get("modelspec.trigger_phrase") or None
    embedding = TokenEmbedding({encoders[key]: rows[key] for key in order}, name or stem, dict(found.metadata))
    precisions = {encoders[key]: str(word.tensors[key].dtype).removeprefix("torch.") for key in order}
    return StoredWord(embedding, name, precisions), doubts


def _check_shape(tensor: Tensor, key: str, known: Mapping[int, str]) -> None:
    """Raises Refused for a tensor that cannot be the vectors of a word, whatever its numbers are."""
    shape, where = list(tensor.shape), f" in {quoted([key])}" if key else ""
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise Refused(f"holds {kind} and not floating point numbers{where}, so it is no embedding")
    if tensor.ndim not in (1, 2):
        raise Refused(f"holds a tensor that has shape {shape}{where}; those of embeddings are [vectors, width]")
    if 0 in shape:
        raise Refused(f"holds no vector{where}, which has shape {shape}")
    most = MAX_VECTORS if known_width(shape[-1]) or shape[-1] in known else MOST_PLAIN
    if (count := tensor.numel() // shape[-1]) > most:
        raise Refused(f"holds {count:,} vectors of width {shape[-1]}{where}, a weight or a picture and no word")
    if tensor.is_meta:
        raise Refused(f"is too large for its word{where} to be read")


def _checked(tensor: Tensor, key: str) -> Tensor:
    """The vectors in `tensor` as float32 [num_vectors, width]; a single one may lack the first axis.

    Raises Refused for numbers that are no word.
    """
    rows, where = tensor.reshape(-1, tensor.shape[-1]), f" in {quoted([key])}" if key else ""
    stored, rows = rows, rows.to(torch.float32)
    if not bool(rows.isfinite().all()):
        if stored.dtype == torch.float64 and bool(stored.isfinite().all()):
            raise Refused(f"holds numbers beyond float32{where}, and no text encoder takes them")
        raise Refused(f"holds NaN or infinity{where}, so it is broken")
    zeros = (~rows.any(dim=1)).nonzero().flatten().tolist()
    if zeros:
        which = "only zeros" if len(zeros) == len(rows) else f"only zeros as vector {zeros[0] + 1} of {len(rows)}"
        raise Refused(f"holds {which}{where}, which is no word: nothing was learned, or the vectors were padded")
    return rows
