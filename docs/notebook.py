"""Run the tutorial notebook and keep what it prints and draws.

python docs/notebook.py          # in the notebook itself
python docs/notebook.py FILE     # in a copy
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent / "tutorial.ipynb"
# What changes from run to run and says nothing.
VOLATILE = ("execution", "collapsed", "scrolled")


def executed(folder: str) -> Any:
    """The notebook with the outputs of a run in an empty folder; raises on a cell's error."""
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # Sockets in a folder of our own: nobody else on the machine can listen, and a path must be short.
    with tempfile.TemporaryDirectory() as sockets:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(notebook, km=manager, timeout=600, startup_timeout=300, resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    for cell in notebook.cells:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key not in VOLATILE}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if not _aside(output)]
    notebook["metadata"] = {"kernelspec": notebook["metadata"]["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def _aside(output: Any) -> bool:
    """Whether an output is progress: on standard error, or a bar that has gone."""
    if output["output_type"] == "stream":
        return output["name"] == "stderr" or not output["text"].strip()
    return "text/html" in output["data"]


def main(arguments: list[str]) -> None:
    """Write the notebook with its outputs; exit with a cell's error."""
    import nbformat

    target = Path(arguments[0]) if arguments else NOTEBOOK
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(folder), target)


if __name__ == "__main__":
    main(sys.argv[1:])
