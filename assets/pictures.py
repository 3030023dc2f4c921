"""A figure as PNG, and as a Markdown image that needs no file server."""

import base64
from io import BytesIO

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The figure's bytes."""
    target = BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def markdown_image(figure: Figure, text: str) -> str:
    """The figure inside of Markdown; `text` stands for it where no picture is shown."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png(figure)).decode()})"
