"""Makes the templates' thumbnails from what they really give out. By hand, after the demo model has changed:

    .venv/bin/python tests/host/make_thumbnails.py http://127.0.0.1:8188

Template 2 wants a checkpoint of the user's, so its thumbnail shows the pictures and the loss of template 1's run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parent))  # run as a script there is no package to import from

from comfy_client import ComfyClient
from workflow_prompt import nodes_of, prompt_of

TEMPLATES = Path(__file__).resolve().parents[2] / "example_workflows"
SIZE = (640, 360)  # px
TILE = 256  # px, side of the square groups of pictures
BACKGROUND, INK = "#262729", "#f2f2f2"

Pictures = list[Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a running ComfyUI with this pack")
    parser.add_argument("--steps", type=int, help="train for fewer steps, to try the layout")
    options = parser.parse_args()
    with ComfyClient(options.url) as client:
        first = run_template(client, 1, options.steps)
        third = run_template(client, 3, options.steps)
        fourth = run_template(client, 4, options.steps)
    learned_from, results = first["The pictures to learn from"], first["Save Image"]
    save(1, tile(learned_from), tile(results))
    save(2, tile(learned_from), square(first["Loss"][0]))
    save(3, tile(third["In the sand"]), tile(third["As a mosaic"]), between="")
    save(4, tile(fourth["Before"]), tile(fourth["After"]))


def run_template(client: ComfyClient, number: int, steps: int | None) -> dict[str, Pictures]:
    """Pictures of every node that shows some, by the node's title in the workflow."""
    workflow, info = json.loads(template_file(number).read_text("utf-8")), client.get("/object_info")
    prompt = prompt_of(workflow, info)
    for node in nodes_of(prompt, "TI_Train") if steps else []:
        prompt[node]["inputs"]["steps"] = steps
    run = client.run(prompt, timeout=3600)
    if run.ending != "execution_success":
        raise SystemExit(f"Template {number}: {run.events[-1]}")
    known_nodes = [node for node in workflow["nodes"] if node["type"] in info]
    titles = {str(n["id"]): n.get("title") or info[n["type"]]["display_name"] for n in known_nodes}
    return {titles[node]: client.pictures(shown) for node, shown in run.outputs.items() if shown.get("images")}


def template_file(number: int) -> Path:
    (file,) = TEMPLATES.glob(f"{number} *.json")
    return file


def tile(pictures: Pictures) -> Image.Image:
    """One picture, or four of them two by two, as a square."""
    if len(pictures) == 1:
        return pictures[0].resize((TILE, TILE), Image.Resampling.LANCZOS)
    half, sheet = TILE // 2, Image.new("RGB", (TILE, TILE), BACKGROUND)
    for i, picture in enumerate(pictures[:4]):
        small = picture.resize((half - 2, half - 2), Image.Resampling.LANCZOS)
        sheet.paste(small, (i % 2 * (half + 2), i // 2 * (half + 2)))
    return sheet


def square(picture: Image.Image) -> Image.Image:
    """A wide picture in the middle of a square."""
    sheet = Image.new("RGB", (TILE, TILE), BACKGROUND)
    picture = picture.resize((TILE, TILE * picture.height // picture.width), Image.Resampling.LANCZOS)
    sheet.paste(picture, (0, (TILE - picture.height) // 2))
    return sheet


def save(number: int, left: Image.Image, right: Image.Image, between: str = "S*") -> None:
    """The thumbnail of a template: two squares, with the word above an arrow between them."""
    sheet = Image.new("RGB", SIZE, BACKGROUND)
    width, height = SIZE
    margin, top = (width - 2 * TILE) // 2 - 44, (height - TILE) // 2
    sheet.paste(left, (margin, top))
    sheet.paste(right, (width - margin - TILE, top))
    if between:
        draw = ImageDraw.Draw(sheet)
        middle = height // 2
        draw.text((width // 2, middle - 12), between, INK, ImageFont.load_default(36), anchor="mb")
        draw.line((width // 2 - 24, middle, width // 2 + 18, middle), INK, 4)
        draw.polygon([(width // 2 + 28, middle), (width // 2 + 14, middle - 8), (width // 2 + 14, middle + 8)], INK)
    sheet.save(template_file(number).with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
