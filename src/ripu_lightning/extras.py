"""Packages that an extra of ours brings, imported where they are needed."""

from importlib import import_module
from types import ModuleType

from ripu_lightning.errors import UserError


class MissingPackage(UserError):
    """A package of an extra is not installed; the message says how to install it."""


def import_extra(package: str, extra: str, owner: str) -> ModuleType:
    """Import ``package``, which ``owner`` needs and our extra ``extra`` brings.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"{owner}: package {package} is not installed; run pip install 'ripu-lightning[{extra}]'"
        ) from error
