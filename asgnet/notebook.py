"""Running a notebook with papermill, strictly: a misspelt parameter is an error, and so is a user's mistake inside."""

import tempfile
from pathlib import Path
from typing import Any

import papermill
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from nbformat import ValidationError
from papermill.exceptions import PapermillExecutionError

from asgnet.errors import UserError
from asgnet.page import write_page
from asgnet.strict import unknown


def run_notebook(source: Path, output: Path, settings: list[str]) -> None:
    """Execute ``source`` and write it with its outputs to ``output``, or as a page without code (`asgnet.page`) where
    that ends in .html; ``settings`` are "name=value" for the parameters cell. What the notebook prints is printed as it
    runs.

    Raises UserError for a missing notebook, an unknown or malformed setting, and a UserError raised in a cell."""
    if not source.is_file():
        raise UserError(
            f"{source}: no such notebook; the notebooks stand in the repository's notebooks/, not in the installed "
            f"package: clone it, and name one of notebooks/*.ipynb"
        )
    if output.is_dir():
        raise UserError(f"{output}: is a folder; name the notebook to write, such as {output / source.name}")
    try:
        known = papermill.inspect_notebook(str(source))
    except (ValueError, TypeError, AttributeError, KeyError, ValidationError):
        raise UserError(f"{source}: damaged, or no notebook; get the file again") from None
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"{source.name}: setting {setting!r} is not of the form name=value")
        if name not in known:
            raise unknown(f"{source.name}: parameter", name, known)
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{source.name}: {name}: {value!r} is not a value; quote it as in YAML") from None
    if output.suffix == ".html":
        with tempfile.TemporaryDirectory() as folder:
            executed = Path(folder) / source.name
            _execute(source, executed, parameters)
            write_page(executed, output)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        _execute(source, output, parameters)


def _execute(source: Path, output: Path, parameters: dict[str, Any]) -> None:
    try:
        papermill.execute_notebook(
            str(source), str(output), parameters, kernel_name="python3", progress_bar=False, log_output=False,
            stdout_file=_Printer(), stderr_file=None, shutdown_kernel="immediate",  # its work is done and saved
        )  # fmt: skip
    except NoSuchKernel as error:
        raise UserError(
            f"{source.name}: Jupyter has no kernel {error.name!r}; install it with `python -m ipykernel install "
            "--sys-prefix`"
        ) from None
    except PapermillExecutionError as error:
        if error.ename == "UserError":
            raise UserError(error.evalue) from None
        raise


class _Printer:
    """Prints what the notebook prints, at once."""

    def write(self, text: str) -> None:
        print(text, end="", flush=True)

    def flush(self) -> None:
        pass
