"""A progress bar for what takes longer than two seconds, where someone is there to see it."""

import builtins
import sys
from typing import Any

from tqdm import tqdm

__all__ = ["Bar", "bar"]

SECONDS_WITHOUT_BAR = 2.0


class Bar(tqdm):  # type: ignore[type-arg]
    """The text bar, in notebooks too: `tqdm.auto` warns where ipywidgets is not installed."""

    monitor_interval = 0  # no thread of its own: processes may be forked while it is shown


def bar(total: int, unit: str) -> Bar:
    """Return a progress bar on standard error; it appears late, in terminals and notebooks only.

    Parameters
    ----------
    total
        How many units there are to do.
    unit
        What one of them is called.
    """
    watched = hasattr(builtins, "__IPYTHON__") or (sys.stderr and sys.stderr.isatty())
    settings: Any = {} if watched else {"disable": True}  # if watched, TQDM_DISABLE may say so too
    made: Bar = Bar(
        total=total, delay=SECONDS_WITHOUT_BAR, unit=unit, unit_scale=total > 10**5, **settings
    )
    return made
