"""Heads of arms that change more than a setting: one module each, with a class `Head` that derives from
`asgnet.head.Head`. An arm's row asks for it by the module's name, ``model: {head: NAME}``."""

import pkgutil
from importlib import import_module

from asgnet.errors import UserError
from asgnet.head import Head


def head_class(name: str) -> type[Head]:
    """The class that ``model.head`` names; "" is ASGNet's own. Raises UserError where there is no such module."""
    if not name:
        return Head
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise UserError(f"params.yaml: model.head {name!r}: no module asgnet/arms/{name}.py; {there}")
    return import_module(f"{__name__}.{name}").Head
