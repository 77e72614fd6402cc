"""Build the figures for reading on screen, and write docs/figures.md from their captions.

python docs/gallery.py              # every figure (minutes from an empty cache), then the page
python docs/gallery.py NAME…        # these figures, the others as they are
python docs/gallery.py --page       # the page alone
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER, PAGE = ROOT / "docs" / "figures", ROOT / "docs" / "figures.md"
RECORDS = FOLDER / "gallery.json"
# Where `figures build` puts them at print resolution; git ignores it.
PRINT = ROOT / "pictures"
# Of the record of a figure, what the pages show.
KEPT = ("figure", "title", "source", "caption", "fast", "version")
# Dots per inch with which lines and six-point text stay sharp in a small file.
DPI = 160

HEADER = """# The figures

Written by `docs/gallery.py`; do not edit. Each caption was written by the figure from the numbers that it shows.

```sh
figures list                  # what there is
figures build --all           # PDF, SVG and PNG at print size, in pictures/
figures build --all --fast    # the same with fewer data sets
figures data kl-against-n     # the table behind a figure
```
"""


def records() -> dict[str, dict[str, Any]]:
    """What is known of every figure in the gallery, by name."""
    return {record["figure"]: record for record in json.loads(RECORDS.read_text(encoding="utf-8"))}


def page() -> str:
    """Every figure with its caption, in alphabetical order."""
    return "\n".join([HEADER, *(entry(record) for record in records().values())])


def entry(record: dict[str, Any]) -> str:
    """One figure."""
    name, title = record["figure"], record["title"]
    image = f"![{title}](figures/{name}.png)"
    return f"## {name}\n\n{title[0].upper()}{title[1:]}. *Source: {record['source']}.*\n\n{image}\n\n{record['caption']}\n"


def build(names: list[str]) -> None:
    """Build figures, and keep their pictures and records."""
    from figures.build import Order, build_all
    from figures.cache import default_folder

    order = Order(formats=("png",), out=PRINT, cache=default_folder())
    found = records() if RECORDS.exists() else {}
    FOLDER.mkdir(exist_ok=True)
    for built in build_all(names, order, -1):
        record = json.loads((PRINT / f"{built.name}.json").read_text(encoding="utf-8"))
        found[built.name] = {key: record[key] for key in KEPT}
        small(PRINT / f"{built.name}.png", FOLDER / f"{built.name}.png")
        print(built.name, file=sys.stderr, flush=True)
    text = json.dumps([found[name] for name in sorted(found)], indent=1, ensure_ascii=False)
    RECORDS.write_text(text + "\n", encoding="utf-8")


def small(source: Path, target: Path) -> None:
    """A print-size picture at screen resolution."""
    from PIL import Image

    from figures.style import RC

    with Image.open(source) as image:
        size = tuple(round(pixels * DPI / RC["savefig.dpi"]) for pixels in image.size)
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, optimize=True)


def main(arguments: list[str]) -> None:
    """Build what is asked for and write the page."""
    if arguments != ["--page"]:
        from figures import registry

        build(arguments or registry.names())
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    # Beside this file lies a folder called figures, which is not the package.
    sys.path[0] = str(ROOT)
    main(sys.argv[1:])
