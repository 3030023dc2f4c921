"""A figure as PNG, and as a Markdown image that needs no file server."""

import base64
from io import BytesIO
from typing import Final

from matplotlib.figure import Figure
from PIL import Image

# Dagster stores every picture for weeks. Charts have few colours: a palette takes a quarter of the bytes.
COLOURS: Final = 64


def png(figure: Figure) -> bytes:
    """The figure's bytes."""
    drawn, target = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(target, format="PNG", optimize=True)
    return target.getvalue()


def markdown_image(figure: Figure, text: str) -> str:
    """The figure inside of Markdown; `text` stands for it where no picture is shown."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})"
