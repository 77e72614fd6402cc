"""``theory plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plot")(plot)


def plot(
    directory: Annotated[Path, typer.Argument(help="A directory that theory sweep filled.", metavar="DIR")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write (.png, .pdf, .svg); default DIR/forward_kl.png.")
    ] = None,
) -> None:
    """Draw forward KL against n, log-log, with bands, floors and the Cramér–Rao line."""
    from theory.plotting import check_format, picture
    from theory.sweeps.store import Store

    store = Store(directory)
    manifest = store.manifest()
    path = check_format(out or directory / "forward_kl.png", "--out")
    title = f"{manifest['instance']}, V = {manifest['vocab']}, X = {manifest['contexts']}, γ = {manifest['gamma']:g}"
    picture(store.read().to_pylist(), path, constant=manifest["asymptotic_constant"], title=title)
    typer.echo(f"picture written to {path}")
