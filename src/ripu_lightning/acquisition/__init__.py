"""Acquisition: scores, selection, budgets and the registry of strategies. Needs torch and nothing else."""

from ripu_lightning.acquisition import functional
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.registry import get_strategy, list_strategies, register_strategy
from ripu_lightning.acquisition.selection import Selection, select
from ripu_lightning.acquisition.strategies import ScoreInputs, Strategy

__all__ = [
    "Budget",
    "ScoreInputs",
    "Selection",
    "Strategy",
    "functional",
    "get_strategy",
    "list_strategies",
    "register_strategy",
    "select",
]
