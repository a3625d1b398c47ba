"""Which runs may be averaged, which may be compared, and what limits a comparison."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ripu_lightning.report.page.run_folder import Run
from ripu_lightning.report.result import RECIPE, decisive
from ripu_lightning.report.results_by_protocol import budget_text, protocol_text

FEW_SEEDS = 3
"""Below so many seeds a report says that they are too few."""

_LEFT_OUT = {"unfinished", "unknown", "no mIoU"}
_ORDER = {"queried": 0, "all": 1, "none": 2}
_TRAINING = ("schedule", "optimizer", "lr_schedule", "batchnorm", "average_decay")
_COMMON = ("network", "data", *_TRAINING, "parity", "initial", "pretrain")
_IDLE = ("strategy", "region_type", "selection_rule", "budget", "annotator", "scoring", "parity")
"""Groups of the config that change nothing where nothing is queried: other groups hold what parity does elsewhere."""
_FREE = re.compile(r"(.*\.)?(seed|root)|data\.target_labels|evaluation\..*|schedule\.horizon")
"""Keys that differ between seeds or kinds, or that the protocol or other keys hold."""
_OF_ROUNDS = re.compile(r"schedule\.(first_round|interval)|parity\..*")
"""Keys of a group that are missing in runs with too few rounds for them to change anything."""
_POOL_LABELS = "pool.labels"
_UNEVALUATED = "evaluation data"
_AMOUNT = re.compile(r"budget\.(?!(per|split)$).*")
"""Keys that say how much a family labels, and in how many rounds."""
_SHOWN = 4
"""Most keys in a label."""


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seeds.

    Attributes:
        label: in tables; unique in its group.
        family: all that differs from other methods but for the amount: methods of one family differ in that only.
        kind: see :attr:`~ripu_lightning.report.page.run_folder.Run.kind`.
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
        about: protocol and network, in a line.
        common: the parts of the protocol and keys of the config that all its runs share.
        methods: those with queries, then those with all labels, then those with none.
        unfinished: left out of all figures.
        cautions: what limits a comparison, a line each.
    """

    title: str
    about: str
    common: Mapping[str, str]
    methods: Sequence[Method]
    unfinished: Sequence[Run]
    cautions: Sequence[str]

    def of(self, kind: str) -> list[Method]:
        """The methods of one kind."""
        return [method for method in self.methods if method.kind == kind]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The groups in the order in which their first runs come.

    An evaluation has no config of its own; it takes the config and the data of the run with the same digest. A run with
    too few rounds for a key to have an effect, such as one on all labels, is in every group that it agrees with.
    """
    known = {run.result.config: run for run in runs if run.config}
    settings = {id(run): _settings(run if run.config else known.get(run.result.config, run), run) for run in runs}
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        common = {key: value for key, value in _common(settings[id(run)]).items() if not _OF_ROUNDS.fullmatch(key)}
        alike[json.dumps([run.result.protocol, _without_truth(run), common], sort_keys=True)].append(run)
    found = [members for each in alike.values() for members in _by_rounds(each, settings)]
    found.sort(key=lambda members: runs.index(members[0]))
    return [_group(number, members, settings) for number, members in enumerate(found, start=1)]


def _by_rounds(runs: Sequence[Run], settings: Mapping[int, dict[str, str]]) -> list[list[Run]]:
    """Runs that share all but keys of rounds, as groups in which those agree as far as they are there."""

    def own(run: Run) -> dict[str, str]:
        return {key: value for key, value in settings[id(run)].items() if _OF_ROUNDS.fullmatch(key)}

    groups: list[tuple[dict[str, str], set[int]]] = []
    for index in sorted(range(len(runs)), key=lambda index: -len(own(runs[index]))):
        keys = own(runs[index])
        fitting = [members for known, members in groups if keys.items() <= known.items()]
        for members in fitting:
            members.add(index)
        if not fitting:
            groups.append((keys, {index}))
    return [[runs[index] for index in sorted(members)] for _, members in groups]


def differences(groups: Sequence[Group]) -> list[str]:
    """The parts of the protocol and keys of the config in which groups differ."""
    evaluated = [group.common for group in groups if _UNEVALUATED not in group.common]
    return [*_differing(evaluated), *([_UNEVALUATED] if len(evaluated) < len(groups) else [])]


def _settings(recorded: Run, run: Run) -> dict[str, str]:
    """All that a run's figures depend on, as texts, except its seeds and the folders of its data.

    ``recorded`` has the config and the data record, ``run`` the result.
    """
    found = {key: str(value) for key, value in decisive(recorded.config).items() if not _FREE.fullmatch(key)}
    if found.get("initial", "None") != "None":
        found["initial"] = "given"  # each seed has its own
    if run.result.protocol and run.result.protocol["data"]:  # says what was evaluated
        found = {key: value for key, value in found.items() if not f"{key}.".startswith("data.target_eval.")}
    for name, part in recorded.data.items():
        # Wherever images and class map are, and whatever their files are called.
        found = {key: value for key, value in found.items() if not f"{key}.".startswith(f"data.{name}.classes.")}
        if name != "target_eval":  # which the protocol holds
            found |= {f"data.{name}.content": content[:12]} if (content := part.digest("images")) else {}
        if name == "target" and (content := part.digest("labels")) and run.kind != "none":
            found[_POOL_LABELS] = content[:12]
    return {key: value for key, value in found.items() if _has_effect(key, found, run)}


def _has_effect(key: str, settings: Mapping[str, str], run: Run) -> bool:
    """Whether a key changed anything in a run with so many rounds and such weights of its loss terms."""
    rounds, term = run.result.budget["rounds"], re.fullmatch(r"loss\.(?:terms|weights)\.([^.]+)(\..*)?", key)
    if term and settings.get(f"loss.weights.{term[1]}") in {"0", "0.0"}:
        return False
    if rounds == 0:
        return key.split(".")[0] not in _IDLE and not _OF_ROUNDS.fullmatch(key)
    return rounds != 1 or key != "schedule.interval"


def _common(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key in RECIPE or key.split(".")[0] in _COMMON}


def _without_truth(run: Run) -> list[str]:
    """Classes that the evaluation did not count: means of runs in which these differ are not over the same classes."""
    return [name for name, iou in run.result.iou.items() if iou is None]


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys whose values are not the same in all of them."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def _group(number: int, members: Sequence[Run], settings: Mapping[int, dict[str, str]]) -> Group:
    finished = [run for run in members if run.kind not in _LEFT_OUT]
    unfinished = [run for run in members if run.kind in _LEFT_OUT]
    methods, repeats = _methods(finished, settings)
    protocol = members[0].result.protocol
    common = max((_common(settings[id(run)]) for run in members), key=len)
    network = common.get("network._target_", "unknown").rpartition(".")[2]
    cautions = _cautions(methods, finished, repeats, any(not key.endswith(".content") for key in common))
    about = f"{protocol_text(protocol, in_full=True)}; network {network}"
    parts = {"classes without truth": _without_truth(members[0]), **(protocol or {_UNEVALUATED: "none"})}
    common = {**{part.replace("_", " "): str(value) for part, value in parts.items()}, **common}
    return Group(f"Group {number}", about, common, methods, unfinished, cautions)


def _methods(runs: Sequence[Run], settings: Mapping[int, dict[str, str]]) -> tuple[list[Method], int]:
    """The methods of some finished runs, and the number of runs that repeat another one of the same seed."""
    gathered: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    repeats = 0
    for run in sorted(runs, key=lambda run: (run.result.seed, not run.curve)):
        own = dict(settings[id(run)].items() - _common(settings[id(run)]).items())
        budget = run.result.budget
        amount = [budget["unit"], budget["amount"], budget["per"], budget["rounds"]]
        key = (run.kind, json.dumps([run.result.strategy, amount, own], sort_keys=True))
        repeats += run.result.seed in gathered[key]
        gathered[key].setdefault(run.result.seed, run)
    found = [(kind, list(members.values())) for (kind, _), members in gathered.items()]
    labels = _labels([(kind, members[0]) for kind, members in found], settings)
    methods = [Method(*label, kind, members) for label, (kind, members) in zip(labels, found, strict=True)]
    return sorted(methods, key=_place), repeats


def _place(method: Method) -> tuple[int, str, float, str]:
    budget = method.runs[0].result.budget
    return _ORDER[method.kind], str(budget["unit"]), budget["amount"] or 0.0, method.label


def _labels(firsts: Sequence[tuple[str, Run]], settings: Mapping[int, dict[str, str]]) -> list[tuple[str, str]]:
    """Label and family of each method: its strategy, and the settings that differ from others of that name."""
    names = [{"all": "all labels", "none": "source only"}.get(kind, str(run.result.strategy)) for kind, run in firsts]
    # A result says what the budget is counted per even where there is no config.
    all_settings = [{**settings[id(run)], "budget.per": str(run.result.budget["per"])} for _, run in firsts]
    families, labels = [], []
    for name, (kind, _), own in zip(names, firsts, all_settings, strict=True):
        namesakes = [other for same, other in zip(names, all_settings, strict=True) if same == name]
        keys = [key for key in _differing(namesakes) if _names_method(key, kind)]
        texts = [_setting_text(key, own[key]) for key in keys if key in own]  # a missing key has its default
        families.append(f"{name} ({', '.join(texts)})" if texts else name)
        shown = [*texts[:_SHOWN], *(["..."] if len(texts) > _SHOWN else [])]
        labels.append(f"{name} ({', '.join(shown)})" if texts else name)
    for index, (family, (_, run)) in enumerate(zip(families, firsts, strict=True)):
        labels[index] += f", {_amount(run)}" if families.count(family) > 1 else ""
    numbered = enumerate(labels, start=1)
    unique = [f"{label} #{number}" if labels.count(label) > 1 else label for number, label in numbered]
    return list(zip(unique, families, strict=True))


def _setting_text(key: str, value: str) -> str:
    """A setting as part of a label; of an object, its group and its class.

    >>> _setting_text("region_type._target_", "ripu_lightning.acquisition.WholeImage"), _setting_text("a.radius", "2")
    ('region_type WholeImage', 'radius 2')
    """
    owner, _, name = key.rpartition(".")
    return f"{owner.rpartition('.')[2]} {value.rpartition('.')[2]}" if name == "_target_" else f"{name} {value}"


def _names_method(key: str, kind: str) -> bool:
    """Whether a key may be in the name of a method of this kind."""
    idle = _AMOUNT.fullmatch(key) if kind == "queried" else key.split(".")[0] in _IDLE
    return not idle and not _common({key: ""})


def _amount(run: Run) -> str:
    budget = run.result.budget
    return f"{budget['unit']} {budget['amount']:g}, {budget['rounds']} rounds" if budget["rounds"] else "no budget"


def _cautions(methods: Sequence[Method], runs: Sequence[Run], repeats: int, known: bool) -> list[str]:
    few = [f"{method.label} ({len(method.seeds)})" for method in methods if len(method.seeds) < FEW_SEEDS]
    codes = {(run.result.code["version"], run.result.code["commit"]) for run in runs}
    names = sorted(f"{version} {(commit or '')[:8]}".strip() for version, commit in codes)
    several_seeds = len({tuple(method.seeds) for method in methods if method.kind == "queried"}) > 1
    changed = len(codes) == 1 and any((commit or "").endswith("-dirty") for _, commit in codes)
    sizes = {run.ledger.pixels for run in runs if run.ledger}
    missing = _without_truth(runs[0]) if runs else []
    unknown = any(run.result.protocol is None or run.result.protocol["data"] is None for run in runs)
    lines = {
        f"no pixel of the evaluation data is of {', '.join(missing)}: no mean counts these classes": missing,
        f"fewer than {FEW_SEEDS} seeds, so intervals are wide or missing: {', '.join(few)}": few,
        "methods have different seeds: only the seeds that both have are paired": several_seeds,
        f"the runs used {len(codes)} versions of the code: {', '.join(names)}": len(codes) > 1,
        "the code had changes that were not committed": changed,
        "the evaluation data have no fingerprint: they may differ": runs and unknown,
        "these runs have no config: network, schedule and training data may differ": not known,
        f"{repeats} more of the same config and seed are left out": repeats,
        "the pools are of different sizes": len(sizes) > 1,
    }
    return [line for line, applies in lines.items() if applies]
