"""Pictures with handles: small ES modules, and the classes that put them into a page.

An object shows itself through ``_repr_html_`` as a module inlined in the page: the same bytes in
the static site, in JupyterLab and in the browser, without a server and without another host. Where
scripts are off, a sentence stands in its place. Each module, such as ``bandit.js``, has a function
``compute``, which is the mathematics and is held against this package, and a function ``render``;
its looks are in a style sheet of its name. What all share is in ``controls.js`` and
``interactive.css``.
"""

import hashlib
import json
import re
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_utils.probabilities import Array, as_action_values, as_array, as_policy, first, place

__all__ = ["Bandit", "BetaArms", "GridIterates", "RivalUpdates", "Simplex"]


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
    >>> Bandit([5, 5], [0.495, 0.505])
    Bandit(weights=[5.0, 5.0], Q=[0.495, 0.505])
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


class BetaArms:
    r"""Arms with Beta distributed returns, imitated where a return reaches a movable threshold.

    Arm i returns Y ~ Beta(a_i, b_i), and its worth is the mean :math:`Q_i = a_i / (a_i + b_i)`.
    The rule R = 1{Y >= theta} puts :math:`\tilde Q_i = P(Y \ge \theta) = 1 - I_\theta(a_i, b_i)`
    in its place. Drawn are the policy that imitates what passes, and what it gains,

    .. math:: \operatorname{Cov}(\tilde Q, Q) / \tilde V
        = \frac{\operatorname{Var}(Q)}{V}
        \sqrt{\tilde I / I}\,\operatorname{corr}(\tilde Q, Q),

    beside the faithful gain Var(Q) / V: an amplification and an alignment, whose product can fall
    below 1, and below 0.

    Parameters
    ----------
    a, b : array (n,)
        The parameters of 2 to 200 arms, each in [0.01, 1000].
    policy : array (n,), optional
        The behaviour policy; uniform by default.
    threshold : float
        Where the handle starts, in [0.001, 0.999].

    Raises
    ------
    ValueError
        If the arms are too few or too many, `policy` is no distribution over them, or a number
        lies outside its range; the message names it.

    Examples
    --------
    >>> BetaArms([0.5, 18], [0.5, 2], threshold=0.9)
    BetaArms(2 arms, threshold=0.9)
    >>> BetaArms([0.5, 18], [0.5, 0])
    Traceback (most recent call last):
    ...
    ValueError: b[1] must lie in [0.01, 1000], got 0
    """

    def __init__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        *,
        policy: ArrayLike | None = None,
        threshold: float = 0.8,
    ) -> None:
        alpha, beta, theta = as_array(a, "a"), as_array(b, "b"), as_array(threshold, "threshold")
        if alpha.shape != beta.shape or alpha.ndim != 1 or not 2 <= alpha.size <= 200:
            raise ValueError(
                f"a and b must both have 2 to 200 arms, got {alpha.shape} and {beta.shape}"
            )
        check_range(alpha, "a", 0.01, 1000)
        check_range(beta, "b", 0.01, 1000)
        if theta.ndim != 0:
            raise ValueError(f"threshold must be one number, got {threshold}")
        check_range(theta, "threshold", 0.001, 0.999)
        n = alpha.size
        pi_0 = np.full(n, 1 / n) if policy is None else as_policy(policy)
        if pi_0.shape != (n,):
            raise ValueError(f"policy must have the arms' shape {(n,)}, got {pi_0.shape}")
        lists = {"a": alpha.tolist(), "b": beta.tolist(), "policy": pi_0.tolist()}
        self.state: dict[str, Any] = {**lists, "threshold": float(theta)}

    def __repr__(self) -> str:
        return f"BetaArms({len(self.state['a'])} arms, threshold={self.state['threshold']})"

    def _repr_html_(self) -> str:
        instead = (
            f"Here a threshold on the returns of {len(self.state['a'])} arms would be moved, from "
            f"{self.state['threshold']} on; it needs JavaScript. What it shows: a threshold "
            "can amplify the influence of the choice of an arm, and so gain more than faithful "
            "rewards; but where high returns come from arms that are worse on average, the gain "
            "turns negative."
        )
        return inline("thresholds.js", self.state, instead)


