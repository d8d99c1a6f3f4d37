"""What a placeholder may be, and where it stands in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

DEFAULT_PLACEHOLDER = "S*"
MAX_LENGTH = 64  # characters
_OF_PROMPTS = ',:()[]{}<>\\"|'  # characters that prompts use for other things

# Names of other syntaxes, which are whole: ComfyUI's embedding:NAME, and <NAME> with all its relatives (<lora:x:1>).
TAG = r"<(?=[^<>\n]*\w)[^<>\n\s|/=](?:[^<>\n]{0,253}[^<>\n\s|/=])?>"
_OTHER_NAME = re.compile(rf"(?<!\w)embedding:[^\s()<\[]+|{TAG}")
# What may follow the name of an embedding where it ends: a weight, the end of a sentence or of a bracket.
_NAME_ENDS = r"(?:\:(?:nan|inf|[-+.\de]*))?[,.;!?]*(?:[\s()\[\]{}<>|\"]|$)"

# Letters of scripts that put no spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese,
# Japanese, Chinese, Yi, Tangut and their relatives.
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1bbf\u2e80-\u312f\u3190-\u31ff\u3400-\u4dbf"
    "\u4e00-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00016fe0-\U00018cff\U0001aff0-\U0001b2ff"
    "\U00020000-\U0003ffff]"
)
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")


def check_placeholder(placeholder: str) -> None:
    """Raises ValueError for a text that no prompt can contain as a word: what is wrong, and what is allowed."""
    if not placeholder.strip():
        raise ValueError("placeholder is empty; give the word a name such as S*.")
    if len(placeholder) > MAX_LENGTH:
        raise ValueError(f"placeholder has {len(placeholder):,} characters, and {MAX_LENGTH} are allowed; shorten it.")
    bad = sorted(c for c in set(placeholder) if _is_bad(c))
    if bad or placeholder != placeholder.strip():
        offending = " ".join(map(repr, bad)) if bad else "a space at its ends"
        raise ValueError(
            f"placeholder {placeholder!r} must not contain {offending} because prompts use that for other things; "
            "use letters, digits, - _ and * only, such as S*."
        )


def check_class_noun(noun: str, placeholder: str) -> None:
    """Raises ValueError for a class noun that is more than words, or that holds the placeholder. It may be empty."""
    if any(_is_bad(c) for c in noun if c != " "):
        raise ValueError(f"class_noun must be plain words, such as heart; got {noun!r}.")
    if places_of(noun, placeholder):
        raise ValueError(f"class_noun {noun!r} holds the word {placeholder!r} itself; give the noun alone.")


def usable_placeholder(name: str) -> str:
    """`name`, which a file gives its word, as near to it as prompts can contain; empty where nothing of it can stay.

    `<cat>`, as diffusers and others call words, stays as it is.
    """
    try:
        check_placeholder(name[1:-1] if name[:1] == "<" and name[-1:] == ">" else name)
    except ValueError:
        parts = "".join(" " if _is_bad(c) else c for c in name).split()
        return "-".join(parts)[:MAX_LENGTH].strip("-")
    return name


def composed(name: str) -> str:
    """`name` in Unicode's normal form C, in which two spellings of the same letters are equal."""
    return unicodedata.normalize("NFC", name)


def split_at_placeholder(text: str, placeholder: str) -> list[str]:
    """The parts of `text` before, between and after the placeholders: one more than there are placeholders.

    Only whole occurrences count: S* stands in "S*, a cat" and "(S*)'s hat" but neither in "US*" nor in "S*2" or "S**".
    A placeholder in angle brackets is whole wherever it stands, and letters of scripts without spaces part words. What
    belongs to a name of another syntax (`embedding:cat-2`, `<cat-2>`, `<lora:cat:1>`) is no occurrence; but
    `embedding:S*` alone is S*. Composed and decomposed letters (normal forms C and D) are the same.
    """
    parts, begin = [], 0
    for start, end in places_of(text, placeholder):
        parts.append(text[begin:start])
        begin = end
    return [*parts, text[begin:]]


