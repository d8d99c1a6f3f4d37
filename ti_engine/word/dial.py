"""A learned word turned back towards its class word: one number from 0, the class word, to 1, what was learned.

Near the class word a prompt's other words are usually followed better, near the learned vectors the likeness is usually
better (the trade-off of Gal et al. 2022, section 5.2). Nothing is trained, and the two ends are given back to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .arithmetic import is_opposite, slerp
from .embedding import TokenEmbedding
from .families import and_list, describe_widths
from .merging import made_of
from .spread import Vocabulary, spread_vectors, unused_tokens, without_punctuation
from .token_text import without_foreign_punctuation

PATHS = {
    "direction": "turns the class word into the learned one on the shortest way, and changes the length evenly",
    "trajectory": "goes back through the states that the run had while it learned",
}


@dataclass(frozen=True)
class Dialled:
    """The word at a position of the dial.

    start, learned: the words at 0 and at 1. path: a key of PATHS. class_word: what the thing is; empty where it is
    not known. noun: that the word was trained with behind it. place: the share of the path at which the position lies.
    looked_at: how many losses between the two ends the position was calibrated by; 0 where it is the place itself.
    why_not: why it is not calibrated, to follow "because". left_out: the tokens of the class word that
    found no vector; empty where all are used.
    """

    word: TokenEmbedding
    start: TokenEmbedding
    learned: TokenEmbedding
    path: str
    position: float
    class_word: str
    place: float
    looked_at: int = 0
    why_not: str = "no losses are known along the direction"
    left_out: str = ""
    noun: str = ""

    @property
    def turned(self) -> dict[str, tuple[float, float]]:
        """Encoder key -> degrees from the start to the word, and to what was learned; means over the vectors."""
        return {
            key: (mean_angle(rows, self.word.vectors[key]), mean_angle(rows, self.learned.vectors[key]))
            for key, rows in self.start.vectors.items()
        }

    @property
    def lengths(self) -> dict[str, tuple[float, float, float]]:
        """Encoder key -> mean length of the vectors at 0, of the word, and at 1."""
        return {
            key: (_length(self.start, key), _length(self.word, key), _length(self.learned, key))
            for key in self.start.vectors
        }

    @property
    def prompts(self) -> list[str]:
        """How a prompt calls the word: alone, and with the class noun behind it where that is known. A word that was
        trained with a noun has it always."""
        name = self.word.placeholder
        if self.noun:
            return [f"{name} {self.noun}"]
        return [name, f"{name} {self.class_word}"] if self.class_word else [name]

    @property
    def made_of(self) -> str:
        """Where the word comes from, for its file; empty where it is what was learned."""
        if self.position == 1:
            return ""
        start = self.class_word if self.path == "direction" else "the start of its run"
        return made_of([start, self.learned.placeholder], [1 - self.position, self.position])


def along_direction(
    learned: TokenEmbedding, class_word: str, position: float, vocabulary: Vocabulary | None, noun: str = ""
) -> Dialled:
    """`learned` at a position on the way from `class_word`, vector by vector and for each text encoder by itself.

    The direction moves along the great circle and the length evenly, by the same share: the form of Bui et al. 2025
    (arXiv 2506.22685) with rho = alpha = 1 - position. vocabulary: of the model that the word is for.
    noun: that the word was trained with behind it, for prompts only.
    Raises ValueError with a sentence for a class word that is missing or unknown, for another model's word, and for
    vectors without one way between them.
    """
    check_position(position)
    class_word = " ".join(class_word.split())
    if not class_word:
        raise ValueError(
            f"{learned.placeholder} does not say which word it was learned from; give the class word to turn it "
            "towards, such as cat."
        )
    if vocabulary is None:
        raise ValueError(
            f"To look up {class_word!r} needs the words of a model; connect its CLIP, or name it with --model."
        )
    start, left_out = class_vectors(vocabulary, class_word, learned)
    _check_way(start, learned)
    ends = {0.0: start, 1.0: learned}
    vectors = ends[position].copy().vectors if position in ends else slerp(start, learned, position).vectors
    word = TokenEmbedding(vectors, learned.placeholder)
    return Dialled(word, start, learned, "direction", position, class_word, position, left_out=left_out, noun=noun)


def class_vectors(vocabulary: Vocabulary, class_word: str, like: TokenEmbedding) -> tuple[TokenEmbedding, str]:
    """`class_word` with as many vectors as `like` has in each of its encoders, where training would start, and the
    tokens for which there is no vector, for a sentence. Raises ValueError as `along_direction`."""
    words = without_foreign_punctuation(class_word).strip()
    known = vocabulary.word_vectors(words) if words else {}
    texts = vocabulary.word_tokens(words) if words else {}
    tokens = without_punctuation(texts)
    if not tokens or not all(tokens.values()):
        raise ValueError(f"{class_word!r} holds no word; give the class word, such as cat.")
    if any(key not in known or rows.shape[1] != known[key].shape[1] for key, rows in like.vectors.items()):
        holds, takes = ({key: rows.shape[1] for key, rows in v.items()} for v in (like.vectors, known))
        raise ValueError(
            f"{like.placeholder} holds {describe_widths(holds)}, and the model has {describe_widths(takes)}; take the "
            "model that the word was learned on."
        )
    counts = {key: len(rows) for key, rows in like.vectors.items()}
    left_out = unused_tokens({key: tokens[key] for key in counts}, counts)
    return TokenEmbedding(spread_vectors(known, texts, counts), class_word), left_out


@dataclass(frozen=True)
class Path:
    """States that follow one another, with the share of the way at which each stands.

    states: encoder key -> vectors, at least two. places: as many numbers, from 0 to 1 and rising.
    """

    states: Sequence[Mapping[str, Tensor]]
    places: Sequence[float]

    def at(self, place: float) -> dict[str, Tensor]:
        """The vectors at a share of the way: a state, to the bit, or between the two states around it."""
        number = next(n for n, other in enumerate(self.places) if other >= place)
        if self.places[number] == place:
            return {key: rows.clone() for key, rows in self.states[number].items()}
        low, high = self.places[number - 1], self.places[number]
        before, after = (TokenEmbedding(dict(self.states[n])) for n in (number - 1, number))
        return slerp(before, after, (place - low) / (high - low)).vectors


def path_through(states: Sequence[Mapping[str, Tensor]]) -> tuple[Path, list[int]]:
    """The path through `states` at an even pace, and the indices of those that are on it: a state that equals the one
    before it is left out. The distance of two states is that of all their numbers together.
    Raises ValueError where all are the same."""
    kept, lengths = [0], [0.0]
    for number in range(1, len(states)):
        distance = _distance(states[kept[-1]], states[number])
        if distance > 0:
            kept.append(number)
            lengths.append(lengths[-1] + distance)
    if len(kept) < 2:
        raise ValueError("The word is still where its training began, so there is no way from one to the other.")
    return Path([states[number] for number in kept], [length / lengths[-1] for length in lengths]), kept


def rising_knots(measured: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of `measured`, (place, share of the loss's fall) by place, that a dial can go by: each between 0 and 1, and
    with a larger share than all before it. This takes out noise."""
    rising = [(0.0, 0.0)]
    for place, share in measured:
        if rising[-1][0] < place < 1 and rising[-1][1] < share < 1:
            rising.append((place, share))
    return rising[1:]


