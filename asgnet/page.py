"""An executed notebook as one HTML page without code: pictures and style inside, nothing fetched from anywhere."""

import base64
import html
import io
import re
from pathlib import Path

from nbconvert import HTMLExporter
from PIL import Image

from asgnet.errors import UserError
from asgnet.files import atomic_path

WIDTH = 1000  # pixels that a picture is shown with at most

SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0; }}
main {{ max-width: 1000px; margin: 0 auto; padding: 1rem; }}
h1, h2, h3 {{ line-height: 1.2; margin: 2.2rem 0 0.6rem; }}
.table {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 0.2rem 0.7rem 0.2rem 0; border-bottom: 1px solid #ddd; vertical-align: top;
  white-space: nowrap; }}
thead th {{ border-bottom: 2px solid #555; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption, summary {{ color: #555; font-size: 0.9rem; }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: 0.8rem; font-size: 0.8rem; }}
.label {{ border: 2px solid #b33; color: #b33; padding: 0.4rem 0.8rem; font-weight: bold; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def write_page(notebook: Path, output: Path) -> None:
    """Write an executed notebook's text and outputs to ``output``; its first heading is the title."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_output_prompt=True, exclude_anchor_links=True
    )
    body, _ = exporter.from_filename(str(notebook))
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.DOTALL)
    title = re.sub(r"<[^>]+>", "", heading[1]) if heading else html.escape(output.stem)
    with atomic_path(output) as temporary:
        temporary.write_text(SHELL.format(title=title, body=body), encoding="utf-8")


def figure(path: Path, caption: str, alt: str) -> str:
    """A picture file in an HTML figure, at most ``WIDTH`` pixels wide. Raises UserError where it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise UserError(f"{path}: not readable as a picture ({error}); draw it again with `dvc repro`") from None
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    kind, data = min(_encoded(picture), key=lambda one: len(one[1]))
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    size = f'width="{picture.width}" height="{picture.height}"'
    return (
        f'<figure><img src="{source}" {size} alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _encoded(picture: Image.Image) -> list[tuple[str, bytes]]:
    """Drawings are smaller as PNG with few colours, photographs as JPEG."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.quantize(128).save(png, "PNG", optimize=True)
    picture.save(jpeg, "JPEG", quality=80, optimize=True)
    return [("png", png.getvalue()), ("jpeg", jpeg.getvalue())]
