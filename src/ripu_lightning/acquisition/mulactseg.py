"""MulActSeg's acquisition: superpixels with a small margin, rare classes weighted up (Hwang et al., NeurIPS 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.region_types import RegionType
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection_rules import SelectionRule
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.acquisition.superpixels import Superpixel
from ripu_lightning.errors import require_number


class MulActSeg(Strategy):
    """Class-balanced best-versus-second-best: ``p_2 / p_1 * (1 + nu * theta_y)^-2``, averaged over the superpixel.

    ``y`` is the predicted class and ``theta`` the mean prediction over the pool. The paper's annotator names all
    classes of a superpixel; here, as with every strategy, the annotator labels its pixels.

    Args:
        balance: ``nu``, 0 or more; 0 weights all classes alike (paper: 6 for Cityscapes, 12 for PASCAL VOC).
        region_type: what a query labels; None is a superpixel.
        selection_rule: order of selection; None is best first.

    >>> strategy = MulActSeg(balance=1.0)
    >>> strategy.fit([], [torch.tensor([0.9, 0.1]), torch.tensor([0.7, 0.3])], seed=0)  # class 0 has 0.8 of the pool
    >>> logits = torch.tensor([[[[0.0, -0.6931]], [[-0.6931, 0.0]]]])  # margins of 1/2 both
    >>> strategy.score(ScoreInputs(logits, ["a"], round=1, seed=0))  # 1/2 / 1.8^2 and 1/2 / 1.2^2
    tensor([[[0.1543, 0.3472]]])
    """

    learned = ("theta",)

    def __init__(
        self, balance: float = 6.0, region_type: RegionType | None = None, selection_rule: SelectionRule | None = None
    ) -> None:
        budget = Budget(ratio=0.05, per="pool")
        super().__init__("mulactseg", region_type or Superpixel(), selection_rule, ["pool_statistics"], budget)
        require_number("mulactseg", "balance", balance)
        self.balance = balance
        self.theta: Tensor | None = None

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """The image's mean prediction ``(C,)`` float64."""
        return inputs.logits[0].softmax(dim=0).double().mean(dim=(1, 2))

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Average the predictions of all pool images."""
        self.theta = torch.stack(list(pool)).mean(dim=0)

    def score(self, inputs: ScoreInputs) -> Tensor:
        """See the class."""
        theta = self.needed(self.theta, "the pool's class shares (call fit first)")
        weights = ((1 + self.balance * theta) ** -2).to(inputs.logits)
        return F.best_versus_second_best(inputs.logits) * weights[inputs.logits.argmax(dim=1)]
