"""What counts as success: proxies such as a return threshold, and the label that teaches most.

Success conditioning improves what it conditions on. If that is a proxy, one step gains in the true
objective the product of two numbers: how much more influence the proxy has (amplification), and how
well it ranks the actions (alignment). Everything here is about single decisions and acts on arrays:
``(policy, Q)`` as in `conditioning`, or the joint law of action and outcome.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sc_utils.conditioning import action_influence, success_ratio
from sc_utils.probabilities import Array, as_action_values, as_array, as_policy, first, place

__all__ = [
    "OptimalLabel",
    "alignment",
    "amplification",
    "label_gain",
    "optimal_label",
    "outcome_advantage",
]


@dataclass(frozen=True, eq=False)
class OptimalLabel:
    """Which outcomes to call a success; see `optimal_label`.

    Attributes
    ----------
    accept
        Shape (n,), the probability with which each outcome is called a success.
    level
        Advantage of the worst outcomes that are accepted: those above it always are.
    gain
        What one step gains in the true objective, in its units.
    """

    accept: Array
    level: float
    gain: float


def alignment(policy: ArrayLike, Q: ArrayLike, proxy: ArrayLike) -> Array:
    r"""Return the correlation of :math:`Q_0` and :math:`\tilde Q` under the behaviour.

    .. math::

       \frac{\operatorname{Cov}_{\pi_0}(\tilde Q, Q_0)}
            {\operatorname{sd}_{\pi_0}(\tilde Q)\, \operatorname{sd}_{\pi_0}(Q_0)}

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Probability of success, or mean return in [0, 1], after each action; same shape.
    proxy
        Probability of the proxy's success after each action, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; in [-1, 1]. 0 where one of the two does not vary, but for
        rounding, over the actions that are played: then the proxy's step gains nothing.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` or `proxy` not probabilities of the same shape.

    Examples
    --------
    >>> float(alignment([0.5, 0.5], [0.25, 0.75], [0.1, 0.2]).round(12))
    1.0

    Notes
    -----
    Russo (2026), Proposition 6.1 (7.1 in v2).
    """
    pi_0 = as_policy(policy)
    q, p = _relative(pi_0, Q, "Q"), _relative(pi_0, proxy, "proxy")
    together = (pi_0 * q * p).sum(axis=-1)
    spreads = [np.sqrt((pi_0 * x**2).sum(axis=-1)) for x in (q, p)]
    varies = np.minimum(*spreads) > ROUNDING
    correlation = np.divide(
        together, np.prod(spreads, axis=0), np.zeros_like(together), where=varies
    )
    return np.asarray(np.clip(correlation, -1, 1))


def amplification(policy: ArrayLike, Q: ArrayLike, proxy: ArrayLike) -> Array:
    r"""Return :math:`(\tilde I / I)^{1/2}`: how much more the actions matter to the proxy.

    Times `alignment` it is the gain of conditioning on the proxy over the gain of conditioning on
    the true objective, both in the true objective, wherever both influences are positive.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Probability of success, or mean return in [0, 1], after each action; same shape.
    proxy
        Probability of the proxy's success after each action, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; dimensionless. 0 where the proxy has no influence, but for
        rounding, otherwise ``inf`` where `Q` has none.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` or `proxy` not probabilities of the same shape.

    Examples
    --------
    >>> float(amplification([0.5, 0.5], [0.4, 0.6], [0.1, 0.3]).round(12))
    2.5

    Notes
    -----
    Russo (2026), Proposition 6.1 (7.1 in v2).
    """
    pi_0 = as_policy(policy)
    q, p = (as_action_values(x, pi_0.shape, name) for x, name in [(Q, "Q"), (proxy, "proxy")])
    influences = (action_influence(pi_0, x) for x in (q, p))
    true, louder = (np.where(x > ROUNDING**2, x, 0) for x in influences)
    nothing = np.where(louder > 0, np.inf, 0.0)
    return np.asarray(np.sqrt(np.divide(louder, true, out=nothing, where=true > 0)))


def outcome_advantage(joint: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`\alpha(y) = \mathbb{E}[Q_0(A) - V_0 \mid Y = y]`: what an outcome speaks for.

    Parameters
    ----------
    joint
        Probability of each action with each outcome, shape (A, n); it sums to 1.
    Q
        Mean of the true objective after each action, shape (A,), in [0, 1].

    Returns
    -------
    Array
        Shape (n,), in the units of `Q`: above 0 for outcomes that the better actions have more
        often. 0 for outcomes that never occur.

    Raises
    ------
    ValueError
        If `joint` is not a distribution of that form, or `Q` not of shape (A,) in [0, 1].

    Examples
    --------
    >>> outcome_advantage([[0.5, 0.0], [0.25, 0.25]], [0.0, 1.0]).round(3)
    array([-0.167,  0.5  ])
    """
    weight, mass = _outcomes(joint, Q)
    return np.asarray(np.divide(weight, mass, out=np.zeros_like(mass), where=mass > 0))


def label_gain(joint: ArrayLike, Q: ArrayLike, accept: ArrayLike) -> float:
    r"""Return what one step gains if an outcome y counts as a success with probability f(y).

    .. math::

       \sum_a \pi_f(a)\, Q_0(a) - V_0
       = \frac{\mathbb{E}[f(Y)\, \alpha(Y)]}{\mathbb{E}[f(Y)]},
       \qquad \pi_f(a) \propto \pi_0(a)\, \mathbb{E}[f(Y) \mid a].

    Parameters
    ----------
    joint
        Probability of each action with each outcome, shape (A, n); it sums to 1.
    Q
        Mean of the true objective after each action, shape (A,), in [0, 1].
    accept
        The label f, shape (n,), in [0, 1].

    Returns
    -------
    float
        In the units of `Q`.

    Raises
    ------
    ValueError
        If an argument has another form, or the label accepts nothing that occurs.

    Examples
    --------
    >>> label_gain([[0.5, 0.0], [0.25, 0.25]], [0.0, 1.0], [0, 1])
    0.5
    """
    weight, mass = _outcomes(joint, Q)
    f = as_action_values(accept, mass.shape, "accept")
    accepted = f @ mass
    if accepted == 0:
        raise ValueError("accept must have an outcome that occurs: it never calls one a success")
    return float(f @ weight / accepted)


def optimal_label(joint: ArrayLike, Q: ArrayLike, acceptance: float) -> OptimalLabel:
    r"""Return the label of outcomes whose imitation gains most, at a given acceptance.

    .. math::

       \max_{f : \{y\} \to [0, 1]} \; \frac{\mathbb{E}[f(Y)\, \alpha(Y)]}{\mathbb{E}[f(Y)]}
       \quad \text{for a given} \quad \mathbb{E}[f(Y)] .

    It accepts the outcomes of the largest advantage, as `outcome_advantage` gives it, and those at
    the border with one probability that meets the acceptance.

    Parameters
    ----------
    joint
        Probability of each action with each outcome, shape (A, n); it sums to 1.
    Q
        Mean of the true objective after each action, shape (A,), in [0, 1].
    acceptance
        E[f(Y)], the share of all outcomes to accept, in (0, 1].

    Returns
    -------
    OptimalLabel
        Outcomes that never occur are not accepted.

    Raises
    ------
    ValueError
        If an argument has another form; the message names the place.

    Examples
    --------
    >>> label = optimal_label([[0.3, 0.1, 0.2], [0.1, 0.3, 0.0]], [0.2, 0.6], 0.5)
    >>> label.accept.round(12).tolist(), round(label.gain, 3)
    ([0.25, 1.0, 0.0], 0.1)

    Notes
    -----
    The lemma of Neyman and Pearson (1933), with the advantage in the place of a likelihood ratio.
    Outcomes may be returns, intervals of returns, or whatever else a label can look at.
    """
    if not 0 < acceptance <= 1:
        raise ValueError(f"acceptance must lie in (0, 1], got {acceptance}")
    weight, mass = _outcomes(joint, Q)
    alpha = np.divide(weight, mass, out=np.full_like(mass, -np.inf), where=mass > 0)
    best = np.argsort(-alpha, kind="stable")
    border = np.searchsorted(mass[best].cumsum(), acceptance * (1 - ROUNDING))
    level = alpha[best[min(border, np.count_nonzero(mass) - 1)]]  # all that occur, if they are few
    equal = ROUNDING * np.max(Q)
    above, at = alpha > level + equal, np.abs(alpha - level) <= equal
    f = np.where(above, 1.0, 0.0)
    f[at] = min((acceptance - mass[above].sum()) / mass[at].sum(), 1.0)
    return OptimalLabel(accept=f, level=float(level), gain=float(f @ weight / (f @ mass)))


ROUNDING = 1e-12
"""Relative: values as close as that are equal, an acceptance as close as that is met."""


def _relative(pi_0: Array, values: ArrayLike, name: str) -> Array:
    """Return how far values are from their mean under the policy, as parts of that mean."""
    return success_ratio(pi_0, as_action_values(values, pi_0.shape, name)) - 1


def _outcomes(joint: ArrayLike, Q: ArrayLike) -> tuple[Array, Array]:
    """Return, for each outcome, its probability times its advantage, and its probability."""
    table = as_array(joint, "joint")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"joint must have shape (A, n) with A, n >= 1, got {table.shape}")
    if (table < 0).any():
        where = first(table < 0)
        raise ValueError(f"{place('joint', where)} must not be negative, got {table[where]:.6g}")
    if abs(table.sum() - 1) > 1e-9:
        raise ValueError(f"joint must sum to 1, got {table.sum():.10g}")
    q = as_action_values(Q, table.shape[:1])
    V = table.sum(axis=1) @ q
    return (q - V) @ table, table.sum(axis=0)
