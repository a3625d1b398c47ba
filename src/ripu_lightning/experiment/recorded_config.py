"""The config as a run records it: class maps in place of their files, and paths that hold in any working directory.

It needs no torch, so that a sweep reads its jobs quickly.
"""

import os
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ripu_lightning.class_map import load_class_map
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.config_keys import errors_name_keys
from ripu_lightning.experiment.early_checks import PARTS

ROOTS = "root_variables"
"""Key of a recorded config: ``{"data.target.root": "$RIPU_DATA/target"}``, roots that environment variables gave."""
_OURS = "ripu_lightning."
_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)\s*(,[^${}]*)?\}")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)")


def recorded(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain containers, as checkpoints and ``config.yaml`` hold it.

    A class map's file is replaced by what it says, so that nothing else can take its place later. Roots of data and
    paths of initial weights are absolute. Roots that contain an environment variable are also kept by its name.

    Raises:
        UserError: a class map that cannot be read, or names that a config cannot hold.
    """
    found = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    written = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    variables = {}
    for name, part in data_sets(found):
        classes, root, key = part.get("classes"), part.get("root"), f"data.{name}"
        if isinstance(classes, str) and classes.endswith((".yaml", ".yml")):
            part["classes"] = _content(classes, key)
        if isinstance(root, str) and root != "???":
            part["root"] = os.path.abspath(root)
            template = _template(written, f"{key}.root")
            if template is not None:
                variables[f"{key}.root"] = template
    if isinstance(found.get("initial"), str) and found["initial"] != "???":
        found["initial"] = os.path.abspath(found["initial"])
    weights = found.get("network", {}).get("weights")
    if isinstance(weights, str) and Path(weights).is_file():
        found["network"]["weights"] = os.path.abspath(weights)
    return {**found, ROOTS: variables} if variables else found


def data_sets(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and config of each data set of this package in a plain config; classes of others may mean other things."""
    for name in PARTS:
        part = config.get("data", {}).get(name)
        if isinstance(part, dict) and str(part.get("_target_")).startswith(_OURS):
            yield name, part


def with_class_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config for loggers: of class maps the names alone, as MLflow refuses keys such as a subset's name."""
    found = deepcopy(dict(config))
    for _, part in data_sets(found):
        if isinstance(part.get("classes"), dict):
            part["classes"] = part["classes"]["names"]
    return found


def follow_variables(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config with the roots that this machine's environment variables give, where all of them are set."""
    data = dict(config["data"])
    for key, template in dict(config.get(ROOTS, {})).items():
        group, name, last = [*str(key).split("."), "", ""][:3]
        part = data.get(name)
        names = _VARIABLE.findall(template) if isinstance(template, str) else []
        if (group, last) == ("data", "root") and isinstance(part, Mapping) and names and {*names} <= os.environ.keys():
            root = _VARIABLE.sub(lambda match: os.environ[match[1]], template)
            data[name] = {**part, "root": os.path.abspath(root)}
    return {**config, "data": data}


def _content(path: str, key: str) -> dict[str, Any]:
    with errors_name_keys({}, key):
        content = load_class_map(path, "FolderDataset").as_dict()
    for name in (*content["names"], *content["subsets"]):
        if "${" in name:
            raise UserError(f"{path}: the name {name!r} holds '${{', which a config cannot; choose another name")
    return content


def _template(config: Mapping[str, Any], key: str) -> str | None:
    """``$NAME/rest`` for a root with ``${oc.env:NAME}`` or references to one; None for any other text."""
    for _ in range(8):  # references of references
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if not isinstance(node, str):
            return None
        reference = _REFERENCE.fullmatch(node)
        if reference is None:
            rest = _ENVIRONMENT.sub("", node)
            return None if "$" in rest or rest == node else _ENVIRONMENT.sub(r"$\1", node)
        key = reference[1]
    return None
