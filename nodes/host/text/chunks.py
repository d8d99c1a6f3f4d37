"""Words that stand whole in one chunk of a long text.

CLIP reads 75 tokens at once, so the host cuts a longer text into chunks. An embedding that does not fit behind what is
in a chunk already goes into the next one, but only if it has up to 7 vectors: a longer one is cut in two, and neither
chunk reads the whole word. The first web UI moved every embedding. So do we, for learned words alone: text is cut where
the host cuts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from comfy.sd1_clip import SDTokenizer

Token = tuple[Any, float, int]
"""A number or a vector, its weight, and the number of the piece of the text that it belongs to: an embedding, or what
stands between two of them; 0 for tokens that the host adds."""


def keep_words_whole(
    chunks: list[list[Token]], tokenizer: SDTokenizer, is_word: Callable[[Any], bool]
) -> list[list[Token]]:
    """`chunks` as the host made them; where it has cut a word that one chunk holds, placed anew with that word whole.

    tokenizer: whose chunks they are. Those of one that does not fill them up to `max_length` stay as they are, because
    the host's networks take no chunks of different lengths. is_word: whether a token is a vector of a learned word.
    """
    pieces = [list(piece) for _, piece in groupby(_own(chunks), key=_number)]
    in_chunks = Counter(number for chunk in chunks for number in set(map(_number, chunk)))
    capacity = tokenizer.max_length - sum(t is not None for t in (tokenizer.start_token, tokenizer.end_token))

    def is_whole_word(piece: Sequence[Token]) -> bool:
        return is_word(piece[0][0]) and len(piece) <= capacity

    cut = any(is_whole_word(piece) and in_chunks[_number(piece[0])] > 1 for piece in pieces)
    if not cut or not tokenizer.pad_to_max_length:
        return chunks
    placed: list[list[Token]] = [[]]
    for piece in pieces:
        stays_whole = len(piece) < tokenizer.max_word_length or is_whole_word(piece)
        rest = piece
        while rest:
            room = capacity - len(placed[-1])
            count = 0 if stays_whole and len(rest) > room else room
            placed[-1] += rest[:count]
            rest = rest[count:]
            if rest:
                placed.append([])
    return [_filled(chunk, tokenizer) for chunk in placed]


def _number(token: Token) -> int:
    return token[2]


def _own(chunks: Sequence[Sequence[Token]]) -> list[Token]:
    """The tokens of the text itself, in its order."""
    return [token for chunk in chunks for token in chunk if _number(token)]


def _filled(chunk: Sequence[Token], tokenizer: SDTokenizer) -> list[Token]:
    start, end = ([] if t is None else [(t, 1.0, 0)] for t in (tokenizer.start_token, tokenizer.end_token))
    tokens = [*start, *chunk, *end]
    return tokens + [(tokenizer.pad_token, 1.0, 0)] * (tokenizer.max_length - len(tokens))
