"""Which learned words stand in a prompt, for any CLIP; and the prompt as conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from torch import Tensor

from ....ti_engine import TokenEmbedding
from ....ti_engine.files import EmbeddingFile, read_embedding_file
from ....ti_engine.files.formats.encoders import may_be_guessed
from ....ti_engine.training.advice import placeholder_warnings
from ....ti_engine.word.families import FAMILIES, describe_widths, family_of
from ....ti_engine.word.placeholder import where_else
from ..models.encoders import encoder_keys, text_encoders
from ..models.vocabulary import Vocabulary
from .broken_prompt import why_broken
from .core_words import core_word_lines, core_words, unread_name_lines
from .folders import embedding_path
from .named_files import file_placeholder, name_files
from .prompt import LookUp, contains, tokenize
from .reading import places_of
from .reading_report import check_read, cut_core_lines, placing_lines, unread_lines


def encode_prompt(clip: Any, text: str, embeddings: Sequence[TokenEmbedding]) -> tuple[Any, str]:
    """The host's CONDITIONING of `text` with learned words, and a report of where they stand.

    A word is every embedding's placeholder, and `<name>` of a file in the embeddings folders (see `name_files`).
    Raises ValueError for an embedding that is not used in the text or does not fit the CLIP, and for a file that is not
    there or holds no word, and where the host makes NaN of the prompt.
    """
    check_clip(clip)
    words = {e.placeholder: vectors_for(clip, e) for e in embeddings}
    if len(words) < len(embeddings):
        twice = next(e.placeholder for e in embeddings if sum(o.placeholder == e.placeholder for o in embeddings) > 1)
        raise ValueError(
            f"Two embeddings have the placeholder {twice}; give one another name when you train or load it."
        )
    for placeholder in words:
        if not contains(text, placeholder):
            raise ValueError(
                f"The text does not contain {placeholder}, so its embedding would do nothing. Write {placeholder} "
                f'where you want it, for example "a photo of {placeholder}", or disconnect it.'
                f"{where_else(text, placeholder)}"
            )
    text, files = name_files(text, list(words), lambda tag: _is_token(clip, tag))
    named, warnings = _read_named(clip, files)
    words |= {e.placeholder: vectors_for(clip, e) for e in named}
    look_ups: list[LookUp] = []
    tokens = tokenize(clip, text, words, look_ups=look_ups)
    core = core_words(clip, look_ups, tokens)
    check_read(text, tokens, words)
    lines = [_applied(p, vectors, tokens) for p, vectors in words.items()]
    lines += [line for e in (*embeddings, *named) for line in _not_as_it_says(e, words[e.placeholder])]
    lines += placing_lines(clip, text, tokens, words)
    lines += [*core_word_lines(clip, core), *cut_core_lines(tokens, core), *unread_name_lines(text, words, core)]
    for embedding in embeddings:
        notes = placeholder_warnings(embedding.placeholder, lambda word: _num_tokens(clip, word))
        warnings += [f"Warning: {warning}" for warning in notes]
    conditioning = clip.encode_from_tokens_scheduled(tokens)
    if not all(bool(cond.isfinite().all()) for cond, _ in conditioning):
        named_core = {f"embedding:{name}": vectors for name, vectors in core.items()}
        raise ValueError(why_broken(clip, words | named_core, tokens))
    warnings += unread_lines(clip, text, tokens, words)
    return conditioning, "\n".join([*lines, *warnings]) or "No embedding connected: as CLIP Text Encode."


def check_clip(clip: Any) -> None:
    """Raises ValueError where the loader found no text encoder in its file."""
    if clip is None:
        raise ValueError("The loader gave no CLIP; the file may not contain one. Load it with a node of its own.")


def vectors_for(clip: Any, embedding: TokenEmbedding) -> dict[str, Tensor]:
    """Encoder key of `clip` -> the embedding's rows for it. ValueError if one is missing or has another width.

    Files do not always say which encoder they mean: rows whose key is a guess from their width go to the one encoder
    that has none and is of that width. ValueError also for rows that are left over, which make it a word for another
    family; except those of an encoder that this kind of CLIP has and that was not loaded, and SDXL's first, which its
    refiner lacks.
    """
    encoders = _widths(clip)
    names = {key: key for key in encoders if key in embedding.vectors}
    for key, width in encoders.items():
        spare = [
            name
            for name, rows in embedding.vectors.items()
            if name not in encoders and rows.shape[1] == width and may_be_guessed(name, width)
        ]
        if key not in names and len(spare) == 1:
            names[key] = spare[0]
    vectors = {key: embedding.vectors[name] for key, name in names.items()}
    left = set(embedding.vectors) - set(names.values()) - encoder_keys(clip)
    refined = set(encoders) == {"clip_g"} and family_of(embedding) == "sdxl"
    fits = all(key in vectors and vectors[key].shape[1] == width for key, width in encoders.items())
    if not encoders or not fits or (left and not refined):
        raise ValueError(
            f"The embedding {embedding.placeholder} does not fit this CLIP: it holds "
            f"{_of_family({key: rows.shape[1] for key, rows in embedding.vectors.items()})}, the CLIP takes "
            f"{_of_family(encoders) if encoders else 'no embedding at all'}; "
            "use it with the kind of model that it was trained on, or train it on this one."
        )
    return {key: vectors[key].detach().clone() for key in encoders}


def fitted(clip: Any, word: TokenEmbedding) -> TokenEmbedding:
    """The whole `word` under the CLIP's own encoder keys. ValueError where a part of it does not fit."""
    vectors = vectors_for(clip, word)
    if len(vectors) < len(word.vectors):
        holds, takes = ({key: rows.shape[1] for key, rows in v.items()} for v in (word.vectors, vectors))
        raise ValueError(
            f"{word.placeholder} holds {describe_widths(holds)}, and this CLIP has {describe_widths(takes)} alone; "
            "connect the CLIP of the model that the word was trained on."
        )
    return replace(word, vectors=vectors)


