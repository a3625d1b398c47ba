"""The result file: what one training run or evaluation reached, and all that a comparison must know of it.

It needs neither torch nor Lightning, so that results are read quickly.
"""

import json
import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from ripu_lightning import __version__
from ripu_lightning.errors import UserError
from ripu_lightning.files import replacing
from ripu_lightning.untrusted import is_line, leaves, parse_json, read_bounded

NAME = "result.json"
PROTOCOL = {"classes", "subsets", "images", "data", "input_size", "inference", "precision"}
BUDGET = {"unit", "amount", "per", "rounds", "rounds_done", "pixels", "share"}
IDLE = ("trainer.accelerator", "trainer.strategy", "trainer.log_every_n_steps", "trainer.enable_progress_bar")
"""Keys of the trainer that change no figure."""

UNKNOWN_PURCHASE: dict[str, Any] = {"strategy": None, "budget": dict.fromkeys(sorted(BUDGET))}
"""Of a network that was trained elsewhere."""


@dataclass(frozen=True)
class Result:
    """What ``result.json`` holds.

    Attributes:
        name: of the run.
        code: ``version`` of the package, and ``commit`` of its git checkout (ending in ``-dirty`` where files were
            changed since), null where it lies in none.
        config: SHA-256 of the run's config without the keys that change nothing and without ``data.*.root``: the same
            data lie elsewhere on another machine, and other data in the same layout are not told apart.
        protocol: what figures must share to be compared, see :func:`~ripu_lightning.evaluation.protocol_of`.
        budget: ``unit``, ``amount``, ``per`` and ``rounds``; ``rounds_done`` of them, the ``pixels`` bought
            and their ``share`` of all.
        strategy: its name; null where nothing is bought.
        seed: of the run.
        miou: mean IoU over all classes, 0..1, as all figures; null where nothing was counted.
        subsets: mean IoU over each of the protocol's subsets.
        pixel_accuracy: share of pixels that are right.
        class_accuracy: mean over the classes of the share of their pixels that are found.
        iou: by class; null for a class that does not occur.
    """

    name: str
    code: dict[str, str | None]
    config: str
    protocol: dict[str, Any]
    budget: dict[str, Any]
    strategy: str | None
    seed: int
    miou: float | None
    subsets: dict[str, float | None]
    pixel_accuracy: float | None
    class_accuracy: float | None
    iou: dict[str, float | None]

    def write(self, folder: Path) -> None:
        """Write ``result.json`` into a folder, atomically; the folder is made if missing.

        Raises:
            UserError: it can not be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        with replacing(folder / NAME, "the labels that were bought are safe") as file:
            file.write(f"{text}\n".encode())


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        UserError: it can not be read, or is no result file.
    """
    try:
        content = parse_json(read_bounded(path))
        result = Result(**{field.name: content[field.name] for field in fields(Result)})
        complete = _is_complete(result) and all(is_line(leaf) for leaf in leaves(content) if isinstance(leaf, str))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        complete = False
    if not complete:
        raise UserError(f"{path}: not a whole result file; have ripu-train or ripu-evaluate write it anew")
    return result


def _is_complete(result: Result) -> bool:
    protocol = result.protocol
    figures = [
        result.miou,
        result.pixel_accuracy,
        result.class_accuracy,
        *result.subsets.values(),
        *result.iou.values(),
    ]
    texts = [result.name, result.config, protocol["inference"]["title"], protocol["precision"]]
    words = [protocol["data"], *result.code.values()]
    return (
        set(protocol) == PROTOCOL
        and is_purchase({"strategy": result.strategy, "budget": result.budget})
        and list(result.iou) == list(protocol["classes"])
        and list(result.subsets) == list(protocol["subsets"])
        and all(set(members) <= set(result.iou) for members in protocol["subsets"].values())
        and all(_is_figure(value, 1) for value in figures)
        and all(type(value) is int for value in (result.seed, protocol["images"], *(protocol["input_size"] or [])))
        and all(isinstance(text, str) for text in texts)
        and all(word is None or isinstance(word, str) for word in words)
        and len(protocol["input_size"] or [0, 0]) == 2
    )


