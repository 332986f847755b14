r"""What the loss of a learned policy on successes promises about its success rate.

Everything here is read from a log of episodes that the behaviour played. The dynamics may be
unknown, and may be random; no visits of the learned policy are needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, t

from sc_utils.logs import Log
from sc_utils.probabilities import Array, as_policy

__all__ = ["LossCertificate", "certify", "negative_log_likelihood"]


@dataclass(frozen=True)
class LossCertificate:
    """What fresh episodes of the behaviour promise about another policy; see `certify`.

    Attributes
    ----------
    success_rate
        Of the behaviour: the share of its episodes that succeeded.
    drop
        How much lower the policy's loss is than the behaviour's, in nats per success.
    floor
        success_rate exp(drop), an estimate of a lower bound of the policy's success rate.
    low
        Lower confidence bound, approximate, of the policy's success rate; see the notes.
    importance
        Average over all episodes of success times likelihood ratio: unbiased for the policy's
        success rate if it plays only what the behaviour plays, but of larger variance.
    """

    success_rate: float
    drop: float
    floor: float
    low: float
    importance: float


def negative_log_likelihood(log: Log, policy: ArrayLike) -> float:
    r"""Return the loss :math:`\ell(\pi) = \mathbb{E}[-\sum_t \log \pi(A_t|S_t) \mid R = 1]`.

    Parameters
    ----------
    log
        Episodes; only those that succeeded count.
    policy
        The policy pi, shape (S, A).

    Returns
    -------
    float
        Summed over the decisions of an episode and averaged over the successes: nats per success.
        ``inf`` if a success took an action that the policy never plays.

    Raises
    ------
    ValueError
        If `policy` is not one of shape (S, A), the log holds a state >= S or an action >= A, or no
        episode succeeded.

    Examples
    --------
    >>> log = Log(episode=[0, 0, 1], state=[0, 1, 0], action=[1, 1, 0], success=[True, True, False])
    >>> round(negative_log_likelihood(log, [[0.5, 0.5], [0.75, 0.25]]), 3)  # three bits
    2.079

    Notes
    -----
    Russo (2026), Section 5, where it is minimised.
    """
    pi = _as_table(log, policy, "policy")
    return float(-_per_success(log, _log(pi)).mean())


def certify(
    log: Log, behaviour: ArrayLike, policy: ArrayLike, *, confidence: float = 0.95
) -> LossCertificate:
    r"""Return what fresh episodes of the behaviour promise about the success rate of a policy.

    .. math:: \rho(\pi) \;\ge\; \rho_0 \, e^{\ell(\pi_0) - \ell(\pi)} .

    Parameters
    ----------
    log
        Independent episodes of the behaviour, all of them, failures too. They must be *fresh*: not
        used to learn the policy or to choose it.
    behaviour
        The policy pi_0 that played the log, shape (S, A).
    policy
        The policy pi, shape (S, A); it may play what the behaviour does not.
    confidence
        Of the bound `low`, between 0 and 1.

    Returns
    -------
    LossCertificate
        Where a success took an action that `policy` never plays, the drop is ``-inf``, and the
        floor and `low` are 0. `low` is 0 for a single success as well.

    Raises
    ------
    ValueError
        If a policy does not fit the log, no episode succeeded, the behaviour never plays an action
        that a success took, or the confidence is not between 0 and 1.

    Examples
    --------
    >>> log = Log(np.arange(8), np.zeros(8, int), [1, 1, 1, 0, 0, 0, 0, 0], np.arange(8) < 4)
    >>> found = certify(log, [[0.5, 0.5]], [[0.25, 0.75]])
    >>> round(found.success_rate, 3), round(found.floor, 3), round(found.importance, 3)
    (0.5, 0.57, 0.625)

    Notes
    -----
    Let x be the summed log-ratio of a success. On the scale of logarithms the floor is the sum of
    log rho_0, bounded by Clopper and Pearson (1934), and of the mean of x, bounded by Student's t
    over the successes. The distances of the two bounds from their estimates add as squares (Zou
    and Donner 2008), since given the number of successes the mean of x is unbiased. The result is
    approximate; its coverage is measured in the tests. The floor it can cover too rarely, as no log
    shows the far left tail of x. The success rate it covers all the same: what is missed there are
    episodes of vanishing likelihood ratio, which add to the success rate and take nothing from it.

    For the bound: Dayan and Hinton (1997), as a step of expectation maximisation.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    pi_0 = _as_table(log, behaviour, "behaviour")
    pi = _as_table(log, policy, "policy")
    if pi.shape != pi_0.shape:
        raise ValueError(f"policy must have the behaviour's shape {pi_0.shape}, got {pi.shape}")
    _refuse_another_behaviour(log, pi_0)
    with np.errstate(invalid="ignore"):  # actions that neither plays are not in the log
        x = _per_success(log, _log(pi) - _log(pi_0))
    n, m = _starts(log).size, x.size
    drop, rho_0 = float(x.mean()), m / n
    return LossCertificate(
        success_rate=rho_0,
        drop=drop,
        floor=rho_0 * float(np.exp(drop)),
        low=_lower_bound(x, n, confidence),
        importance=float(np.exp(x).sum()) / n,
    )


def _lower_bound(x: Array, n: int, confidence: float) -> float:
    m = x.size
    if m < 2 or np.isneginf(x).any():
        return 0.0
    rho_low = beta.ppf(1 - confidence, m, n - m + 1)
    for_rate = np.log(m / n / rho_low)
    for_drop = t.ppf(confidence, m - 1) * x.std(ddof=1) / np.sqrt(m)
    return float(m / n * np.exp(x.mean() - np.hypot(for_rate, for_drop)))


def _as_table(log: Log, policy: ArrayLike, name: str) -> Array:
    pi = as_policy(policy, name)
    if pi.ndim != 2:
        raise ValueError(f"{name} must have shape (S, A), got {pi.shape}")
    for column, limit in zip(("state", "action"), pi.shape, strict=True):
        values = getattr(log, column)
        if values.max() >= limit:
            row = int(np.argmax(values >= limit))
            raise ValueError(
                f"{column}[{row}] of the log is {values[row]}, "
                f"but {name} has shape {pi.shape} and counts from 0"
            )
    return pi


def _refuse_another_behaviour(log: Log, pi_0: Array) -> None:
    impossible = pi_0[log.state, log.action] == 0
    if impossible.any():
        row = int(np.argmax(impossible))
        s, a = log.state[row], log.action[row]
        raise ValueError(f"row {row} of the log plays behaviour[{s}, {a}], which is 0")


def _log(pi: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(pi)


def _starts(log: Log) -> NDArray[np.intp]:
    """Return the first row of each episode; its rows stand together."""
    return np.flatnonzero(np.append(True, log.episode[1:] != log.episode[:-1]))


def _per_success(log: Log, table: Array) -> Array:
    """Return the sum of a table's entries over the decisions of each success."""
    starts = _starts(log)
    won = log.success[starts]
    if not won.any():
        raise ValueError("no episode of the log succeeded: there is no loss to read")
    sums: Array = np.add.reduceat(table[log.state, log.action], starts)[won]
    return sums
