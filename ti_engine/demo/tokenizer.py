"""The demo model's tokenizer: one token a word, with the interface that both transformers and ComfyUI call."""

from __future__ import annotations

import functools
import random
import re

from ..data.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES
from .world import BACKGROUNDS, COLOURS, SHAPES, STYLES, TEXTURES

START, END, UNKNOWN = "<start>", "<end>", "<unknown>"
MAX_LENGTH = 32  # tokens of one chunk, start and end included
NUM_NOUNS = 4096  # invented nouns, each the name of one particular object (corpus.py)
BIASED_NOUN = "berry"  # a noun whose objects are nearly always red
SYNONYMS = dict(
    circle="disc", square="box", triangle="wedge", star="asterisk", ring="donut", cross="plus", heart="valentine",
    diamond="rhombus", red="crimson", orange="amber", yellow="golden", green="emerald", cyan="turquoise", blue="navy",
    purple="violet", pink="rose", plain="solid", striped="banded", dotted="spotted", checkered="chequered",
    white="snow", gray="concrete", black="night", sky="cloud", grass="meadow", sand="beach",
)  # fmt: skip
_TOKEN = re.compile(r"[a-z0-9\-*]+|[^\sa-z0-9]")


@functools.cache
def invented_nouns() -> tuple[str, ...]:
    """NUM_NOUNS pronounceable words that are no words: 'dafip', 'kozor', ..."""
    rng = random.Random(7)
    nouns: dict[str, None] = {}
    while len(nouns) < NUM_NOUNS:
        syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)]
        nouns["".join(syllables) + rng.choice("bdfgklmnprstvz")] = None
    return tuple(nouns)


def _vocabulary() -> list[str]:
    words = [START, END, UNKNOWN, ",", "."]
    for template in (*OBJECT_TEMPLATES, *STYLE_TEMPLATES):
        words += template.replace("{}", " ").lower().split()
    words += [
        "a",
        "an",
        "the",
        "on",
        "in",
        "of",
        "and",
        "with",
        "left",
        "above",
        "background",
        "style",
        "one",
        "object",
    ]
    words += [*SHAPES, *COLOURS, *TEXTURES, *BACKGROUNDS, *STYLES, *SYNONYMS.values(), BIASED_NOUN, *invented_nouns()]
    return list(dict.fromkeys(words))


VOCABULARY = _vocabulary()


class DemoTokenizer:
    """Words to ids. An unknown word becomes one `<unknown>` token; capitals do not matter."""

    model_max_length = MAX_LENGTH
    unk_token = UNKNOWN

    def __init__(self) -> None:
        self._ids = {word: index for index, word in enumerate(VOCABULARY)}
        self.unk_token_id = self._ids[self.unk_token]

    @classmethod
    def from_pretrained(cls, path: object = None, **kwargs: object) -> DemoTokenizer:
        """The host constructs tokenizers by this call; there is only one vocabulary, so the arguments mean nothing."""
        return cls()

    def __call__(self, text: str) -> dict[str, list[int]]:
        """`text` as ids between the start and the end token, neither padded nor cut."""
        words = _TOKEN.findall(text.lower())
        ids = (self._ids.get(word, self.unk_token_id) for word in words)
        return {"input_ids": [self._ids[START], *ids, self._ids[END]]}

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)
