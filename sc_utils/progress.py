"""A bar for what takes longer than two seconds, where someone is there to see it."""

import builtins
import sys
from typing import Any

from tqdm import tqdm

__all__ = ["Bar", "progress_bar"]

SECONDS_WITHOUT_BAR = 2.0


class Bar(tqdm):  # type: ignore[type-arg]
    """The text bar, in notebooks too: `tqdm.auto` warns where ipywidgets is not installed."""

    monitor_interval = 0  # no thread of its own: processes may be forked while it is shown


def progress_bar(total: int | None, unit: str, **settings: Any) -> Bar:
    """Return a bar to be used in a ``with`` statement; its ``update(n)`` counts.

    Parameters
    ----------
    total
        How many units there are; None if that is not known.
    unit
        What is counted, in the singular.
    settings
        Of tqdm, such as ``unit_scale=True``.
    """
    watched = hasattr(builtins, "__IPYTHON__") or (sys.stderr and sys.stderr.isatty())
    if not watched:
        settings.setdefault("disable", True)  # if watched, TQDM_DISABLE may say so too
    return Bar(total=total, delay=SECONDS_WITHOUT_BAR, unit=unit, **settings)
