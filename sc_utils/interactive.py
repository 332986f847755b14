"""Pictures with handles: small ES modules, and the classes that put them into a page.

An object shows itself through ``_repr_html_`` as a module inlined in the page: the same bytes in
the static site, in JupyterLab and in the browser, without a server and without another host. Where
scripts are off, a sentence stands in its place.
"""

import base64
import hashlib
import json
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Bandit"]

STYLE = """
.sc-interactive { border: 1px solid #8888; border-radius: 8px; padding: 1rem;
  font: 0.9rem/1.4 system-ui, sans-serif; }
.sc-interactive .controls { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.sc-interactive fieldset { border: 0; margin: 0; padding: 0; min-inline-size: 0; }
.sc-interactive legend { font-weight: 600; font-size: inherit; margin: 0; }
.sc-interactive label { display: grid; grid-template-columns: 1fr 3.2rem; margin: 0.2rem 0; }
.sc-interactive label > span { grid-column: 1 / -1; }
.sc-interactive input { accent-color: #37886b; inline-size: 100%; }
.sc-interactive output { text-align: end; font-variant-numeric: tabular-nums; }
.sc-interactive .bars { display: grid; grid-template-columns: 5rem 1fr 4rem; gap: 0.15rem 0.6rem;
  align-items: center; margin-top: 1rem; font-variant-numeric: tabular-nums; }
.sc-interactive .track > span { display: block; block-size: 0.7rem; background: currentColor; }
.sc-interactive .track > .before { opacity: 0.45; }
.sc-interactive .track > .after, .sc-interactive .track > .equal { background: #37886b; }
.sc-interactive p { margin: 0.8rem 0 0; }
"""


class Bandit:
    """One decision with sliders: behaviour and success probabilities in, three equal numbers out.

    Parameters
    ----------
    weights : array (A,)
        How often each action is played, whole numbers from 0 to 10, not all 0; the behaviour policy
        is proportional to them.
    Q : array (A,)
        Success probability of each action, in [0, 1].

    Raises
    ------
    ValueError
        If there are not 2 to 6 actions, or a number lies outside its range.

    Examples
    --------
    >>> "Success rises" in Bandit([5, 5], [0.495, 0.505])._repr_html_()
    False
    >>> Bandit([5, 5], [0.495, 1.5])
    Traceback (most recent call last):
    ...
    ValueError: Q must lie in [0, 1], got [0.495, 1.5]
    """

    def __init__(self, weights: ArrayLike, Q: ArrayLike) -> None:
        played, q = np.asarray(weights, dtype=float), np.asarray(Q, dtype=float)
        if played.shape != q.shape or q.ndim != 1 or not 2 <= q.size <= 6:
            raise ValueError(
                f"weights and Q must both have 2 to 6 actions, got {played.shape} and {q.shape}"
            )
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"Q must lie in [0, 1], got {q.tolist()}")
        whole = (played == played.round()) & (played >= 0) & (played <= 10)
        if not whole.all() or not played.any():
            raise ValueError(
                f"weights must be whole numbers from 0 to 10, not all 0, got {played.tolist()}"
            )
        self.state = {"weights": played.tolist(), "Q": q.tolist()}

    def __repr__(self) -> str:
        return f"Bandit(weights={self.state['weights']}, Q={self.state['Q']})"

    def _repr_html_(self) -> str:
        return inline("bandit.js", self.state, "One decision with sliders; it needs JavaScript.")


def inline(module: str, state: dict[str, list[float]], instead: str) -> str:
    """Return a page's fragment that runs `module` with `state`; `instead` shows without scripts."""
    source = files("sc_utils").joinpath(module).read_bytes()
    data = json.dumps(state)
    name = "sc-" + hashlib.sha256(source + data.encode()).hexdigest()[:12]
    url = "data:text/javascript;base64," + base64.b64encode(source).decode()
    return (
        f"<style>{STYLE}</style>"
        f'<div class="sc-interactive" id="{name}">{instead}</div>'
        f'<script type="module">import {{ render }} from "{url}"; const state = {data};'
        "render({ model: { get: (key) => state[key] }, "
        f'el: document.getElementById("{name}") }});'
        "</script>"
    )
