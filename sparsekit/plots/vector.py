"""A notebook shows figures as drawings that follow its theme and stay sharp, beside images for pages that show none.

JupyterLab shows a drawing as an image of its own, and tells it by `color-scheme` whether the page is dark. So a drawing
brings both palettes along. An image in tones of grey changes its two ends with them, and any other keeps its colours.
"""

import base64
import io
import re
from collections.abc import Mapping
from html import escape

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from sparsekit.plots.palette import DARK, LIGHT

PIXELS = 100  # on the screen for each inch of a figure
SHARPER = 2  # image pixels for each of them, as screens of phones and laptops have
CHROMA = 40  # of 255, and two channels that differ by more are no tone of grey
FONTS = "Inter, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
# In this order, so that a colour with two meanings goes by the first of them. Black and white are matplotlib's own.
NAMES = {colour: name for name, colour in reversed(list(LIGHT.items()))} | {"#000000": "ink", "#ffffff": "surface"}


def bundle_of(figure: Figure, name: str, sentence: str) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Return a figure as a drawing, an image and its name by their MIME types, and the image's size on the screen."""
    width, height = _size(figure)
    data = {
        "image/svg+xml": drawing_of(figure, sentence),
        "image/png": base64.b64encode(image_of(figure)).decode(),
        "text/plain": name,
    }
    return data, {"image/png": {"width": width, "height": height}}


def image_of(figure: Figure) -> bytes:
    """Return a figure as a PNG on light paper, with two image pixels for each pixel of the screen."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=SHARPER * PIXELS)
    return _small(PIL.Image.open(png).convert("RGB"))


def drawing_of(figure: Figure, sentence: str) -> str:
    """Return a figure as an SVG that follows light and dark pages, and that says the sentence to screen readers."""
    drawn = io.StringIO()
    # These leave letters as letters, and give the same text for the same figure every time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparsekit"}):
        figure.savefig(drawn, format="svg", dpi=SHARPER * PIXELS, metadata={"Date": None, "Creator": None})
    body = drawn.getvalue().partition("<svg")[2].partition(">")[2].rpartition("</svg>")[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bd="[^"]*"', _rounded, body)
    body = re.sub(r"<image[^>]*?base64,\s*([^\"]*)\"", _mend_image, body)
    body = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _mend_colour, body)
    body = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", rf"\1{FONTS}", body)
    body = body.replace("font: 700 ", "font: 600 ")  # which matplotlib's own font lacks
    (width, height), (wide, tall) = _size(figure), (round(72 * inches, 4) for inches in figure.get_size_inches())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="sk-figure" '
        f'role="img" aria-label="{escape(sentence)}" width="{width}" height="{height}" viewBox="0 0 {wide:g} {tall:g}">'
        f"<title>{escape(sentence)}</title><style>{_style(body)}</style>{_night()}{body}</svg>"
    )


def _size(figure: Figure) -> tuple[int, int]:
    width, height = figure.get_size_inches()
    return round(PIXELS * width), round(PIXELS * height)


def _rounded(path: re.Match[str]) -> str:
    """Return a path whose coordinates have two decimals, a hundredth of a point, where they have six."""
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", path[0]).split())


def _mend_colour(match: re.Match[str]) -> str:
    where, colour = match.groups()
    name = NAMES.get(colour) or (f"tone-{colour[1:]}" if _chroma(_channels(colour)) <= CHROMA else "")
    return f"{where}: var(--{name})" if name else match[0]


def _mend_image(match: re.Match[str]) -> str:
    """Return the start of an image with a class if it is in tones of grey, and in as few bytes as it needs."""
    image = PIL.Image.open(io.BytesIO(base64.b64decode(match[1])))
    colours = np.asarray(image.convert("RGBA")).astype(int)
    shown = colours[colours[..., 3] > 0][:, :3]
    is_grey = _chroma(shown) <= CHROMA
    start = match[0].replace("<image", '<image class="grey"', 1) if is_grey else match[0]
    return start.replace(match[1], base64.b64encode(_small(image)).decode())


def _small(image: PIL.Image.Image) -> bytes:
    """Return an image as PNG, with a table of colours where it has few."""
    has_table = image.mode == "RGB" or not np.asarray(image.convert("RGBA"))[..., 3].min() < 255
    image = image.convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE) if has_table else image
    png = io.BytesIO()
    image.save(png, format="png", optimize=True)
    return png.getvalue()


def _style(body: str) -> str:
    """Return the colours that a drawing uses, for light and for dark pages."""
    used = sorted({"ink", *re.findall(r"var\(--([\w-]+)\)", body)})
    light, dark = ({name: _value(name, palette) for name in used} for palette in (LIGHT, DARK))
    night = f".sk-figure{{{_variables(dark)}}} .sk-figure .grey{{filter:url(#sk-night)}}"
    alone = night.replace(".sk-figure", ".sk-figure:root")
    inside = night.replace(".sk-figure", 'body:is([data-jp-theme-light="false"],.vscode-dark) .sk-figure')
    return (
        f".sk-figure{{fill:var(--ink);{_variables(light)}}} @media (prefers-color-scheme:dark){{{alone}}} {inside}"
        ".sk-figure text{font-variant-numeric:tabular-nums}"
    )


def _variables(colours: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())


def _value(name: str, palette: Mapping[str, str]) -> str:
    """Return a colour of a palette, or a tone of grey, which on dark pages is as far from the surface towards ink."""
    if not name.startswith("tone-"):
        return palette[name]
    tone = _channels("#" + name.removeprefix("tone-"))
    slope, intercept = _to_night()
    shown = tone if palette is LIGHT else (slope * tone + 255 * intercept).round().clip(0, 255).astype(int)
    return "#" + "".join(f"{channel:02x}" for channel in shown)


def _channels(colour: str) -> np.ndarray:
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])


def _chroma(colours: np.ndarray) -> int:
    """Return by how much the channels of a colour differ at most, 0 for grey."""
    return int(np.ptp(colours, axis=-1).max()) if colours.size else 0


def _to_night() -> tuple[np.ndarray, np.ndarray]:
    """Return slope and intercept for each channel that bring light surface and ink to the dark ones."""
    (start, end), (new_start, new_end) = (
        [_channels(palette[name]) / 255 for name in ("surface", "ink")] for palette in (LIGHT, DARK)
    )
    slope = (new_end - new_start) / (end - start)
    return slope, new_start - slope * start


def _night() -> str:
    """Return a filter that does to images what `_value` does to tones."""
    parts = (
        f'<feFunc{name} type="linear" slope="{slope:.4f}" intercept="{intercept:.4f}"/>'
        for name, slope, intercept in zip("RGB", *_to_night(), strict=True)
    )
    return (
        '<filter id="sk-night" color-interpolation-filters="sRGB"><feComponentTransfer>'
        f"{''.join(parts)}</feComponentTransfer></filter>"
    )
