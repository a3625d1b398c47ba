"""Packages that only some networks need, imported when such a network is built."""

from importlib import import_module
from types import ModuleType

from ripu_lightning.errors import UserError


def import_extra(package: str, extra: str, key: str) -> ModuleType:
    """The module ``package``, which the config key ``key`` asks for and our extra ``extra`` brings.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{key}: package {package} is not installed; run pip install 'ripu-lightning[{extra}]'"
        ) from error
