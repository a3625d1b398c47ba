"""The ActiveLearningLoop: a callback that buys labels between the epochs of one ``fit``."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.annotation import Annotator
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.manifest import NAME as MANIFEST
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.acquire import gather_queries, pick_queries
from ripu_lightning.training.asking import ask, check_answers, settle
from ripu_lightning.training.history import RoundRecord, log_round
from ripu_lightning.training.passes import Passes, require_dropout, require_features
from ripu_lightning.training.plan import check_data
from ripu_lightning.training.ranks import Ranks
from ripu_lightning.training.stages import Stages


class ActiveLearningLoop(Callback):
    """Buys a round of labels at the end of every stage but the last; a stage is one Lightning epoch.

    The trainer needs ``max_epochs=len(stages.spans)``, ``reload_dataloaders_every_n_epochs=1`` (loaders are built
    anew, so that labels are used from the very next step) and ``use_distributed_sampler=False``. Where the first
    round comes before the first step, ``num_sanity_val_steps=-1`` tells what the network reaches without labels.
    Any LightningModule whose forward gives logits can be driven.

    Args:
        strategy: what to ask.
        budget: how much to ask, in how many rounds.
        annotator: who answers.
        stages: when to ask.
        folder: the label store's; made if missing, gone on with if it holds a store of the same data.
        seed: the run's seed.
        resize_twice: see :class:`~ripu_lightning.training.passes.Passes`.
        patience: minutes that a process waits for another one before the run ends; above 0.
    """

    def __init__(
        self,
        strategy: Strategy,
        budget: Budget,
        annotator: Annotator,
        stages: Stages,
        folder: str | Path,
        seed: int = 0,
        resize_twice: bool = False,
        patience: float = 30.0,
    ) -> None:
        self.strategy, self.budget, self.annotator = strategy, budget, annotator
        self.stages, self.folder, self.seed, self.resize_twice = stages, Path(folder), seed, resize_twice
        self.history: list[RoundRecord] = []
        self._known: list[str] = []  # the rounds that were in force when the checkpoint was written
        self.scored = 0  # the round whose scores this process computed last
        self.waiting: str | None = None  # the answers for which the run ended before its last stage
        self._patience = timedelta(minutes=patience)
        self._store: LabelStore | None = None
        self._ranks: Ranks | None = None

    @property
    def store(self) -> LabelStore:
        """The label store; open from ``setup`` to ``teardown``."""
        if self._store is None:
            raise RuntimeError("the label store is open during fit only")
        return self._store

    @property
    def ranks(self) -> Ranks:
        """How the processes of the run talk; known from ``setup`` on."""
        if self._ranks is None:
            raise RuntimeError("the processes of a run are known during fit only")
        return self._ranks

    def require_ranks(self) -> None:
        """After a failure of communication: tell which processes are missing.

        Raises:
            UserError: naming them; where all answer, nothing is said.
        """
        if self._ranks is None:
            raise UserError(
                "trainer: the processes of the run did not come together, see the messages of the others; start the "
                "same command again"
            )
        self._ranks.require_all()

    def check(self, datamodule: ActiveDataModule, answers: bool = True) -> None:
        """Refuse a plan that the images can not hold, labels of other data, and answers that lack or can not be.

        The target's truth is hidden from everything where the annotator does not read it.

        Args:
            datamodule: of the run.
            answers: also look for those that a round waits for; one process of a run may ask for them.

        Raises:
            UserError: naming the key, the folder or the file.
        """
        self._check_plan(datamodule)
        if (self.folder / MANIFEST).is_file():
            store = LabelStore.open(self.folder, classes=datamodule.classes.names, images=_sizes(datamodule))
            if answers:
                check_answers(self.annotator, store)

    def _check_plan(self, datamodule: ActiveDataModule) -> None:
        """What needs no look into the store."""
        if not self.annotator.reads_truth and datamodule.target_labels != "all":
            datamodule.hide_truth()
        elif self.budget.rounds and not datamodule.target.has_labels:
            raise UserError(
                f"annotator: {self.annotator.name} answers from the target's labels, but data.target has none; "
                "add annotator=files"
            )
        if self.budget.rounds:
            check_data(self.strategy, self.budget, datamodule)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the plan, open the store (rank 0 writes, others read) and hand it to the datamodule.

        Answers to a round that an earlier run asked are committed here, before any loader is built.
        """
        if stage != "fit":
            return
        datamodule = _datamodule(trainer)
        check_trainer(trainer, self.stages)
        self._ranks = Ranks(trainer, self._patience)
        self._check_plan(datamodule)
        require_dropout(self.strategy, pl_module)
        classes, images = datamodule.classes.names, _sizes(datamodule)
        if trainer.is_global_zero:
            self._store = LabelStore.create_or_open(self.folder, classes=classes, images=images)
            settle(self.annotator, self.store, self.strategy)
        self.ranks.meet("opening the label store")
        if not trainer.is_global_zero:
            self._store = LabelStore.open(self.folder, classes=classes, images=images)
        datamodule.store, datamodule.spans, datamodule.early = self.store, self.stages.spans, self.stages.early

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drop the loaders' states: they are empty, and how many loaders there are hangs on the labels in force."""
        checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {}).pop("combined_loader", None)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse too few labels for the checkpoint; buy what is due first, where no validation comes before it."""
        if self.history:
            self._require_rounds(self.history[-1].round)  # of a run that is through, no later hook would tell
        if not trainer.enable_validation:
            self._start(trainer, pl_module)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Buy what is due before the first step; Lightning skips this check in a run that goes on."""
        self._start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network without the features a strategy needs, and a checkpoint with labels this store lacks."""
        require_features(Passes(trainer, pl_module, self.strategy, 1, self.seed), _datamodule(trainer))
        self._require_rounds(trainer.current_epoch + self.stages.early)

    def _require_rounds(self, trained_on: int) -> None:
        ours = [entry.sha256 for entry in self.store.rounds[:trained_on]]
        known = self._known[:trained_on]  # without one whose answers came since
        if len(ours) >= len(known) and ours[: len(known)] != known:
            raise UserError(
                f"{self.folder}: other rounds are in force than those that the checkpoint was trained on; put these in "
                f"force again (ripu-labels rollback {self.folder} ID), or remove the checkpoint to train anew"
            )
        if len(ours) < trained_on:
            raise UserError(
                f"{self.folder}: holds {len(self.store.rounds)} rounds of labels, but the checkpoint was trained on "
                f"{trained_on}; put these in force again (ripu-labels rollback {self.folder} ID), or remove the "
                "checkpoint to train anew on the labels that are there"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Dropout draws from the global generator: give each step and rank its own stream, resumed or not."""
        torch.manual_seed(derive_seed(self.seed, "dropout", trainer.global_step, trainer.global_rank))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the stage that ended, then buy the next round."""
        if not trainer.is_last_batch:
            raise UserError(
                f"a stage was ended after step {trainer.global_step}, before its last; leave out what stops it"
            )
        self._finish(trainer, pl_module, trainer.current_epoch + self.stages.early)

    def acquire(self, trainer: Trainer, pl_module: LightningModule, round_number: int) -> None:
        """Score the pool, ask, and commit the answers, seen by every rank; or end the run, which waits for them."""
        passes = Passes(trainer, pl_module, self.strategy, round_number, self.seed, self.resize_twice)
        queries = pick_queries(passes, _datamodule(trainer), self.store, self.budget, self.ranks)
        self.scored = round_number
        queries = gather_queries(queries, self.ranks)
        waiting = ask(self.annotator, self.store, self.strategy, queries) if trainer.is_global_zero else None
        self.waiting, rounds = self.ranks.share((waiting, self.store.rounds), f"committing round {round_number}")
        if self.waiting:
            trainer.should_stop = True  # after this hook, hence with its checkpoint
        self.store.refresh()
        if self.store.rounds != rounds:
            raise UserError(
                f"{self.folder}: rank {trainer.global_rank} sees other labels than rank 0; mend the shared disk"
            )

    def record(self, trainer: Trainer, rounds: int) -> None:
        """Note what training on so many rounds reached, and log it under ``active/``."""
        bought = self.store.rounds[:rounds]
        total = sum(height * width for height, width in _sizes(_datamodule(trainer)).values())
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        record = RoundRecord.of(rounds, trainer.global_step, bought, total, metrics)
        self.history = [*self.history[:rounds], record]
        log_round(trainer.loggers, self.history)

    def _start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.stages.early and not self.history:
            self._finish(trainer, module, 0)

    def _finish(self, trainer: Trainer, module: LightningModule, rounds: int) -> None:
        """What comes after training on so many rounds."""
        # Decided from counts, not from steps: a resumed run must neither lose a round nor buy one twice.
        self.record(trainer, rounds)
        if rounds < self.budget.rounds and len(self.store.rounds) <= rounds:
            self.acquire(trainer, module, rounds + 1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the store's lock."""
        if self._store is not None:
            self._store.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the store's lock: Lightning calls no ``teardown`` after an error."""
        if self._store is not None:
            self._store.close()

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
        self._known = list(state_dict["rounds"])


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The trainer's own list, in the order in which they are called; Lightning does not declare it."""
    found: list[Callback] = getattr(trainer, "callbacks", [])
    return found


