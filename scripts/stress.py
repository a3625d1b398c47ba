"""Kill ``ripu-train`` with SIGKILL at random moments, start the same command again, and compare what comes out.

    python scripts/stress.py --kills 200 --ranks 1 2 3

Every start is a real process (or several, with DDP) on the embedded pair; it kills itself, or one of its ranks, at a
moment drawn from the seed. Once a run is through, its labels must equal those of a run that was never touched query
by query, and its checkpoint bit by bit. Ends with 1 where one does not.
"""

import argparse
import faulthandler
import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where the fault injector is
from faults import die, die_after, trap

PLAN = "RIPU_STRESS"
"""Environment variable with the moment at which a process kills itself."""
LIMIT = 120.0
"""Seconds after which a start, or what is left of a killed one, counts as hanging."""

SMALL = [
    "name=stress",
    "pictures=1",
    "checkpoint_every=3",
    "schedule.steps=24",
    "schedule.first_round=8",
    "schedule.interval=6",
    "schedule.horizon=30",
    "data.source.length=5",
    "data.target.length=5",
    "data.target_eval.length=3",
    "data.target.height=64",
    "data.target.width=96",
    "data.source_size=[48,64]",
    "data.target_size=[48,64]",
    "data.batch_size=2",
    "data.eval_batch_size=2",
    "data.num_workers=1",
    "network.width=8",
    "network.dropout=0.2",
    "trainer.accelerator=cpu",
]
"""Three stages of 8, 6 and 10 steps; augmentation, dropout and a worker process for each loader."""
VARIANTS = {
    "ripu": ["strategy=ripu", "budget.rounds=2"],
    "bald": ["strategy=bald", "strategy.samples=2", "budget=clicks", "budget.clicks=9", "budget.rounds=2"],
    "pool": [
        "strategy=d2ada",
        "region_type=superpixel",
        "region_type.segments=30",
        "budget.per=pool",
        "budget.rounds=2",
    ],
    "teacher": ["loss=self_training", "data.source_sampling=class_balanced", "budget.rounds=2"],
}


@dataclass(frozen=True)
class Moment:
    """Where a start is killed.

    Attributes:
        place: one of :data:`PLACES`, or "any time".
        call: at which call of the place, from 1.
        when: "before" the call, "after" it, or "inside", so many seconds after it began.
        delay: seconds, for "inside" and "any time".
        rank: which process.
    """

    place: str
    call: int
    when: str
    delay: float
    rank: int

    def __str__(self) -> str:
        if self.place == "any time":
            return f"{self.delay:.1f} s after its start"
        return f"{self.when} {self.place}, call {self.call}" + (f", rank {self.rank}" if self.rank else "")


# Place -> (function, greatest call that is drawn).
PLACES: dict[str, tuple[str, int]] = {
    "a step": ("ripu_lightning.training.module:SegmentationModule.training_step", 16),
    "an update of the weights": ("ripu_lightning.training.module:SegmentationModule.optimizer_step", 16),
    "a validation step": ("ripu_lightning.training.module:SegmentationModule.validation_step", 3),
    "scoring an image": ("ripu_lightning.training.pool_inference:PoolInference.image", 4),
    "gathering the ranks' answers": ("ripu_lightning.training.ranks:Ranks.gather", 2),
    "sharing among the ranks": ("ripu_lightning.training.ranks:Ranks.share", 2),
    "answering a query": ("ripu_lightning.annotation.annotators:GroundTruth.answer", 5),
    "writing a round": ("ripu_lightning.labels.store:write_round", 2),
    "writing the manifest": ("ripu_lightning.labels.store:write_manifest", 2),
    "committing a round": ("ripu_lightning.labels.store:LabelStore.commit", 2),
    "writing a checkpoint": ("ripu_lightning.training.checkpoint_io:AtomicCheckpointIO.save_checkpoint", 6),
    "reading a checkpoint": ("ripu_lightning.training.checkpoint_io:AtomicCheckpointIO.load_checkpoint", 1),
    "putting a file in its place": ("os:replace", 10),
    "syncing a file": ("os:fsync", 20),
    "writing tables and curve": ("ripu_lightning.report.run_files:RunFiles.on_train_epoch_end", 3),
}
EVERYWHERE = {
    "a step",
    "an update of the weights",
    "a validation step",
    "scoring an image",
    "gathering the ranks' answers",
    "sharing among the ranks",
}
"""Places that every rank comes to; files are rank 0's."""


