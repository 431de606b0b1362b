"""Make a small picture of each notebook for the README, from what its cells show: `python tools/draw_thumbnails.py`."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "figures" / "notebooks"
SIZE, COLOURS = (320, 200), 48
SHOWN = {"02": 2, "04": 2, "08": 5, "09": 10, "10": 1}  # which picture says most, where it is not the first


def pictures(path: Path) -> Iterator[Image.Image]:
    """Yield the pictures that a notebook's cells show, in their order."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if (image := output.get("data", {}).get("image/png")) is not None:
                yield Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return a picture's upper part in a common size, with few colours."""
    width, height = picture.size
    part = picture.crop((0, 0, width, min(height, width * SIZE[1] // SIZE[0])))
    small = part.resize((SIZE[0], SIZE[0] * part.height // part.width), Image.Resampling.LANCZOS)
    page = Image.new("RGB", SIZE, small.getpixel((0, 0)))
    page.paste(small)
    return page.quantize(COLOURS)


def main() -> None:
    """Write the picture of every notebook."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        shown = list(pictures(path))
        thumbnail(shown[SHOWN.get(path.stem[:2], 0)]).save(TARGET / f"{path.stem[:2]}.png", optimize=True)


if __name__ == "__main__":
    main()
