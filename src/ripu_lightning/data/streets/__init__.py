"""The embedded domain pair: procedural road scenes in two looks, drawn by our own code."""

from ripu_lightning.data.streets.dataset import Streets

__all__ = ["Streets"]
