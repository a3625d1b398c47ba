"""Which runs may stand in one mean, which in one comparison, and what stands against a comparison."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ripu_lightning.report.entries import budget_text, protocol_text
from ripu_lightning.report.page.runs import Run
from ripu_lightning.report.result import decisive

FEW_SEEDS = 3
"""Below so many seeds a report says that they are too few."""

_LEFT_OUT = {"unfinished", "unknown", "no mIoU"}
_COMMON = ("network", "data", "schedule", "optimizer", "parity", "initial", "pretrain")
_IDLE = ("strategy", "geometry", "selection", "budget", "annotator")
"""Groups of the config that change nothing where nothing is bought."""
_FREE = re.compile(r"(.*\.)?(seed|root)|data\.target_labels|evaluation\..*")
"""Keys that differ between seeds or kinds, or that the protocol tells."""
_AMOUNT = re.compile(r"budget\.(?!(per|split)$).*")
"""Keys that tell how much a family buys, and in how many rounds."""
_SHOWN = 4
"""Most keys in a label."""


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seeds.

    Attributes:
        label: what the tables call it; unique in its group.
        family: all that tells it from others but for the amount: methods of one family differ in that alone.
        kind: see :attr:`~ripu_lightning.report.page.runs.Run.kind`.
        runs: one a seed, in order of the seeds.
    """

    label: str
    family: str
    kind: str
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        """The label without the amount."""
        return self.label.removesuffix(f", {_amount(self.runs[0])}")

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""
        return [run.result.seed for run in self.runs]

    @property
    def budget(self) -> str:
        """In a few words."""
        return budget_text(self.runs[0].result.budget)


@dataclass(frozen=True)
class Group:
    """Runs of one protocol, network, pair of data and schedule, which may be compared with each other.

    Attributes:
        title: of the group.
        common: what all of it has in common: the parts of the protocol, and the keys of the config.
        methods: those that bought labels, then those with all of them, then those with none.
        unfinished: left out of all figures.
        cautions: what stands against a comparison, a line each.
    """

    title: str
    common: Mapping[str, str]
    methods: Sequence[Method]
    unfinished: Sequence[Run]
    cautions: Sequence[str]

    def of(self, kind: str) -> list[Method]:
        """The methods of one kind."""
        return [method for method in self.methods if method.kind == kind]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The groups in the order in which their first runs come.

    An evaluation has no config of its own; it takes that of the run whose digest it tells.
    """
    configs = {run.result.config: run.config for run in runs if run.config}
    flat = {id(run): _settings(run.config or configs.get(run.result.config, {})) for run in runs}
    gathered: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        common = {key: value for key, value in flat[id(run)].items() if _is_common(key)}
        gathered[json.dumps([run.result.protocol, common], sort_keys=True)].append(run)
    groups = []
    for number, (key, members) in enumerate(gathered.items(), start=1):
        groups.append(_group(number, json.loads(key)[1], members, {id(run): flat[id(run)] for run in members}))
    return groups


def differences(groups: Sequence[Group]) -> list[str]:
    """The parts of the protocol and keys of the config in which groups differ."""
    return _differing([group.common for group in groups])


def _settings(config: Mapping[str, object]) -> dict[str, str]:
    """What decides a run's figures, as texts, but for its seeds and where its data lie."""
    found = {key: str(value) for key, value in decisive(config).items() if not _FREE.fullmatch(key)}
    if found.get("initial", "None") != "None":
        found["initial"] = "given"  # each seed has its own
    return found


def _is_common(key: str) -> bool:
    return key.split(".")[0] in _COMMON


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys whose values are not the same in all of them."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def _group(
    number: int, common: Mapping[str, str], members: Sequence[Run], settings: Mapping[int, dict[str, str]]
) -> Group:
    finished = [run for run in members if run.kind not in _LEFT_OUT]
    methods, repeats = _methods(finished, settings)
    order = {"bought": 0, "all": 1, "none": 2}
    methods.sort(key=lambda method: (order[method.kind], *_purchase(method.runs[0]), method.label))
    protocol = {part.replace("_", " "): str(value) for part, value in members[0].result.protocol.items()}
    unfinished = [run for run in members if run.kind in _LEFT_OUT]
    cautions = _cautions(methods, finished, repeats, bool(common))
    return Group(f"Group {number}", {**protocol, **common}, methods, unfinished, cautions)


def about(group: Group) -> str:
    """Protocol and network of a group, in a line."""
    runs = [*(method.runs[0] for method in group.methods), *group.unfinished]
    network = group.common.get("network._target_", "unknown").rpartition(".")[2]
    return f"{protocol_text(runs[0].result.protocol, in_full=True)}; network {network}"