def draw(rng: random.Random, ranks: int) -> Moment:
    """A moment to be killed at; every place is as likely as the others."""
    place = rng.choice([*PLACES, "any time"])
    if place == "any time":
        return Moment(place, 1, "inside", rng.uniform(0, 12), 0)
    when = rng.choice(["before", "inside", "after"])
    rank = rng.randrange(ranks) if place in EVERYWHERE else 0
    return Moment(place, rng.randint(1, PLACES[place][1]), when, rng.uniform(0, 0.03), rank)


def main() -> None:
    """Command line; started by itself with :data:`PLAN`, the victim."""
    if PLAN in os.environ:
        return victim(Moment(**json.loads(os.environ[PLAN])))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all, over as many runs as it takes")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1], help="numbers of processes, in turn")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--folder", type=Path, help="keep the runs here; by default they are removed")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        outcome = Stress(options.folder or Path(temporary), options.seed).run(
            options.kills, list(itertools.product(options.variants, options.ranks)), options.jobs
        )
    print(f"{time.monotonic() - began:.0f} s; {outcome}")
    sys.exit(bool(outcome.faults))


def victim(moment: Moment) -> None:
    """This process as ``ripu-train`` that is killed at ``moment``; SIGUSR2 has it tell where it is."""
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    if int(os.environ.get("LOCAL_RANK", 0)) == moment.rank:
        late = functools.partial(die_after, moment.delay)
        if moment.place == "any time":
            late()
        elif moment.when == "inside":
            trap(PLACES[moment.place][0], moment.call, late)
        else:
            trap(PLACES[moment.place][0], moment.call, die, moment.when)
    from ripu_lightning.cli.train import main as train

    train()


class Outcome:
    """What was done so far; runs at the same time write into it."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        self.runs = self.starts = 0
        self.slowest = 0.0
        self.faults: list[str] = []

    def __str__(self) -> str:
        places = "\n".join(f"  {count:4d} x {place}" for place, count in self.kills.most_common())
        faults = "\n".join(f"FAULT {fault}" for fault in self.faults)
        return (
            f"{self.kills.total()} kills in {self.starts} starts of {self.runs} runs; what outlived a killed process "
            f"longest did so for {self.slowest:.1f} s; {len(self.faults)} faults\n{places}\n{faults}"
        )


class Stress:
    """Runs that are killed, and those that were not to compare them with.

    Args:
        folder: of all runs.
        seed: what is drawn follows from it.
        overrides: of all runs, after those of :data:`SMALL`.
        popen: starts a process.
    """

    def __init__(
        self, folder: Path, seed: int, overrides: Sequence[str] = (), popen: type[subprocess.Popen] = subprocess.Popen
    ) -> None:
        self.overrides, self.popen = overrides, popen
        self.folder, self.rng, self.outcome = folder.resolve(), random.Random(seed), Outcome()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kills = 0
        self.watchers = ThreadPoolExecutor(32)
        self.seen: list[Future[None]] = []

    def run(self, kills: int, kinds: list[tuple[str, int]], jobs: int) -> Outcome:
        """Kill at least so many times, runs of all ``(variant, ranks)`` in turn, each once or more."""
        self.kills = kills
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self._reference, dict.fromkeys(kinds)))
            if not self.outcome.faults:
                seeds = (self.rng.random() for _ in itertools.count())
                turns = zip(itertools.cycle(kinds), seeds, itertools.count(), strict=False)
                lock = threading.Lock()

                def work(_: int) -> None:
                    while True:
                        with lock:
                            kind, seed, number = next(turns)
                        if number >= len(kinds) and self.outcome.kills.total() >= kills:
                            return
                        self._torment(kind, random.Random(seed), number)

                list(pool.map(work, range(jobs)))
        for each in self.seen:
            each.result()
        return self.outcome

    def _reference(self, kind: tuple[str, int]) -> None:
        code = self._start(self._whole(kind), kind, None)
        if code != 0:
            self.outcome.faults.append(f"{kind}: a run that nobody touched ended with {code}")

    def _whole(self, kind: tuple[str, int]) -> Path:
        return self.folder / f"{kind[0]}_{kind[1]}_whole"

    def _torment(self, kind: tuple[str, int], rng: random.Random, number: int) -> None:
        """One run, killed up to eight times (and not more often than wanted in all), then left alone."""
        folder, killed = self.folder / f"{kind[0]}_{kind[1]}_{number}", []
        for attempt in itertools.count():
            moment = draw(rng, kind[1]) if attempt < min(8, self.kills) else None
            code = self._start(folder, kind, moment)
            if code == 0:
                break
            killed.append(str(moment))
            if moment is None or not self._expected(code, moment, folder):
                self.outcome.faults.append(f"{folder.name}: ended with {code} after {killed}")
                return
            self.outcome.kills[moment.place] += 1
        differences = compare(folder, self._whole(kind))
        self.outcome.faults += [f"{folder.name}: {each} after {killed}" for each in differences]
        self.outcome.runs += 1
        text = "; ".join(killed) or "nothing"
        print(f"{self.outcome.kills.total():4d} {folder.name}: killed {text}: {differences or 'equal'}", flush=True)
        if not differences:
            shutil.rmtree(folder)

    @staticmethod
    def _expected(code: int, moment: Moment, folder: Path) -> bool:
        # After another rank was killed the first one ends by itself, and says so.
        last = folder.with_name(f"{folder.name}.log").read_text(errors="replace")[-2000:]
        named = f"rank {moment.rank} ended or did not answer" in last
        return code == -signal.SIGKILL or (moment.rank > 0 and code == 1 and named)

    def _start(self, folder: Path, kind: tuple[str, int], moment: Moment | None) -> int:
        """Start the command and wait for its end, but not for that of its workers and other ranks."""
        ranks = [f"trainer.devices={kind[1]}", f"output={folder}", "data.cache=null"]  # no start of another run
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if moment is not None:
            environment[PLAN] = json.dumps(vars(moment))
        command = [sys.executable, __file__] if moment else [sys.executable, "-m", "ripu_lightning.cli.train"]
        log = folder.with_name(f"{folder.name}.log")
        self.outcome.starts += 1
        with log.open("ab") as file:
            process = self.popen(
                [*command, *SMALL, *VARIANTS[kind[0]], *self.overrides, *ranks],
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            try:
                code = process.wait(LIMIT * 2)
            except subprocess.TimeoutExpired:
                self.outcome.faults.append(f"{folder.name}: hung, {moment}; where is in {log}")
                if moment is not None:
                    os.killpg(process.pid, signal.SIGUSR2)
                    time.sleep(3)
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait()
        self.seen.append(self.watchers.submit(self._see_end, process.pid, f"{folder.name}: {moment}"))
        return code

    def _see_end(self, session: int, name: str) -> None:
        """All processes of a session must end by themselves."""
        began = time.monotonic()
        while _alive(session):
            if time.monotonic() - began > LIMIT:
                self.outcome.faults.append(f"{name}: a part of it lives on")
                return os.killpg(session, signal.SIGKILL)
            time.sleep(0.1)
        self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - began)


def _alive(session: int) -> bool:
    """Whether a process of the session is there that is not dead already."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended just now
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