def _read_named(clip: Any, files: Sequence[str]) -> tuple[list[TokenEmbedding], list[str]]:
    """The word in each of `files`, with the placeholder that stands in the text, and warnings about the files."""
    words, warnings = [], []
    for name in files:
        file = _read_for(clip, name)
        if len(file.words) > 1:
            names = ", ".join(stored.embedding.placeholder for stored in file.words)
            raise ValueError(
                f"{name} holds {len(file.words)} words ({names}); choose one in Load Embedding and connect it here."
            )
        words.append(replace(file.words[0].embedding, placeholder=file_placeholder(name)))
        warnings += [f"Warning: {name}: {warning}" for warning in file.warnings]
    return words, warnings


def _read_for(clip: Any, name: str) -> EmbeddingFile:
    """A file read as this CLIP's, and where it is not, as what it most likely is: `vectors_for` says what is wrong."""
    path = embedding_path(name)
    try:
        return read_embedding_file(path, {width: key for key, width in _widths(clip).items()})
    except ValueError:
        return read_embedding_file(path)


def _widths(clip: Any) -> dict[str, int]:
    return {key: encoder.width for key, encoder in text_encoders(clip).items()}


def _of_family(widths: Mapping[str, int]) -> str:
    """ "clip_l of width 768 (SD1)" """
    title = next((family.title for family in FAMILIES.values() if family.widths == widths), None)
    return f"{describe_widths(widths)} ({title})" if title else describe_widths(widths)


def _is_token(clip: Any, tag: str) -> bool:
    """Whether `tag`, such as <start_of_turn>, is a token of its own in one of the model's vocabularies."""
    return any(tag in encoder.tokenizer.inv_vocab.values() for encoder in text_encoders(clip).values())


def _num_tokens(clip: Any, word: str) -> int:
    return max(len(Vocabulary(encoder).token_ids(word)) for encoder in text_encoders(clip).values())


def _not_as_it_says(embedding: TokenEmbedding, used: Mapping[str, Tensor]) -> list[str]:
    """Sentences for vectors that are used for another encoder than their key says, or not at all."""
    other = {key: rows for key, rows in embedding.vectors.items() if key not in used}
    lines = []
    for key, rows in other.items():
        user = next((k for k in used if k not in embedding.vectors and used[k].shape == rows.shape), None)
        does = f"used for {user}, which has the same width" if user else "not used: no such encoder is loaded"
        lines.append(f"{embedding.placeholder}: its vectors for {key} are {does}.")
    return lines


def _applied(placeholder: str, vectors: Mapping[str, Tensor], tokens: Any) -> str:
    count = max(len(rows) for rows in vectors.values())
    norm = next(iter(vectors.values())).float().norm(dim=1).mean()
    key, chunks = next(iter(tokens.items()))
    *begins, length = accumulate(map(len, chunks), initial=0)
    found = [place for rows in vectors.values() for place in places_of(tokens, rows) if place.key == key]
    places = sorted({begins[place.chunk] + place.index for place in found})
    plural = "vector" if count == 1 else "vectors"
    where = ", ".join(_ranges(places))
    return f"{placeholder}: {count} {plural} at position {where} of {length}, mean length {norm:.3g}."


def _ranges(places: Sequence[int]) -> list[str]:
    """[5, 6, 7, 20] as ["5-7", "20"]."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
