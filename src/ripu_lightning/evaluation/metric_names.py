"""Names of metrics that every logger takes, from names that people gave to classes, subsets and images."""

import re
import unicodedata
from collections.abc import Sequence

LONGEST = 100
"""Characters; MLflow takes 250 for a complete name."""


def metric_names(names: Sequence[str]) -> dict[str, str]:
    """A valid and unique last part of a metric's name for each of some unique names.

    It holds ASCII letters, digits, ``-`` and ``_`` only: TensorBoard and MLflow replace or drop anything else, so that
    two classes would be one metric. Names that are valid keep theirs; where others would collide, also in upper and
    lower case alone, they end with their position.

    >>> metric_names(["traffic light", "traffic_light", "50 %"])
    {'traffic light': 'traffic_light_0', 'traffic_light': 'traffic_light', '50 %': '50'}
    """
    found: dict[str, str] = {}
    for valid in (True, False):
        for position, name in enumerate(names):
            wanted = _cleaned(name) or str(position)
            if (wanted == name) != valid:
                continue
            taken = {each.casefold() for each in found.values()}
            while wanted.casefold() in taken:
                wanted = f"{wanted}_{position}"
            found[name] = wanted
    return {name: found[name] for name in names}


def _cleaned(name: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "replace").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_).strip("_")[:LONGEST]
