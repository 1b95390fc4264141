"""The engine and the background agent of convsync. A program that only wants to know asks `load_index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsync_agent.library import load_index

__all__ = ["__version__", "load_index"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imported on use: who only wants the version, or one module, pays for no more."""
    if name == "load_index":
        from convsync_agent.library import load_index  # noqa: PLC0415

        return load_index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
