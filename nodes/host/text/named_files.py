"""`<name>` in a prompt: the word in an embedding file, by the file's name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import PurePosixPath

from ....ti_engine.word.families import and_list
from ....ti_engine.word.placeholder import TAG, composed
from .folders import (
    PICTURES,
    READ_EXTENSIONS,
    embedding_files,
    embedding_path,
    file_fingerprint,
    folders_fingerprint,
    same_file,
    without_ending,
)

_HOST_SYNTAX = r"embedding:([^\s,:()<>\[\]]+)"
# What prompts of Lumina 2 hold between the system's and the user's part, and tags of other syntaxes.
_TEMPLATE_MARK = "Prompt Start"
_OTHER_TAGS = ("lora", "lyco", "hypernet")
_NUM_SHOWN = 5


def name_files(
    text: str, placeholders: Sequence[str], means_something_else: Callable[[str], bool]
) -> tuple[str, list[str]]:
    """`text` with every `<name>` spelled `<file>`, and these files: names relative to the embeddings folders.

    placeholders: of connected words; one in angle brackets goes before a file.
    means_something_else: whether `<name>` stands for itself where no file has the name, such as a token of the model.
    Raises ValueError for a name that several files have, and for one that none has but that looks like a name.
    """
    connected = {composed(placeholder) for placeholder in placeholders}
    names: list[str] | None = None  # the folders are read when the first name is met
    files: list[str] = []

    def spelled(match: re.Match[str]) -> str:
        nonlocal names
        tag, name = match[0], match[0][1:-1]
        if composed(tag) in connected:
            return tag
        names = embedding_files() if names is None else names
        file = find_file(name, names)
        if file is None:
            if name == _TEMPLATE_MARK or means_something_else(tag):
                return tag
            raise ValueError(_unknown(name, names, connected))
        files.append(file)
        return file_placeholder(file)

    return re.sub(TAG, spelled, text), list(dict.fromkeys(files))


def file_placeholder(file: str) -> str:
    """How `name_files` spells `file` in a text."""
    return f"<{file}>"


def find_file(name: str, files: Sequence[str]) -> str | None:
    """The one of `files` that `name` means, None if there is none. The case of letters does not matter.

    name: with or without ending, with or without sub-folders. A full name with ending is that file. Where files differ
    in nothing but the ending, the host's order of endings decides, and a picture comes last.
    Raises ValueError where files of several folders have the name, unless links make them one file.
    """
    wanted = _folded(name.replace("\\", "/"))
    exact = [file for file in files if _folded(file) == wanted]
    found = exact or ([file for file in files if _folded(without_ending(file)) == wanted] if "/" in wanted else [])
    found = found or [
        file for file in files if f"/{_folded(file)}".endswith(f"/{wanted}") or _stem_path(file).endswith(f"/{wanted}")
    ]
    found = [file for file in found if not file.lower().endswith(PICTURES)] or found
    spellings = {without_ending(file) for file in found}
    if len(spellings) > 1 and len({_folded(spelling) for spelling in spellings}) == 1:  # Cat and cat in one folder
        found = [file for file in found if name in (without_ending(file)[-len(name) :], file[-len(name) :])] or found
    if len({without_ending(file) for file in found}) > 1 and not same_file(found):
        raise ValueError(
            f"<{name}> could be any of {and_list(_first_few(found))}; write the one you mean in full, such as "
            f"<{found[0]}>."
        )
    return min(found, key=lambda file: READ_EXTENSIONS.index(PurePosixPath(file).suffix.lower()), default=None)


def names_fingerprint(text: str | None) -> str:
    """Changes whenever a file that `text` names does, as `<name>` or as the host's `embedding:name`.

    text: None where it is not known yet; then any embedding file counts.
    """
    if text is None:
        return folders_fingerprint()
    return _files_fingerprint([tag[1:-1] for tag in re.findall(TAG, text)] + re.findall(_HOST_SYNTAX, text))


def core_names_fingerprint(texts: Iterable[str]) -> str:
    """The same of `embedding:name` alone, for captions, in which `<name>` is no file."""
    return _files_fingerprint([name for text in texts for name in re.findall(_HOST_SYNTAX, text)])


def _files_fingerprint(named: Sequence[str]) -> str:
    if not named:
        return ""
    files, found = embedding_files(), []
    for name in named:
        try:
            if file := find_file(name, files):
                found.append(f"{file} {file_fingerprint(embedding_path(file))}")
        except (ValueError, OSError):  # what is wrong with it is said when the text is encoded
            continue
    return "\n".join(found)


def _folded(name: str) -> str:
    return composed(name).casefold()


def _stem_path(file: str) -> str:
    return f"/{_folded(without_ending(file))}"


def _unknown(name: str, files: Sequence[str], connected: Collection[str]) -> str:
    kind, _, rest = name.partition(":")
    if kind.lower() in _OTHER_TAGS and rest:
        return (
            f"<{name}> is no embedding, and this node would read it as words of the prompt; take it out of the text "
            "and load it with a node for LoRAs."
        )
    shorter, _, weight = name.rpartition(":")
    if re.fullmatch(r"\s*[\d.]+\s*", weight) and shorter:
        if composed(shorter) in connected:
            return f"There is no embedding file {name}; a weight is written ({shorter}:{weight.strip()})."
        if find_file(shorter, files):
            return f"There is no embedding file {name}; a weight is written (<{shorter}>:{weight.strip()})."
    if composed(name) in connected:
        return f"There is no embedding file {name}; the connected word is written {name}, without < and >."
    stems = {_folded(PurePosixPath(without_ending(file)).name): file for file in reversed(files)}
    wanted_stem = _folded(PurePosixPath(without_ending(name)).name)
    near = [stem for stem in stems if wanted_stem in stem] + difflib.get_close_matches(
        wanted_stem, stems, _NUM_SHOWN, 0.5
    )
    candidates = [stems[stem] for stem in dict.fromkeys(near)] or list(files)
    holds = (
        f"near it are {and_list(_first_few(candidates))}" if near else f"there are {and_list(_first_few(candidates))}"
    )
    return (
        f"There is no embedding file {name}; {holds if files else 'the folders hold none'}. Write <name> of a file "
        "that is there, or if it is meant as text, put a space behind the <."
    )


def _first_few(files: Sequence[str]) -> list[str]:
    if len(files) <= _NUM_SHOWN:
        return list(files)
    return [*files[:_NUM_SHOWN], f"{len(files) - _NUM_SHOWN} more"]