def split_at_placeholders(text: str, placeholders: Iterable[str]) -> list[tuple[str, bool]]:
    """`text` cut into (part, whether it is one of the placeholders), empty parts left out.

    The longest placeholder is looked for first, so that one that holds another is found as a whole.
    """
    parts = [(text, False)]
    for placeholder in sorted(placeholders, key=len, reverse=True):
        cut: list[tuple[str, bool]] = []
        for part, is_word in parts:
            pieces = [part] if is_word else split_at_placeholder(part, placeholder)
            for number, piece in enumerate(pieces):
                cut += [(placeholder, True)] if number else []
                cut.append((piece, is_word))
        parts = cut
    return [(part, is_word) for part, is_word in parts if part]


def places_of(text: str, placeholder: str) -> list[tuple[int, int]]:
    """Where the placeholder stands in `text`, as `split_at_placeholder` finds it: begin and end of each occurrence."""
    # In normal form D each character stands for itself, whatever was written behind it.
    pieces = [unicodedata.normalize("NFD", character) for character in text]
    origins = [place for place, piece in enumerate(pieces) for _ in piece] + [len(text)]
    word = unicodedata.normalize("NFD", placeholder)
    return [(origins[start], origins[end]) for start, end in _occurrences("".join(pieces), word)]


def with_placeholder(before: str, placeholder: str, after: str) -> str:
    """A text in which the placeholder is a word between `before` and `after`: with spaces where it would touch letters,
    or belong to a name of another syntax."""
    there = len(places_of(before, placeholder)) + len(places_of(after, placeholder))
    for left, right in (("", ""), ("", " "), (" ", "")):
        text = f"{before}{left}{placeholder}{right}{after}"
        if len(places_of(text, placeholder)) > there:
            return text
    return f"{before} {placeholder} {after}"


def where_else(text: str, placeholder: str) -> str:
    """A sentence, with a space in front, if `placeholder` stands in names of other syntaxes in `text`; else nothing."""
    names = [name for name in _OTHER_NAME.findall(composed(text)) if composed(placeholder) in name]
    if not names:
        return ""
    return f" What stands inside of {', '.join(dict.fromkeys(names))} belongs to that name."


def other_names(text: str, placeholders: Iterable[str]) -> list[str]:
    """The names of other syntaxes in `text`, each once, without those that are one of the placeholders."""
    parts = [part for part, is_word in split_at_placeholders(text, placeholders) if not is_word]
    return list(dict.fromkeys(name for part in parts for name in _OTHER_NAME.findall(part)))


def _occurrences(text: str, word: str) -> Iterator[tuple[int, int]]:
    quoted = re.escape(word)
    pattern = re.compile(
        f"(?P<named>(?<!\\w)embedding:{quoted}(?={_NAME_ENDS}))|(?P<other>{_OTHER_NAME.pattern})|(?P<alone>{quoted})"
    )
    begin = 0
    while found := pattern.search(text, begin):
        start, end = found.span()
        begin = end
        if found["named"] or found["other"] == word:
            yield start, end
        elif found["alone"]:
            if _is_whole(text, start, end):
                yield start, end
            else:
                begin = start + 1


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is a word of its own, and not a part of a longer one."""
    before, after = text[:start][-1:], text[end : end + 1]
    if text[start] == "<" and text[end - 1] == ">":
        return True
    return not _is_mark(after) and _divides(before, text[start]) and _divides(after, text[end - 1])


def _divides(neighbour: str, edge: str) -> bool:
    """Whether a word ends at `edge`, its first or last character, before or behind `neighbour`."""
    if not neighbour or _UNSPACED.match(neighbour):
        return True
    if _HANGUL.match(neighbour) and not _HANGUL.match(edge):
        return True  # Korean writes particles behind a word without a space
    if neighbour.isalpha() or _is_mark(neighbour):
        return _UNSPACED.match(edge) is not None
    return not neighbour.isalnum() and neighbour not in ("_", edge)


def _is_mark(character: str) -> bool:
    """Whether it changes the letter in front of it."""
    return bool(character) and unicodedata.category(character)[0] == "M"


def _is_bad(character: str) -> bool:
    return character in _OF_PROMPTS or not character.isprintable()
