"""Active learning for domain-adaptive semantic segmentation, on PyTorch Lightning.

This file imports nothing: ``ripu_lightning.acquisition`` and ``ripu_lightning.losses`` need torch alone.
"""

__version__ = "0.1.0"
