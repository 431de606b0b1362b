"""Static images of the widgets have the light colours of the figures, and lines that colour-blind readers tell apart.

In the browser masks follow the theme, by the same names in `static/style.css`.
"""

from sparsekit.plots.palette import LIGHT

PAPER = LIGHT["surface"]  # a position without a connection
INK = LIGHT["ink"]  # a connection
KEPT = LIGHT["kept"]  # a connection that this rewiring left, where it grew and dropped others
BORN = LIGHT["ink"]  # a connection that this rewiring grew
DROPPED = LIGHT["soft"]  # a connection that this rewiring dropped

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (10, 4), (1, 3))
"""Every line has its own dash pattern, so that no two differ by colour alone."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of a `#rrggbb` colour.

    Example:
        >>> rgb("#16191d")
        (22, 25, 29)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, 1 (equal) to 21 (black on white), as WCAG 2 defines it."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = [part / 255 for part in rgb(colour)]
    # WCAG 2.2, "relative luminance": the constants of the sRGB transfer curve and of the eye's response.
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
