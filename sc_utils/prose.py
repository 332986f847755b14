"""The numbers of the prose: computed in a cell, quoted in the text beside it.

A cell says ``glue(rho0=rho0)``; the text says ``{glue:text}`rho0:.4f```, and the site is not built
if a name is missing or glued twice. Nothing is shown below the cell, and outside a notebook
nothing happens.
"""

import math
from numbers import Integral, Real

RECORD = "application/papermill.record/text/plain"  # the place where MyST-NB looks for a value


def glue(**values: object) -> None:
    """Give numbers, or words, to the text of the chapter under these names.

    Parameters
    ----------
    **values
        Each a finite real number (of Python, NumPy, SymPy or ``fractions``) or a string.

    Raises
    ------
    TypeError
        If a value is neither, an array for one: the message names it.
    ValueError
        If a number is infinite or not a number.

    Examples
    --------
    >>> from fractions import Fraction
    >>> glue(success_rate=Fraction(1, 3), arms=2, verdict="wait")
    >>> glue(success_rate=[0.1, 0.2])
    Traceback (most recent call last):
    ...
    TypeError: success_rate must be one number or a string, got a list
    """
    texts = {name: _text(name, value) for name, value in values.items()}
    try:
        from IPython.core.getipython import get_ipython
    except ModuleNotFoundError:
        return
    shell = get_ipython()
    if shell is None:
        return
    for name, text in texts.items():
        record = {"name": name, "mime_prefix": RECORD.removesuffix("text/plain")}
        shell.display_pub.publish({RECORD: text}, {"scrapbook": record})


def _text(name: str, value: object) -> str:
    """Return the value as Python writes it, to the last digit."""
    if isinstance(value, str):
        return repr(str(value))
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be one number or a string, got a {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return repr(int(value) if isinstance(value, Integral) else float(value))