class GridIterates:
    """Policies on a grid, one after another, to be stepped through: arrows, values, success rate.

    The grid is that of `figures.draw_grid`: a number in each cell, the larger the darker, here on
    one scale for all policies; and in each cell four arrows, each as long as its action is likely.

    Parameters
    ----------
    letters : array (rows, columns) of one-letter strings
        The map, of at most 20 rows and 20 columns; shown where there is no number. Numbers are
        left out where they could not be read, on more than 8 rows or columns.
    cells : array (S,) of int
        Which cells the states are, counted along the rows from the upper left.
    policies : array (n, S, 4)
        Probabilities of pushing left, down, right and up.
    values : array (n, S)
        Probabilities of success from each cell.
    success_rates : array (n,)
        Of whole episodes.
    steps : array (n,) of int
        How many rounds led to each policy, at least 0 and increasing.
    best : float, optional
        The highest success rate that there is, to be marked.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a policy is no distribution, a number is no
        probability, a cell lies outside the map or appears twice, the steps do not increase, or
        `best` lies below a success rate.

    Examples
    --------
    >>> sides = [[[0.25, 0.25, 0.25, 0.25]], [[0, 0, 1, 0]]]
    >>> GridIterates([["S", "G"]], [0], sides, [[0.5], [1]], [0.5, 1], steps=[0, 9])
    GridIterates(1 x 2 cells, steps=[0, 9])
    >>> GridIterates([["S", "G"]], [2], sides, [[0.5], [1]], [0.5, 1], steps=[0, 9])
    Traceback (most recent call last):
    ...
    ValueError: cells[0] must be a cell of the 1 x 2 map, from 0 to 1, got 2
    """

    def __init__(
        self,
        letters: ArrayLike,
        cells: ArrayLike,
        policies: ArrayLike,
        values: ArrayLike,
        success_rates: ArrayLike,
        *,
        steps: ArrayLike,
        best: float | None = None,
    ) -> None:
        grid = np.asarray(letters, dtype=str)
        if grid.ndim != 2 or not (1 <= grid.shape[0] <= 20 and 1 <= grid.shape[1] <= 20):
            raise ValueError(f"letters must be a map of 1 to 20 rows and columns, got {grid.shape}")
        wordy = np.char.str_len(grid) != 1
        if wordy.any():
            where = first(wordy)
            raise ValueError(
                f"{place('letters', where)} must be one letter, got {str(grid[where])!r}"
            )
        numbers = as_cells(cells, grid.shape)
        rounds = as_rounds(steps)
        n, S = rounds.size, numbers.size
        pushes = as_array(policies, "policies")
        if pushes.shape != (n, S, 4):
            raise ValueError(f"policies must have shape {(n, S, 4)}, got {pushes.shape}")
        for k, policy in enumerate(pushes):
            as_policy(policy, f"policies[{k}]")
        rates = as_chances(success_rates, (n,), "success_rates")
        optimum = None if best is None else float(as_chances(best, (), "best").round(6))
        if optimum is not None and optimum < rates.max() - 1e-6:
            raise ValueError(f"best must not lie below a success rate, got {best} < {rates.max()}")
        self.state: dict[str, Any] = {
            "letters": grid.tolist(),
            "cells": numbers.tolist(),
            "policies": pushes.round(4).tolist(),
            "values": as_chances(values, (n, S), "values").round(4).tolist(),
            "rates": rates.round(6).tolist(),
            "steps": rounds.tolist(),
            "best": optimum,
        }

    def __repr__(self) -> str:
        rows, columns = np.shape(self.state["letters"])
        return f"GridIterates({rows} x {columns} cells, steps={self.state['steps']})"

    def _repr_html_(self) -> str:
        rates, steps = self.state["rates"], self.state["steps"]
        instead = (
            f"Here {len(steps)} policies on a grid would be stepped through; it needs JavaScript. "
            + "; ".join(
                f"after {k} rounds {rate:.1%} of the episodes succeed"
                for k, rate in zip(steps, rates, strict=True)
            ).capitalize()
            + "."
        )
        return inline("iterates.js", self.state, instead)