def is_purchase(purchase: Mapping[str, Any]) -> bool:
    """Whether ``strategy`` and ``budget`` are those of a result, see :class:`Result`."""
    strategy, budget = purchase["strategy"], purchase["budget"]
    words = [strategy, budget["unit"], budget["per"]]
    amounts = [budget[name] for name in ("amount", "rounds", "rounds_done", "pixels")]
    return (
        set(budget) == BUDGET
        and all(word is None or isinstance(word, str) for word in words)
        and all(_is_figure(value, 2**63) for value in amounts)
        and _is_figure(budget["share"], 1)
        and (not budget["rounds"] or None not in (budget["unit"], budget["amount"]))
    )


def _is_figure(value: object, most: int) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= cast(float, value) <= most)


def make_result(
    config: Mapping[str, Any], purchase: Mapping[str, Any], protocol: dict[str, Any], figures: Mapping[str, float]
) -> Result:
    """The result of one evaluation.

    Args:
        config: of the run that trained the network, resolved, as plain containers.
        purchase: ``strategy`` and ``budget``, see :class:`Result`.
        protocol: see :func:`~ripu_lightning.evaluation.protocol_of`.
        figures: see :func:`~ripu_lightning.evaluation.figures`.
    """
    values = {name: None if math.isnan(value) else float(value) for name, value in figures.items()}
    return Result(
        name=str(config["name"]),
        code=code_version(),
        config=digest(config),
        protocol=protocol,
        budget=dict(purchase["budget"]),
        strategy=purchase["strategy"],
        seed=int(config["seed"]),
        miou=values["miou"],
        subsets={name: values[f"miou_{name}"] for name in protocol["subsets"]},
        pixel_accuracy=values["pixel_accuracy"],
        class_accuracy=values["class_accuracy"],
        iou={name: values[f"iou/{name}"] for name in protocol["classes"]},
    )


def decisive(config: Mapping[Any, Any]) -> dict[str, object]:
    """A config as ``{"group.key": value}``, without the keys that change nothing of what a run reaches."""
    flat = _flat(config)
    free = {"trainer", "logger", "pictures", "per_class", "output", "name", "compile"}
    free |= {"checkpoint_every", "rank_patience"}
    places = {"data.num_workers", "data.eval_batch_size", "data.cache", "annotator.folder"}
    return {key: value for key, value in flat.items() if key.split(".")[0] not in free and key not in places}


def reached_with(config: Mapping[Any, Any]) -> dict[str, object]:
    """:func:`decisive`, and what of the trainer counts although a run may go on with another, as precision."""
    trainer = {key: value for key, value in _flat(config).items() if key.split(".")[0] == "trainer"}
    return {**decisive(config), **{key: value for key, value in trainer.items() if not key.startswith(IDLE)}}


def _flat(config: Mapping[Any, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, child in config.items():
        if isinstance(child, Mapping):
            flat |= {f"{key}.{name}": value for name, value in _flat(child).items()}
        else:
            flat[str(key)] = child
    return flat


def digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of all that a run's figures depend on, see :func:`reached_with`; not of where its data lie."""
    ours = {key: value for key, value in reached_with(config).items() if not re.fullmatch(r"data\..*\.root", key)}
    return sha256(json.dumps(ours, sort_keys=True, default=str).encode()).hexdigest()


@cache
def code_version() -> dict[str, str | None]:
    """Version of the package, and commit of the checkout it lies in, as they are at the first call."""
    return {"version": __version__, "commit": _commit()}


def _commit() -> str | None:
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    # An installed package may lie inside somebody else's checkout: only a file that git tracks tells of ours.
    tracked = [*git, "ls-files", "--error-unmatch", Path(__file__).name]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