def _methods(runs: Sequence[Run], settings: Mapping[int, dict[str, str]]) -> tuple[list[Method], int]:
    """The methods of some finished runs, and the number of runs that repeat another one of the same seed."""
    gathered: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    repeats = 0
    for run in sorted(runs, key=lambda run: (run.result.seed, not run.stages)):
        own = {key: value for key, value in settings[id(run)].items() if not _is_common(key)}
        if run.kind != "bought":
            own = {key: value for key, value in own.items() if key.split(".")[0] not in _IDLE}
        purchase = {key: run.result.budget[key] for key in ("unit", "amount", "per", "rounds")}
        key = (run.kind, json.dumps([run.result.strategy, purchase, own], sort_keys=True))
        repeats += run.result.seed in gathered[key]
        gathered[key].setdefault(run.result.seed, run)
    found = [(kind, list(members.values())) for (kind, _), members in gathered.items()]
    labels = _labels([(kind, members[0]) for kind, members in found], settings)
    return [Method(*label, kind, members) for label, (kind, members) in zip(labels, found, strict=True)], repeats


def _labels(firsts: Sequence[tuple[str, Run]], settings: Mapping[int, dict[str, str]]) -> list[tuple[str, str]]:
    """Label and family of each method: its strategy, and what else tells it from the others of its name."""
    names = [_name(kind, run) for kind, run in firsts]
    # A result tells what is spent on what even where there is no config.
    told = [{**settings[id(run)], "budget.per": str(run.result.budget["per"])} for _, run in firsts]
    families, labels = [], []
    for name, (kind, _), own in zip(names, firsts, told, strict=True):
        namesakes = [other for same, other in zip(names, told, strict=True) if same == name]
        keys = [key for key in _differing(namesakes) if _names_method(key, kind)]
        texts = [_said(key, own[key]) for key in keys if key in own]  # what it does not have is as published
        families.append(f"{name} ({', '.join(texts)})" if texts else name)
        shown = [*texts[:_SHOWN], *(["..."] if len(texts) > _SHOWN else [])]
        labels.append(f"{name} ({', '.join(shown)})" if texts else name)
    for index, (family, (_, run)) in enumerate(zip(families, firsts, strict=True)):
        labels[index] += f", {_amount(run)}" if families.count(family) > 1 else ""
    numbered = enumerate(labels, start=1)
    unique = [f"{label} #{number}" if labels.count(label) > 1 else label for number, label in numbered]
    return list(zip(unique, families, strict=True))


def _said(key: str, value: str) -> str:
    """A setting as part of a label; of an object, the part it plays and its class.

    >>> _said("geometry._target_", "ripu_lightning.acquisition.WholeImage"), _said("strategy.radius", "2")
    ('geometry WholeImage', 'radius 2')
    """
    owner, _, name = key.rpartition(".")
    return f"{owner.rpartition('.')[2]} {value.rpartition('.')[2]}" if name == "_target_" else f"{name} {value}"


def _names_method(key: str, kind: str) -> bool:
    """Whether a key may stand in the name of a method of this kind."""
    idle = _AMOUNT.fullmatch(key) if kind == "bought" else key.split(".")[0] in _IDLE
    return not idle and not _is_common(key)


def _name(kind: str, run: Run) -> str:
    return {"all": "all labels", "none": "source only"}.get(kind, str(run.result.strategy))


def _purchase(run: Run) -> tuple[str, float]:
    return str(run.result.budget["unit"]), run.result.budget["amount"] or 0.0


def _amount(run: Run) -> str:
    budget = run.result.budget
    return f"{budget['unit']} {budget['amount']:g}, {budget['rounds']} rounds" if budget["rounds"] else "no budget"


def _cautions(methods: Sequence[Method], runs: Sequence[Run], repeats: int, known: bool) -> list[str]:
    few = [f"{method.label} ({len(method.seeds)})" for method in methods if len(method.seeds) < FEW_SEEDS]
    codes = {(run.result.code["version"], run.result.code["commit"]) for run in runs}
    lines = []
    if few:
        lines.append(f"fewer than {FEW_SEEDS} seeds, hence wide intervals or none: {', '.join(few)}")
    if len({tuple(method.seeds) for method in methods if method.kind == "bought"}) > 1:
        lines.append("methods have other seeds: only those that both have are paired")
    if len(codes) > 1:
        names = sorted(f"{version} {(commit or '')[:8]}".strip() for version, commit in codes)
        lines.append(f"the code is of {len(codes)} versions: {', '.join(names)}")
    elif any((commit or "").endswith("-dirty") for _, commit in codes):
        lines.append("the code had changes that were not committed")
    if runs and runs[0].result.protocol["data"] is None:
        lines.append("the evaluation data have no fingerprint: they need not be the same")
    if not known:
        lines.append("there is no config of these runs: network, schedule and training data need not be the same")
    if repeats:
        lines.append(f"{repeats} more of the same config and seed are left out")
    if len({run.ledger.pixels for run in runs if run.ledger}) > 1:
        lines.append("the pools are of different sizes")
    return lines