def calibrated_place(position: float, knots: Sequence[tuple[float, float]]) -> float:
    """The place on a path at which a share `position` of the loss's fall is reached.

    knots: as from `rising_knots`; what lies between two of them is even. Without knots the place is the position.
    """
    if position in (0, 1):
        return position
    ends = [(0.0, 0.0), *knots, (1.0, 1.0)]
    (low, before), (high, after) = next(pair for pair in pairwise(ends) if position <= pair[1][1])
    return low + (high - low) * (position - before) / (after - before)


def check_position(position: float) -> None:
    """Raises ValueError for a position outside of the dial."""
    if not 0 <= position <= 1:
        raise ValueError(f"The position must be from 0 (the class word) to 1 (what was learned), got {position}.")


def mean_angle(first: Tensor, second: Tensor) -> float:
    """Degrees between the rows of two tensors [n, width], the mean of the n."""
    cosines = torch.cosine_similarity(first.double(), second.double(), dim=1).clamp(-1, 1)
    return math.degrees(float(cosines.acos().mean()))


def dial_lines(dialled: Dialled) -> list[str]:
    """What was moved how far, what the position means, and what to write in a prompt; one fact a line."""
    start = f'"{dialled.class_word}"' if dialled.path == "direction" else "the start of its run"
    lines = [
        f"{dialled.word.placeholder}: position {dialled.position:g} from {start} (0) to what was learned (1), along "
        f"the {dialled.path}."
    ]
    if dialled.left_out:
        lines.append(f"{start} has more tokens than the word has vectors; left out: {dialled.left_out}.")
    for key, (turned, whole) in dialled.turned.items():
        first, now, last = dialled.lengths[key]
        lines.append(
            f"{key}: {turned:.1f} of {whole:.1f} degrees from the start; length {now:.3g} (start {first:.3g}, learned "
            f"{last:.3g})."
        )
    if dialled.looked_at:
        lines.append(
            f"Calibrated: {dialled.position:.0%} of the fall of the loss on the run's fixed set, by "
            f"{dialled.looked_at} loss{'es' * (dialled.looked_at > 1)} on the way. That is {dialled.place:.0%} of the "
            "way that the vectors went."
        )
    else:
        way = "the angle" if dialled.path == "direction" else "the way that the vectors went"
        lines.append(
            f"Not calibrated: {dialled.position:.0%} is a share of {way}, not of the fall of the loss, because "
            f"{dialled.why_not}."
        )
    lines.append(_prompt_line(dialled))
    return lines


def _prompt_line(dialled: Dialled) -> str:
    name, *with_noun = dialled.prompts
    if dialled.noun:
        return f'In a prompt write "{name}": the word was trained with this noun behind it.'
    return (
        f'In a prompt write "{with_noun[0]}" where it stands beside other objects, and "{name}" elsewhere.'
        if with_noun
        else f'In a prompt write "{name}", and where it stands beside other objects the class noun behind it.'
    )


def _check_way(start: TokenEmbedding, learned: TokenEmbedding) -> None:
    for key, rows in learned.vectors.items():
        for name, vectors in ((start.placeholder, start.vectors[key]), (learned.placeholder, rows)):
            if empty := [str(n) for n, row in enumerate(vectors, 1) if not bool(row.any())]:
                raise ValueError(f"{name}: vector {and_list(empty)} of {key} is zero and has no direction to turn.")
        away = [str(n) for n, pair in enumerate(zip(start.vectors[key], rows, strict=True), 1) if is_opposite(*pair)]
        if away:
            raise ValueError(
                f"Vector {and_list(away)} of {key} points exactly away from {start.placeholder!r}, so no way between "
                "them is the one; give another class word."
            )


def _distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((first[key].double() - rows.double()).square().sum()) for key, rows in second.items()))


def _length(word: TokenEmbedding, key: str) -> float:
    return float(word.vectors[key].double().norm(dim=1).mean())
