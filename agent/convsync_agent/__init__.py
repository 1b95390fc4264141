"""The engine and the background agent of convsync."""

__version__ = "0.1.0"
