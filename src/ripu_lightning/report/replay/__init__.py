"""Strategies replayed on one network, without training: what each would query, counted against the truth."""