def _datamodule(trainer: Trainer) -> ActiveDataModule:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, ActiveDataModule):
        raise UserError(f"ActiveLearningLoop needs an ActiveDataModule, got {type(datamodule).__name__}")
    return datamodule


def _sizes(datamodule: ActiveDataModule) -> dict[str, tuple[int, int]]:
    target = datamodule.target
    return {image_id: target.size(index) for index, image_id in enumerate(target.ids)}


def check_trainer(trainer: Trainer, stages: Stages) -> None:
    """Refuse a trainer with which no stage would be an epoch of its own.

    Raises:
        UserError: naming the key.
    """
    epochs = len(stages.spans)
    if trainer.max_epochs != epochs:
        raise UserError(f"trainer.max_epochs: expected {epochs} (one a stage), got {trainer.max_epochs}")
    if getattr(trainer, "reload_dataloaders_every_n_epochs", 0) != 1:
        raise UserError("trainer.reload_dataloaders_every_n_epochs: expected 1, or bought labels would not be used")
    if stages.early and trainer.num_sanity_val_steps != float("inf"):
        raise UserError("trainer.num_sanity_val_steps: expected -1, as the first round comes before the first step")
    if trainer.accumulate_grad_batches != 1:
        raise UserError("trainer.accumulate_grad_batches: expected 1, because a stage counts steps, one batch each")
    if trainer.min_epochs:  # 1 where min_steps is given
        raise UserError("trainer.min_epochs and min_steps: leave them out, or a run that waits for answers would go on")