class RivalUpdates:
    r"""One policy updated in five ways: how far each moves it, and what it gains.

    In a plane of the movement :math:`\chi^2(\pi \| \pi_0)` and the relative gain
    :math:`\sum_a \pi(a)\, Q(a) / V - 1`, each update draws a curve as its strength grows:

    - success conditioning with a step, :math:`\pi_0 [\eta\, Q/V - \nu]_+`, the trust-region path;
    - best of n, which is that path at :math:`\eta_n = 1 - (1 - V)^{n-1}`;
    - a penalty on :math:`\chi^2`, :math:`\pi_0 [(Q - \nu)/\beta]_+`: that path at V / beta;
    - the exponential tilt, :math:`\propto \pi_0 \exp(Q/\beta)`;
    - guidance, :math:`\propto \pi_0 Q^\gamma`.

    Where nu stands, it makes the policy sum to 1. No policy lies above the trust-region path.

    Parameters
    ----------
    policy : array (A,)
        The behaviour policy of 2 to 6 actions; what it plays, it plays at least once in 100 times.
    Q : array (A,)
        Success probability of each action, in [0, 1]. Those of the actions that are played must not
        all be equal: they span at least 0.001.

    Raises
    ------
    ValueError
        If there are not 2 to 6 actions, `policy` is no distribution or plays an action too rarely,
        or `Q` are not probabilities of the same shape that differ where they are played.

    Examples
    --------
    >>> RivalUpdates([0.5, 0.3, 0.2], [0.2, 0.4, 0.9])
    RivalUpdates(policy=[0.5, 0.3, 0.2], Q=[0.2, 0.4, 0.9])
    >>> RivalUpdates([0.5, 0.5, 0], [0.4, 0.4, 0.9])
    Traceback (most recent call last):
    ...
    ValueError: Q must differ by at least 0.001 among the actions played, got [0.4, 0.4]
    """

    def __init__(self, policy: ArrayLike, Q: ArrayLike) -> None:
        pi_0 = as_policy(policy)
        if pi_0.ndim != 1 or not 2 <= pi_0.size <= 6:
            raise ValueError(f"policy must have 2 to 6 actions, got {pi_0.shape}")
        q, rare = as_action_values(Q, pi_0.shape), (pi_0 > 0) & (pi_0 < 0.01)
        if rare.any():
            where = first(rare)
            raise ValueError(
                f"{place('policy', where)} must be 0 or at least 0.01, got {pi_0[where]:.6g}"
            )
        played = q[pi_0 > 0]
        if np.ptp(played) < 0.001:
            raise ValueError(
                f"Q must differ by at least 0.001 among the actions played, got {played.tolist()}"
            )
        self.state = {"policy": pi_0.tolist(), "Q": q.tolist()}

    def __repr__(self) -> str:
        return f"RivalUpdates(policy={self.state['policy']}, Q={self.state['Q']})"

    def _repr_html_(self) -> str:
        policy, Q = self.state.values()
        instead = (
            f"Here five updates of the policy {policy} would be compared, success probabilities "
            f"{Q}; it needs JavaScript. What it shows: at equal movement in χ² no policy gains "
            "more than the trust-region path. Best of n and a penalty on χ² stay on it. The "
            "exponential tilt starts along it, but need not stay on it; guidance need not even "
            "start along it, and meets it at success conditioning. All that can grow without "
            "bound end at the best actions."
        )
        return inline("rivals.js", self.state, instead)


