"""The ActiveLearningLoop: a callback that queries labels between the epochs of one ``fit``."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.annotation import Annotator
from ripu_lightning.errors import InvalidArgument, UserError, require_choice, require_number
from ripu_lightning.evaluation.sliding_window import SlidingWindow
from ripu_lightning.labels import LabelStore, QueriedLabels, Stage
from ripu_lightning.labels.manifest import NAME as MANIFEST
from ripu_lightning.training.acquire import gather_queries, select_queries
from ripu_lightning.training.active_pool import ActivePool, active_pool, classes_of, extend_store
from ripu_lightning.training.annotation_round import annotate_round, check_pending, commit_pending
from ripu_lightning.training.feasibility import budget_departures, check_pool, unspent_in
from ripu_lightning.training.history import RoundRecord, log_round
from ripu_lightning.training.lightning_internals import complete_epoch, delay_kill, drop_loader_states
from ripu_lightning.training.pool_inference import PoolInference, require_dropout, require_outputs
from ripu_lightning.training.ranks import SEARCH, Ranks
from ripu_lightning.training.schedule import Schedule
from ripu_lightning.training.trainer_check import check_accumulation, check_trainer, trainer_arguments


class ActiveLearningLoop(Callback):
    """Queries a round of labels at the end of every stage but the last; a stage is one Lightning epoch.

    It drives any LightningModule whose forward gives logits ``(B, C, h, w)`` or an output with ``logits``, and any
    datamodule that meets :class:`~ripu_lightning.training.ActivePool`::

        loop = ActiveLearningLoop(get_strategy("ripu"), Budget(ratio=0.022), GroundTruth(dataset), schedule, "labels")
        trainer = Trainer(**loop.trainer_arguments(), callbacks=[loop])
        trainer.fit(module, datamodule=datamodule)
        print(loop.history)

    The labels are in the store at ``folder``; each stage trains on them from its first step. The module logs its mean
    IoU as ``val/miou`` and may log ``val/iou/CLASS``; the history holds what it logged.

    Args:
        strategy: what to query.
        budget: how much to query, in how many rounds.
        annotator: who answers.
        schedule: when to query; has as many rounds as the budget.
        folder: of the label store; made if missing. A store of the same data is used again: its rounds count, and only
            the missing ones are made. Another strategy, budget or seed needs another folder.
        seed: seed of everything random in acquisition.
        resize_twice: see :class:`~ripu_lightning.training.pool_inference.PoolInference`.
        patience: minutes that a process waits for another one before the run ends; above 0.
        window: score the pool window by window; None passes each image through the network as a whole.
        extend_pool: take images that the label store does not know into the pool; without it they are refused.

    Attributes:
        history: a record for each stage that ended.
        scored: number of the round whose scores this process computed last; 0 before.
        pending: which answers the run waits for; None where it does not. ``fit`` returns after such a round, and
            another ``fit`` resumes once the answers are there.

    Raises:
        InvalidArgument: a schedule with another number of rounds than the budget, or ``patience`` out of range.
    """

    def __init__(
        self,
        strategy: Strategy,
        budget: Budget,
        annotator: Annotator,
        schedule: Schedule,
        folder: str | Path,
        seed: int = 0,
        resize_twice: bool = False,
        patience: float = 30.0,
        window: SlidingWindow | None = None,
        extend_pool: bool = False,
    ) -> None:
        if schedule.rounds != budget.rounds:
            problem = f"must have as many rounds as the budget, {budget.rounds}, got {schedule.rounds}"
            raise InvalidArgument("ActiveLearningLoop", "schedule", problem)
        require_number("ActiveLearningLoop", "patience", patience, above=True)
        require_choice("ActiveLearningLoop", "extend_pool", extend_pool, (False, True))
        self.strategy, self.budget, self.annotator, self.schedule = strategy, budget, annotator, schedule
        self.folder, self.seed, self.resize_twice = Path(folder), seed, resize_twice
        self.window, self.extend_pool, self.scored = window, extend_pool, 0
        self.history: list[RoundRecord] = []
        self.pending: str | None = None
        self._patience = timedelta(minutes=patience)
        self._checkpoint_rounds: list[str] = []  # SHA-256 of the rounds that were active when it was written
        self._checkpoint_path: str | Path | None = None
        self._checkpoint_step, self._warned = 0, False
        self._store: LabelStore | None = None
        self._ranks: Ranks | None = None

    def trainer_arguments(self) -> dict[str, Any]:
        """The arguments that a Trainer with this callback needs: ``Trainer(**loop.trainer_arguments(), ...)``."""
        return trainer_arguments(self.schedule)

    @property
    def store(self) -> LabelStore:
        """The label store; open from ``setup`` to ``teardown``."""
        if self._store is None:
            raise RuntimeError("ActiveLearningLoop.store: is open during fit only; use LabelStore.open(folder)")
        return self._store

    @property
    def ranks(self) -> Ranks:
        """How the processes of the run talk; known from ``setup`` on."""
        if self._ranks is None:
            raise RuntimeError("ActiveLearningLoop.ranks: the processes of a run are known during fit only")
        return self._ranks

    @property
    def warnings(self) -> list[str]:
        """How the run departs from its budget: by its plan, and in the rounds so far; one line each."""
        return budget_departures(self.strategy, self.budget, self._store) if self._store else []

    def require_ranks(self) -> None:
        """After a failure of communication: say which processes are missing.

        Raises:
            UserError: naming them; nothing happens where all answer.
        """
        if self._ranks is None:
            raise UserError(
                "Trainer: the processes of the run did not come together, see the other messages; start it again"
            )
        self._ranks.require_all()

    def check(self, pool: ActivePool, answers: bool = True) -> None:
        """Refuse, before any training, what cannot work.

        Args:
            pool: the datamodule of the run.
            answers: also check the label store, and the answers that a round waits for; in one process of a run only.

        Raises:
            UserError: a budget that the images do not hold, a label store of other data, or missing or invalid answers.
        """
        self._check_pool(pool)
        if answers and self.extend_pool:
            extend_store(self.folder, pool, self.budget.rounds)
        if answers and (self.folder / MANIFEST).is_file():
            store = LabelStore.open(self.folder, classes=classes_of(pool), images=pool.image_sizes)
            check_pending(self.annotator, store)

    def _check_pool(self, pool: ActivePool) -> None:
        """See :func:`check_pool`; where the annotator does not read the truth, nothing else in the run can."""
        hide_truth = getattr(pool, "hide_truth", None)
        if hide_truth is not None and not self.annotator.reads_truth and getattr(pool, "target_labels", "") != "all":
            hide_truth()
        check = getattr(self.annotator, "check", None)
        if check is not None and self.budget.rounds:
            check(pool.image_sizes, pool.class_names)
        check_pool(self.strategy, self.budget, pool)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check trainer and pool, and open the store: rank 0 writes, others read.

        Answers to the queries of an earlier process are committed here, before any loader is built.
        """
        if stage != "fit":
            return
        pool = active_pool(trainer)
        check_trainer(trainer, self.schedule)
        self._ranks = Ranks(trainer, self._patience)
        delay_kill(3 * SEARCH.total_seconds())
        self._check_pool(pool)
        require_dropout(self.strategy, pl_module)
        classes, images = classes_of(pool), pool.image_sizes
        if trainer.is_global_zero:
            if self.extend_pool:
                extend_store(self.folder, pool, self.budget.rounds)
            self._store = LabelStore.create_or_open(self.folder, classes=classes, images=images)
            commit_pending(self.annotator, self.store, self.strategy)
        self.ranks.meet("opening the label store")
        if not trainer.is_global_zero:
            self._store = LabelStore.open(self.folder, classes=classes, images=images)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the checkpoint's step; the active labels decide how many loaders there are, so their states go."""
        self._checkpoint_step, self._checkpoint_path = int(checkpoint["global_step"]), trainer.ckpt_path
        drop_loader_states(checkpoint)
        check_accumulation(trainer, self.schedule, checkpoint)
        if self._checkpoint_step in {stop for _, stop in self.schedule.spans}:
            complete_epoch(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a store without the labels of the checkpoint, make up for a round that it missed, begin the stage."""
        if self.history:
            self._require_rounds(self.history[-1].round)  # where the run is complete, no later hook is called
        ended = sum(stop <= self._checkpoint_step for _, stop in self.schedule.spans) + self.schedule.initial_rounds
        if self._checkpoint_step and len(self.history) < ended:
            # Written at the last step of a stage, before its round, as ModelCheckpoint(every_n_train_steps=...) does.
            self._end_stage(trainer, pl_module, ended - 1, self._checkpoint_step, {})
        if not self.history and self.store.rounds:
            names = " and ".join(sorted({entry.strategy for entry in self.store.rounds}))
            rank_zero_warn(
                f"{self.folder}: holds {len(self.store.rounds)} rounds selected by {names}; they are used again, "
                "and only further rounds are queried. Choose another folder to query anew"
            )
        if not trainer.enable_validation:
            self._initial_round(trainer, pl_module)
        self._begin_stage(trainer)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the round before the first step; Lightning skips this check in a run that resumes."""
        self._initial_round(trainer, pl_module)
        self._begin_stage(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network without the outputs that a strategy requires, or labels that the checkpoint lacks."""
        if len(self.store.rounds) < self.budget.rounds:
            with torch.random.fork_rng(devices=[]):
                inference = PoolInference(trainer, pl_module, self.strategy, 1, self.seed, window=self.window)
                require_outputs(inference, active_pool(trainer))
        self._require_rounds(trainer.current_epoch + self.schedule.initial_rounds)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a loader that is shorter than the stage."""
        start, stop = self.schedule.spans[trainer.current_epoch]
        count = trainer.accumulate_grad_batches
        if trainer.num_training_batches != (stop - start) * count:
            each = f" of {count} batches" if count > 1 else ""
            raise UserError(
                f"train_dataloader: gives {trainer.num_training_batches:g} batches, but stage {trainer.current_epoch} "
                f"has {stop - start} steps{each}; let it hold at least as many, for example by a sampler with "
                "replacement"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the stage that ended, make the next round, and begin the next stage."""
        if not trainer.is_last_batch:
            raise UserError(
                f"Trainer: something ended a stage after step {trainer.global_step}, before its last step; remove it"
            )
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rounds = trainer.current_epoch + self.schedule.initial_rounds
        self._end_stage(trainer, pl_module, rounds, trainer.global_step, metrics)
        if trainer.current_epoch + 1 < len(self.schedule.spans):
            self._begin_stage(trainer)

    def acquire(self, trainer: Trainer, pl_module: LightningModule, round_number: int) -> None:
        """Score the pool, select queries, and commit their answers; or end the run, which waits for them."""
        inference = PoolInference(
            trainer, pl_module, self.strategy, round_number, self.seed, self.resize_twice, self.window
        )
        with torch.random.fork_rng(devices=[]):  # a DataLoader draws from the global state when it is read
            queries = select_queries(inference, active_pool(trainer), self.store, self.budget, self.ranks)
        queries = gather_queries(queries, self.ranks)
        self.scored = round_number
        leads = trainer.is_global_zero
        pending = annotate_round(self.annotator, self.store, self.strategy, queries) if leads else None
        self.pending, rounds = self.ranks.share((pending, self.store.rounds), f"committing round {round_number}")
        if self.pending:
            trainer.should_stop = True  # Lightning stops after this hook, with its checkpoint
        self.store.refresh()
        if not self.pending and (line := unspent_in(self.store.rounds[-1], self.strategy, self.budget, self.store)):
            rank_zero_warn(line)
        if self.store.rounds != rounds:
            raise UserError(
                f"{self.folder}: rank {trainer.global_rank} sees other labels than rank 0; use a disk that all share"
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the store's lock."""
        if self._store is not None:
            self._store.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the store's lock: Lightning calls no ``teardown`` after an error."""
        self.teardown(trainer, pl_module, "fit")

    def state_dict(self) -> dict[str, Any]:
        """The records so far and what the strategy learned, as plain containers; the labels are on disk."""
        rounds = self._store.rounds if self._store else ()
        return {
            "history": [record.as_dict() for record in self.history],
            "strategy": self.strategy.state_dict(),
            "rounds": [entry.sha256 for entry in rounds],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """See :meth:`state_dict`; the store is not touched."""
        self.history = [RoundRecord(**record) for record in state_dict["history"]]
        self.strategy.load_state_dict(state_dict["strategy"])
        self._checkpoint_rounds = list(state_dict["rounds"])

    def _initial_round(self, trainer: Trainer, module: LightningModule) -> None:
        if self.schedule.initial_rounds and not self.history:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self._end_stage(trainer, module, 0, trainer.global_step, metrics)

    def _end_stage(
        self, trainer: Trainer, module: LightningModule, rounds: int, step: int, metrics: Mapping[str, float]
    ) -> None:
        """Record what training on so many rounds reached, and make the next round where it is due."""
        pool = active_pool(trainer)
        wanted = getattr(pool, "target_eval", pool) is not None  # else there is nothing to evaluate
        if wanted and "val/miou" not in metrics and not self._warned:
            self._warned = True
            rank_zero_warn(
                "ActiveLearningLoop: the module logged no val/miou, so rounds are recorded without it; "
                'call self.log("val/miou", value) in validation'
            )
        total = sum(height * width for height, width in pool.image_sizes.values())
        record = RoundRecord.of(rounds, step, self.store.rounds[:rounds], total, metrics, pool.class_names)
        self.history = [*self.history[:rounds], record]
        log_round(trainer.loggers, self.history)
        prepare = getattr(module, "prepare_evaluation", None)  # on all ranks; callbacks draw what was queried with it
        if prepare is not None:
            prepare()
        # Decided from counts, not from steps: a resumed run must neither lose a round nor make one twice.
        if rounds < self.budget.rounds and len(self.store.rounds) <= rounds:
            self.acquire(trainer, module, rounds + 1)

    def _begin_stage(self, trainer: Trainer) -> None:
        """Hand the stage to the datamodule and have Lightning take as many batches as it has steps."""
        spans, initial = self.schedule.spans, self.schedule.initial_rounds
        rounds = min(len(self.history), len(spans) - 1 + initial)  # a complete run has its last stage again
        if rounds >= initial and not self.pending:
            start, stop = spans[rounds - initial]
            trainer.limit_train_batches = (stop - start) * trainer.accumulate_grad_batches
            # A resumed run may find later rounds in the store than its checkpoint knows: each stage trains on its own.
            labels = QueriedLabels(self.store, rounds)
            active_pool(trainer).begin_stage(Stage(rounds - initial, start, stop, labels))

    def _require_rounds(self, trained_on: int) -> None:
        active: Sequence[str] = [entry.sha256 for entry in self.store.rounds[:trained_on]]
        expected = self._checkpoint_rounds[:trained_on]  # lacks one whose answers came after it
        if len(active) >= trained_on and active[: len(expected)] == expected:
            return
        found = "other rounds than those" if len(active) >= trained_on else f"{len(active)} of the {trained_on} rounds"
        fix = f"remove {self._checkpoint_path or 'the checkpoint'} to train again on these labels"
        if self.store.manifest.rejected.keys().isdisjoint(expected):  # those with rejected answers stay inactive
            fix = f"activate them again (ripu-labels rollback {self.folder} ID), or {fix}"
        raise UserError(f"{self.folder}: {found} that the checkpoint was trained on are active; {fix}")
