"""Acquisition: scores, region types, budgets, selection and the registry of strategies. Needs torch alone."""

from ripu_lightning.acquisition import functional
from ripu_lightning.acquisition.avoid_void import AvoidVoid
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.core_set import CoreSet
from ripu_lightning.acquisition.d2ada import D2ADA
from ripu_lightning.acquisition.feasibility import check_budget
from ripu_lightning.acquisition.mada import MADA
from ripu_lightning.acquisition.mulactseg import MulActSeg
from ripu_lightning.acquisition.region_types import Outline, RegionType, WholeImage
from ripu_lightning.acquisition.registry import get_strategy, list_strategies, published_budget, register_strategy
from ripu_lightning.acquisition.round_selection import Picks, RoundSelection, round_selection
from ripu_lightning.acquisition.score_inputs import Answered, ScoreInputs
from ripu_lightning.acquisition.selection import Selection, select
from ripu_lightning.acquisition.selection_rules import (
    ClassBalanced,
    Greedy,
    KCentre,
    Power,
    Scheduled,
    SegmentBalanced,
    SelectionRule,
    TopRandom,
)
from ripu_lightning.acquisition.spending import budget_warnings
from ripu_lightning.acquisition.squares import Pixel, Square
from ripu_lightning.acquisition.strategy import Scored, Strategy
from ripu_lightning.acquisition.superpixels import Superpixel

__all__ = [
    "D2ADA",
    "MADA",
    "Answered",
    "AvoidVoid",
    "Budget",
    "Candidates",
    "ClassBalanced",
    "CoreSet",
    "Greedy",
    "KCentre",
    "MulActSeg",
    "Outline",
    "Picks",
    "Pixel",
    "Power",
    "RegionType",
    "RoundSelection",
    "Scheduled",
    "ScoreInputs",
    "Scored",
    "SegmentBalanced",
    "Selection",
    "SelectionRule",
    "Square",
    "Strategy",
    "Superpixel",
    "TopRandom",
    "WholeImage",
    "budget_warnings",
    "check_budget",
    "functional",
    "get_strategy",
    "list_strategies",
    "published_budget",
    "register_strategy",
    "round_selection",
    "select",
]
