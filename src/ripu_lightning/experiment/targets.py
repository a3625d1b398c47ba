"""What the config of a checkpoint may build: classes of this package, and of packages that the user trusts by name."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.untrusted import leaves

OURS = "ripu_lightning."


def require_trusted(groups: Mapping[str, Any], source: str, trust: Sequence[str] | None = None) -> None:
    """Refuse, before any of it is imported, a checkpoint's config that names a class that is not trusted.

    Args:
        groups: plain containers by the name of their group; each names its class by ``_target_``.
        source: begins the line of an error.
        trust: packages whose classes and functions may be built too, such as ``my_plugin``; None if the command has no
            such key.

    Raises:
        UserError: the line names the target.
    """
    for name, group in groups.items():
        if not isinstance(group, Mapping) or "_target_" not in group:
            raise UserError(f"{source}: its config does not say what {name} is; no ripu-train wrote it")
        for key, value in _special(group):
            if key != "_target_":
                raise UserError(f"{source}: its config has {key} in {name}, which ripu-train never writes there")
            package = str(value).split(".")[0]
            if not isinstance(value, str) or not (_is_ours(value) or package in (trust or ())):
                known = f"; if you know who wrote the checkpoint and have {package}, add trust=[{package}]"
                raise UserError(
                    f"{source}: its config has {value!r} built as part of {name}, which is no class of ripu_lightning"
                    + ("" if trust is None else known)
                )


def require_resolved(config: Mapping[str, Any], source: str) -> None:
    """Refuse interpolations: ripu-train writes none, and they could read this machine's environment.

    Raises:
        UserError: the line names the first.
    """
    for leaf in leaves(config):
        if isinstance(leaf, str) and "${" in leaf:
            raise UserError(f"{source}: its config holds the interpolation {leaf[:100]!r}; no ripu-train wrote it")


def trusted_packages(trust: Any) -> list[str]:
    """The packages that the user trusts. Raises UserError unless they are a list of names."""
    names = trust if isinstance(trust, Sequence) and not isinstance(trust, str) else [None]
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise UserError(f"trust: expected a list of packages such as [my_plugin], got {trust}")
    return list(trust)


def _special(part: Any) -> Iterator[tuple[str, Any]]:
    """Keys at any depth that are no arguments of the class."""
    if isinstance(part, Mapping):
        yield from ((key, part[key]) for key in part if isinstance(key, str) and key[:1] == "_" == key[-1:])
    for value in part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ():
        yield from _special(value)


def _is_ours(target: str) -> bool:
    """Whether it is a class that this package defines; a name that its modules import from elsewhere is not."""
    module, _, name = target.rpartition(".")
    if not f"{module}.".startswith(OURS):
        return False
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        return False
    return isinstance(found, type) and found.__module__.startswith(OURS)
