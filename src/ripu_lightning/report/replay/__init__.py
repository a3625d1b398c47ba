"""Strategies replayed on one network, without training: what each would buy, counted against the truth."""