class Simplex:
    r"""The triangle of policies over three actions, with trust regions of one budget to be moved.

    Around the behaviour policy :math:`\pi_0`, which can be dragged, lie the balls
    :math:`\chi^2(\pi \| \pi_0) \le \varepsilon`, :math:`\mathrm{KL}(\pi \| \pi_0) \le \varepsilon`
    (forward) and :math:`\mathrm{KL}(\pi_0 \| \pi) \le \varepsilon` (reverse, as in TRPO). In each
    the policy is marked that gains most, and beside them the success-conditioned :math:`\pi_+`.

    Parameters
    ----------
    policy : array (3,)
        The behaviour policy. All balls keep to the actions that it plays.
    Q : array (3,)
        Success probability of each action, in [0, 1].
    budget : float
        The radius epsilon of all three balls, at least 0 and finite. At the action-influence of
        `policy`, which a button sets, pi_+ is best in the chi-squared ball.

    Raises
    ------
    ValueError
        If there are not 3 actions, `policy` is no distribution, `Q` are not probabilities, or
        `budget` is negative, infinite or NaN.

    Examples
    --------
    >>> Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1)
    Simplex(policy=[0.5, 0.3, 0.2], Q=[0.2, 0.4, 0.9], budget=0.1)
    >>> Simplex([0.5, 0.3, 0.1], [0.2, 0.4, 0.9], 0.1)
    Traceback (most recent call last):
    ...
    ValueError: policy must sum to 1, got 0.9 (row [0.5, 0.3, 0.1])
    """

    def __init__(self, policy: ArrayLike, Q: ArrayLike, budget: float) -> None:
        pi_0 = as_policy(policy)
        if pi_0.shape != (3,):
            raise ValueError(f"policy must have 3 actions, shape (3,), got {pi_0.shape}")
        q, epsilon = as_action_values(Q, pi_0.shape), as_array(budget, "budget")
        if epsilon.shape != () or not 0 <= epsilon < np.inf:
            raise ValueError(f"budget must be a number, at least 0 and finite, got {budget}")
        self.state = {"policy": pi_0.tolist(), "Q": q.tolist(), "budget": float(epsilon)}

    def __repr__(self) -> str:
        return f"Simplex({', '.join(f'{key}={value}' for key, value in self.state.items())})"

    def _repr_html_(self) -> str:
        policy, Q, budget = self.state.values()
        instead = (
            "Here a triangle of policies would be moved by hand; it needs JavaScript. It starts "
            f"from the behaviour {policy}, success probabilities {Q} and a budget of {budget:.3g}. "
            "What it shows: at equal budget the χ² ball holds back rare actions most and the "
            "KL(π₀‖π) ball least; and when the budget is the action-influence, the best policy "
            "of the χ² ball is the success-conditioned one."
        )
        return inline("simplex.js", self.state, instead)


def as_cells(cells: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return which cells of a map are states, each of them once."""
    array = as_whole(cells, "cells")
    outside = (array < 0) | (array >= np.prod(shape))
    if outside.any():
        where = first(outside)
        raise ValueError(
            f"{place('cells', where)} must be a cell of the {shape[0]} x {shape[1]} map, from 0 to "
            f"{np.prod(shape) - 1}, got {array[where]}"
        )
    if np.unique(array).size < array.size:
        raise ValueError(f"cells must not repeat, got {array.tolist()}")
    return array


def as_rounds(steps: ArrayLike) -> NDArray[np.int64]:
    """Return numbers of rounds, at least 0 and increasing."""
    array = as_whole(steps, "steps")
    if (np.diff(array, prepend=-1) <= 0).any():
        raise ValueError(f"steps must be at least 0 and increase, got {array.tolist()}")
    return array


def as_whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return a list of at least one whole number."""
    array = as_array(values, name)
    if array.ndim != 1 or array.size == 0 or (array != array.round()).any():
        raise ValueError(f"{name} must be a list of whole numbers, got {array.tolist()}")
    return array.astype(np.int64)


def as_chances(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Return probabilities of the shape."""
    array = as_array(values, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return as_action_values(array, shape, name)


def check_range(array: Array, name: str, low: float, high: float) -> None:
    """Refuse an array with an entry outside [low, high]."""
    outside = (array < low) | (array > high)
    if outside.any():
        where = first(outside)
        raise ValueError(
            f"{place(name, where)} must lie in [{low:g}, {high:g}], got {array[where]:.10g}"
        )


def inline(module: str, state: dict[str, Any], instead: str) -> str:
    """Return a page's fragment that runs `module` with `state`; `instead` shows without scripts."""
    style = read("interactive.css") + read(module.replace(".js", ".css"))
    source, data = script(module), json.dumps(state)
    name = "sc-" + hashlib.sha256((source + data).encode()).hexdigest()[:12]
    return (
        f"<style>\n{style}</style>\n"
        f'<div class="sc-interactive" id="{name}">'
        f'<div class="{module.removesuffix(".js")}"><p>{instead}</p></div></div>\n'
        f'<script type="module">\n{source}\n'
        f"render({{ model: new Map(Object.entries({data})), "
        f'el: document.getElementById("{name}") }});\n</script>'
    )


def script(module: str) -> str:
    """Return a module and what it imports as one text, so that it loads nothing."""
    return re.sub(r"^import .*\n|^export ", "", read("controls.js") + read(module), flags=re.M)


def read(name: str) -> str:
    """Return a file of the package."""
    return files("sc_utils").joinpath(name).read_text("utf-8")
