"""Downloads, whose failures are one clear line."""

from collections.abc import Callable
from urllib.error import URLError
from zipfile import BadZipFile

from asgnet.errors import UserError


def fetch(what: str, place: str, get: Callable[..., object], /, *args: object, **options: object) -> None:
    """Call ``get(*args, **options)``. Where it fails, raise UserError: ``what`` could not be downloaded; without a
    network, the user places ``place``."""
    try:
        get(*args, **options)
    except (URLError, OSError, RuntimeError, BadZipFile) as error:  # no network, server gone, checksum differs, cut off
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot download {what} ({reason}): without a network, place {place}") from error
