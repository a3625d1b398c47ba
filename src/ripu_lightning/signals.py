"""The signals that end a run after its step, with a checkpoint and exit code 128 + the signal's number."""

import signal

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; a system that needs the machine; a cluster whose time limit is near (not on Windows)."""
