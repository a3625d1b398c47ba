"""The acquisition functions alone, in any project: needs torch and nothing else.

Run it with: python examples/05_score_only.py
"""

import torch

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition import select


def main() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 19, 3, padding=1).eval()  # stands for your segmentation network
    available = torch.ones(256, 512, dtype=torch.bool)  # (H, W), what may be queried
    for round_number in (1, 2):
        with torch.no_grad():
            logits = network(torch.randn(1, 3, 256, 512))  # (B, C, H, W)
        scores = F.ripu(logits, radius=1)  # (B, H, W), region impurity x prediction uncertainty
        queries = select(scores[0], available, count=100, radius=1, exclusion=2)
        print(f"round {round_number}: label 100 squares of 3x3, the first at {queries.centres[0].tolist()}")
        available = queries.available  # for the next round


if __name__ == "__main__":
    main()
