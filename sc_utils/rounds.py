r"""The step repeated: with unlimited data, with finitely many successes, and as a Markov chain.

Round k samples successes of pi_k and imitates them::

    pi_{k+1} = pi_k Q_k / V_k            unlimited data
    pi_{k+1} = counts / their sum        of the actions in m successful episodes

In one decision between two actions the second is the Wright-Fisher model of population genetics,
with the success probabilities as fitness.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from sc_utils.conditioning import condition_on_success
from sc_utils.logs import Counts
from sc_utils.luck import doob_transform
from sc_utils.mdp import Evaluation, SuccessMDP, evaluate
from sc_utils.probabilities import (
    Array,
    as_action_values,
    as_array,
    as_count,
    as_generator,
    as_policy,
)
from sc_utils.sampling import sample_log

__all__ = ["exact_rounds", "sampled_rounds", "wright_fisher"]


def exact_rounds(mdp: SuccessMDP, policy: ArrayLike, n_rounds: int) -> list[Evaluation]:
    r"""Evaluate the policies :math:`\pi_{k+1} = \pi_k Q_k / V_k`, from :math:`\pi_0` on.

    Parameters
    ----------
    mdp
        With S states and A actions.
    policy
        Behaviour :math:`\pi_0`, shape (S, A).
    n_rounds
        How many times to imitate, at least 1.

    Returns
    -------
    list of Evaluation
        n_rounds + 1 of them; entry k belongs to :math:`\pi_k`. Where :math:`V_k(s) = 0` there is
        nothing to imitate, and the policy stays.

    Raises
    ------
    TypeError
        If `n_rounds` is not an integer.
    ValueError
        If it is below 1, or the policy does not fit or may never end.

    Notes
    -----
    Success rates increase to the best that the actions of :math:`\pi_0` allow (Strupl et al. 2022
    for reward-weighted regression).

    Examples
    --------
    >>> arms = SuccessMDP.from_dense(np.zeros((1, 2, 1)), success=[[0.25, 0.75]], initial=[1])
    >>> [round(e.success_rate, 3) for e in exact_rounds(arms, [[0.5, 0.5]], 2)]
    [0.5, 0.625, 0.7]
    """
    rounds = [evaluate(mdp, policy)]
    for _ in range(as_count(n_rounds, "n_rounds")):
        e = rounds[-1]
        rounds.append(evaluate(mdp, condition_on_success(e.policy, e.Q)))
    return rounds


def sampled_rounds(
    mdp: SuccessMDP,
    policy: ArrayLike,
    n_rounds: int,
    n_successes: int,
    *,
    rng: np.random.Generator,
) -> list[Evaluation]:
    r"""Imitate `n_successes` sampled successes of each policy, and evaluate what was learnt.

    The next policy takes the actions as often as these episodes did; a state that none of them
    visits keeps its policy.

    Parameters
    ----------
    mdp
        With S states and A actions.
    policy
        Behaviour :math:`\pi_0`, shape (S, A).
    n_rounds
        How many times to imitate, at least 1.
    n_successes
        Successful episodes m per round, at least 1. They come straight from their own law
        (`doob_transform`): no failures are drawn to be thrown away.
    rng
        Source of randomness.

    Returns
    -------
    list of Evaluation
        n_rounds + 1 of them, from :math:`\pi_0` on.

    Raises
    ------
    TypeError
        If a count is not an integer or `rng` is not a generator.
    ValueError
        If a count is below 1, the policy does not fit, never succeeds or may never end.

    Examples
    --------
    >>> arms = SuccessMDP.from_dense(np.zeros((1, 2, 1)), success=[[0.5, 0.5]], initial=[1])
    >>> rng = np.random.default_rng(1)
    >>> [float(e.policy[0, 0]) for e in sampled_rounds(arms, [[0.5, 0.5]], 3, 10, rng=rng)]
    [0.5, 0.7, 0.7, 0.7]
    """
    m, rng = as_count(n_successes, "n_successes"), as_generator(rng)
    rounds = [evaluate(mdp, policy)]
    for _ in range(as_count(n_rounds, "n_rounds")):
        e = rounds[-1]
        only_successes = doob_transform(mdp, e)
        pi_plus = condition_on_success(e.policy, e.Q)
        log = sample_log(only_successes, pi_plus, m, rng=rng)
        visits = Counts.from_log(log, mdp.n_states, mdp.n_actions).visits
        total = visits.sum(axis=1, keepdims=True)
        learnt = np.divide(visits, total, out=e.policy.copy(), where=total > 0)
        rounds.append(evaluate(mdp, learnt))
    return rounds


def wright_fisher(
    success_probabilities: ArrayLike,
    n_successes: int,
    *,
    mixed: float = 0.0,
    base: ArrayLike = (0.5, 0.5),
) -> Array:
    r"""Return the chances of going from any policy to any other in one round of two actions.

    From i/m for the first action, m successes of :math:`\pi = (i/m, 1 - i/m)` show it j times with

    .. math:: P_{ij} = \binom{m}{j} x^j (1 - x)^{m - j}, \qquad
       x = (1 - u)\, \pi_+(1) + u\, b_+(1) :

    a share u of them was sampled from a base policy b instead, and :math:`b_+` is its imitator.

    Parameters
    ----------
    success_probabilities
        Of the two actions, (2,).
    n_successes
        Successes m per round, at least 1.
    mixed
        The share u, in [0, 1].
    base
        The base policy b, (2,).

    Returns
    -------
    array (m + 1, m + 1)
        Entry (i, j). Without mixing 0 and m are never left: one of the actions is lost.

    Raises
    ------
    TypeError
        If `n_successes` is not an integer.
    ValueError
        If there are not two actions, neither of them can succeed, an argument is no probability,
        or `n_successes` is below 1.

    Notes
    -----
    The haploid Wright-Fisher model with selection and one-way migration (Wright 1931; Ewens 2004).
    An action that cannot succeed is lost in one round, unless it was the only one: then no success
    is ever seen, and the policy stays.

    Examples
    --------
    >>> wright_fisher([0.6, 0.3], 2).round(3)
    array([[1.   , 0.   , 0.   ],
           [0.111, 0.444, 0.444],
           [0.   , 0.   , 1.   ]])
    """
    m = as_count(n_successes, "n_successes")
    q = as_action_values(success_probabilities, (2,), "success_probabilities")
    if not q.any():
        raise ValueError("success_probabilities must not all be zero: there is nothing to imitate")
    u = float(as_array(mixed, "mixed"))
    if not 0 <= u <= 1:
        raise ValueError(f"mixed must lie in [0, 1], got {u:.6g}")
    b = as_policy(base, "base")
    if b.shape != (2,):
        raise ValueError(f"base must have shape (2,), got {b.shape}")
    first = np.arange(m + 1) / m
    pi = np.stack([first, 1 - first], axis=1)
    learnt = condition_on_success(pi, np.broadcast_to(q, pi.shape))[:, 0]
    x = (1 - u) * learnt + u * condition_on_success(b, q)[0]
    table: Array = binom.pmf(np.arange(m + 1), m, x[:, np.newaxis])
    return table
