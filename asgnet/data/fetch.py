"""Downloads, whose failures are one clear line."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import URLError
from zipfile import BadZipFile

from asgnet.errors import UserError


def fetch(what: str, place: str, get: Callable[..., object], /, *args: object, **options: object) -> None:
    """Call ``get(*args, **options)``, which may unpack what it downloads, but nowhere else than it means to. Where it
    fails, raise UserError: ``what`` could not be downloaded; without a network, the user places ``place``."""
    try:
        with _unpacking_inside():
            get(*args, **options)
    except (URLError, OSError, RuntimeError, BadZipFile, tarfile.TarError) as error:
        # no network, server gone, checksum differs, cut off, a member that would land elsewhere
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot download {what} ({reason}): without a network, place {place}") from error


@contextmanager
def _unpacking_inside() -> Iterator[None]:
    """Tar archives are unpacked with Python's `data` filter (PEP 706) meanwhile, which torchvision does not ask for: no
    member outside of the folder, no link to there, no device. (`zipfile` keeps inside by itself.)"""
    if not hasattr(tarfile, "data_filter"):  # Python before 3.11.4: torchvision's checksums have to do
        yield
        return
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        del tarfile.TarFile.extraction_filter