def compare(ours: Path, theirs: Path) -> list[str]:
    """What differs between two run folders that must be equal."""
    found = [] if (ours / "rounds.csv").read_bytes() == (theirs / "rounds.csv").read_bytes() else ["rounds.csv differs"]
    one, other = (json.loads((each / "result.json").read_bytes()) for each in (ours, theirs))
    del one["code"], other["code"]  # whose commit may change while this runs
    found += [] if one == other else ["result.json differs"]
    return found + compare_labels(ours / "labels", theirs / "labels") + compare_weights(ours, theirs)


def compare_labels(ours: Path, theirs: Path) -> list[str]:
    """Query by query."""
    import numpy as np

    from ripu_lightning.labels import LabelStore

    one, other = LabelStore.open(ours), LabelStore.open(theirs)
    if len(one.rounds) != len(other.rounds) or set(one.queried_images) != set(other.queried_images):
        return [f"{len(one.rounds)} rounds instead of {len(other.rounds)}, or of other images"]
    for number, image in itertools.product(range(1, len(other.rounds) + 1), other.queried_images):
        pair = one.answers(image, number), other.answers(image, number)
        if pair[0] is None or pair[1] is None:
            if pair[0] is not pair[1]:
                return [f"round {number}, {image}: queried in one run only"]
            continue
        for column in ("centres", "boxes", "values", "scores"):
            if not np.array_equal(getattr(pair[0], column), getattr(pair[1], column)):
                return [f"round {number}, {image}: {column} differ"]
    return []


def compare_weights(ours: Path, theirs: Path) -> list[str]:
    """Bit by bit: network, teacher, optimiser and schedule."""
    import torch

    one, other = (torch.load(each / "checkpoints" / "last.ckpt", weights_only=True) for each in (ours, theirs))
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    return [f"the checkpoint's {part} differ" for part in parts if not _equal(one[part], other[part])]


def _equal(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


if __name__ == "__main__":
    main()
