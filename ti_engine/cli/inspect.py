"""`textual-inversion inspect`: what an embedding file holds."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model_flags import add_model_flags, open_model

if TYPE_CHECKING:
    from torch import Tensor

    from ..embedding import TokenEmbedding
    from ..standalone import DiffusersBackend

_NUM_NEAREST = 5


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect", help="what an embedding file holds", description="Show what an embedding file holds."
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print it as one JSON object on stdout")
    add_model_flags(parser, required=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    backend = open_model(arguments) if arguments.model else None
    content = describe(arguments.file, backend)
    print(json.dumps(content) if arguments.json else _told(content))
    return 0


def describe(file: str | Path, backend: DiffusersBackend | None = None) -> dict[str, Any]:
    """The content of an embedding file, ready for JSON; with a model also the nearest words of each vector.

    Raises ValueError or OSError for what `load_embedding` refuses.
    """
    from ..files import load_embedding, stored_precisions

    encoders = None if backend is None else {info.width: key for key, info in backend.encoders.items()}
    embedding = load_embedding(file, encoders)
    precisions = stored_precisions(file)
    precision = precisions[0] if len(precisions) == 1 else "mixed"
    vectors = {key: _describe_rows(rows, precision) for key, rows in embedding.vectors.items()}
    if backend is not None:
        for key, rows in embedding.vectors.items():
            nearest = [backend.nearest_words(key, row, _NUM_NEAREST) for row in rows]
            vectors[key]["nearest_words"] = [[[w, round(c, 4)] for w, c in words] for words in nearest]
            vectors[key]["vocabulary_norm"] = round(backend.encoders[key].norm, 6)
    word = {"name": embedding.placeholder, "vectors": vectors, "metadata": embedding.metadata}
    return {"file": Path(file).name, "format": "safetensors", "words": [word], "warnings": _warnings(embedding)}


def _describe_rows(rows: Tensor, precision: str) -> dict[str, Any]:
    return {
        "shape": list(rows.shape),
        "dtype": precision,
        "norms": [round(float(norm), 6) for norm in rows.norm(dim=1)],
        "sha256_f32": hashlib.sha256(rows.contiguous().numpy().astype("<f4").tobytes()).hexdigest(),
    }


def _warnings(embedding: TokenEmbedding) -> list[str]:
    zeros = [key for key, rows in embedding.vectors.items() if not bool(rows.any())]
    return [f"All vectors of {key} are zero; they would act as no word at all." for key in zeros]


def _told(content: dict[str, Any]) -> str:
    lines = [f"{content['file']} ({content['format']})"]
    for word in content["words"]:
        lines.append(f"word: {word['name']}")
        for key, rows in word["vectors"].items():
            count, width = rows["shape"]
            lines.append(f"{key}: {count} vector{'s' * (count > 1)} of width {width}, {rows['dtype']}")
            for number, norm in enumerate(rows["norms"]):
                near = ", ".join(f"{w} {c:.2f}" for w, c in rows.get("nearest_words", [[]] * count)[number])
                lines.append(f"  {number + 1}: norm {norm:.4f}{'; nearest: ' + near if near else ''}")
            lines.append(f"  sha256 {rows['sha256_f32']}")
        for name, text in sorted(word["metadata"].items()):
            lines.append(f"{name}: {text if len(text) <= 200 else text[:200] + ' ...'}")
    lines += [f"warning: {warning}" for warning in content["warnings"]]
    return "\n".join(lines)
