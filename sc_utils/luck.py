"""What success does to an episode beside its actions: the Doob transform, and skill against luck.

Given success, an episode is again a Markov decision process: a tilted start, the
success-conditioned policy, and tilted dynamics. The policy is the only one of the three that
imitation can keep. How much that is worth has two measures, in nats and in variance of the outcome,
and each bounds what one step improves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sc_utils.conditioning import (
    action_influence,
    condition_on_success,
    kl_divergence,
    refuse_no_success,
    successful_visits,
)
from sc_utils.mdp import Evaluation, SuccessMDP
from sc_utils.probabilities import Array

__all__ = [
    "ImprovementBounds",
    "InfluenceBudget",
    "LuckDecomposition",
    "OutcomeVariance",
    "doob_transform",
    "escape_luck",
    "improvement_bounds",
    "influence_budget",
    "luck_decomposition",
    "outcome_variance",
]

CERTAIN = 1e-12
"""Nats of surprise that rounding may leave of a success that is certain."""


@dataclass(frozen=True)
class LuckDecomposition:
    """The three parts of log(1 / success_rate), in nats; see `luck_decomposition`.

    Attributes
    ----------
    start
        Luck of the start state, KL(mu_+ || mu).
    skill
        What the actions contribute, the sum over states of d_+ KL(pi_+ || pi_0).
    transition
        Luck of the transitions and of the final exits.
    """

    start: float
    skill: float
    transition: float

    @property
    def total(self) -> float:
        """The sum of the three, log(1 / success_rate), in nats."""
        return self.start + self.skill + self.transition

    @property
    def luck(self) -> float:
        """What no policy can reproduce of successes, in nats: luck of start and transitions."""
        return self.start + self.transition

    @property
    def skill_share(self) -> float:
        """The part of the total that actions explain, in [0, 1]; 1 where success is certain."""
        return self.skill / self.total if self.total > CERTAIN else 1.0


@dataclass(frozen=True)
class OutcomeVariance:
    """The three parts of success_rate (1 - success_rate); see `outcome_variance`.

    Attributes
    ----------
    start
        Variance that the start state explains.
    actions
        Variance that the choices of actions explain.
    transition
        Variance that the transitions and the final exits explain.
    """

    start: float
    actions: float
    transition: float

    @property
    def total(self) -> float:
        """The sum of the three, the variance of the outcome."""
        return self.start + self.actions + self.transition

    @property
    def action_share(self) -> float:
        """The part of the total that actions explain, in [0, 1]; 1 where nothing varies."""
        return self.actions / self.total if self.total > CERTAIN else 1.0


@dataclass(frozen=True)
class InfluenceBudget:
    """How much influence successful episodes meet, and how much there can be.

    Attributes
    ----------
    used
        Influence along a successful episode, weighted by V: the sum of d_+ V I.
    limit
        Its upper bound, 1 - success_rate, met when there is no luck.
    """

    used: float
    limit: float


@dataclass(frozen=True)
class ImprovementBounds:
    """What is known of the success rate after one step, before it is taken.

    Attributes
    ----------
    first_order
        success_rate (1 + Gamma): a prediction, and no bound in either direction.
    one_step
        Lower bound that counts the first decision of an episode: the start's mean of V (1 + I).
    influence
        Lower bound that counts the influence of all decisions.
    whole_episode
        Lower bound success_rate exp(skill), the sharpest of those that count all decisions.
    """

    first_order: float
    one_step: float
    influence: float
    whole_episode: float


def doob_transform(mdp: SuccessMDP, evaluation: Evaluation) -> SuccessMDP:
    r"""Return the dynamics and the start that the episodes have, given that they succeed.

    .. math::

       \mu_+(s) = \frac{\mu(s) V_0(s)}{\rho_0}, \qquad
       P_+(s'|s, a) = \frac{P(s'|s, a)\, h(s')}{Q_0(s, a)},

    with h = V_0 on states, 1 on success and 0 on failure. Under `condition_on_success` of the
    behaviour these reproduce the law of a successful episode.

    Parameters
    ----------
    mdp
        With S states and A actions.
    evaluation
        Of the behaviour policy in `mdp`.

    Returns
    -------
    SuccessMDP
        Same shapes and labels. Where Q_0(s, a) = 0 the action is never taken in a successful
        episode, and its row stays as it was.

    Raises
    ------
    ValueError
        If the evaluation has other shapes than the MDP, or its policy never succeeds.

    Notes
    -----
    Doob (1957); Russo's Lemma A.1 is its policy part. It is also the sampling law that estimates
    rho_0 without variance.
    """
    _refuse_another(mdp, evaluation)
    Q, V = evaluation.Q.ravel(), evaluation.V
    possible = Q > 0
    scale = np.divide(1.0, Q, out=np.ones_like(Q), where=possible)
    row = _rows(mdp)
    tilt = np.where(possible[row], V[mdp.transition.indices] * scale[row], 1.0)
    transition = csr_array(
        (mdp.transition.data * tilt, mdp.transition.indices, mdp.transition.indptr),
        shape=mdp.transition.shape,
    )
    return SuccessMDP(
        transition=transition,
        success=mdp.success * scale.reshape(mdp.success.shape),
        initial=mdp.initial * V / evaluation.success_rate,
        labels=mdp.labels,
    )


def luck_decomposition(mdp: SuccessMDP, evaluation: Evaluation) -> LuckDecomposition:
    r"""Split :math:`\log(1/\rho_0)` into start luck, skill and transition luck.

    .. math::

       \log\frac{1}{\rho_0} = \operatorname{KL}(\mu_+ \| \mu)
       + \sum_s d_+(s) \operatorname{KL}(\pi_+ \| \pi_0)(s)
       + \sum_{s, a} d_+(s)\, \pi_+(a|s) \operatorname{KL}(P_+ \| P)(s, a)

    Parameters
    ----------
    mdp
        With S states and A actions.
    evaluation
        Of the behaviour policy in `mdp`.

    Returns
    -------
    LuckDecomposition
        In nats; each part is at least 0.

    Raises
    ------
    ValueError
        If the evaluation has other shapes than the MDP, or its policy never succeeds.

    Notes
    -----
    The chain rule of relative entropy along an episode. It goes beyond Russo (2026).
    """
    _refuse_another(mdp, evaluation)
    pi_0, V, Q = evaluation.policy, evaluation.V, evaluation.Q
    d_plus = successful_visits(evaluation)
    log_h = np.log(
        V, out=np.zeros_like(V), where=V > 0
    )  # log h; a weight of 0 stands by where h = 0
    log_Q = np.log(Q, out=np.zeros_like(Q), where=Q > 0)

    start = mdp.initial * V / evaluation.success_rate @ (log_h - np.log(evaluation.success_rate))
    taken = d_plus[:, np.newaxis] * condition_on_success(pi_0, Q)
    skill = (taken * (log_Q - log_h[:, np.newaxis])).sum()

    rate = np.divide(taken, Q, out=np.zeros_like(Q), where=Q > 0)
    exits = -(rate * mdp.success * log_Q).sum()
    row = _rows(mdp)
    next_state = mdp.transition.indices
    moves = rate.ravel()[row] * mdp.transition.data * V[next_state]
    transition = exits + moves @ (log_h[next_state] - log_Q.ravel()[row])
    return LuckDecomposition(*(max(float(part), 0.0) for part in (start, skill, transition)))


def escape_luck(mdp: SuccessMDP, evaluation: Evaluation) -> float:
    r"""Return the part of transition luck that is owed to not failing at once.

    .. math::

       \sum_{s, a} d_+(s)\, \pi_+(a|s) \log \frac{1}{1 - f(s, a)},

    where f(s, a) is the probability that the action fails at once, or enters a state in which the
    behaviour cannot succeed: to enter it is to have failed. If the behaviour can succeed from every
    possible start, it is 0 exactly when the imitator of the successes never fails.

    Parameters
    ----------
    mdp
        With S states and A actions.
    evaluation
        Of the behaviour policy in `mdp`.

    Returns
    -------
    float
        In nats, between 0 and `LuckDecomposition.transition`.

    Raises
    ------
    ValueError
        If the evaluation has other shapes than the MDP, or its policy never succeeds.

    Notes
    -----
    A start without hope is start luck, and no escape. It goes beyond Russo (2026).

    Examples
    --------
    One arm, which succeeds half of the time:

    >>> from sc_utils.mdp import evaluate
    >>> coin = SuccessMDP.from_dense([[[0]]], success=[[0.5]], initial=[1])
    >>> escape_luck(coin, evaluate(coin, [[1]]))  # log 2
    0.6931471805599453
    """
    _refuse_another(mdp, evaluation)
    hopeful = (evaluation.V > 0).astype(float)
    survives = mdp.success + (mdp.transition @ hopeful).reshape(mdp.success.shape)
    pi_plus = condition_on_success(evaluation.policy, evaluation.Q)
    taken = successful_visits(evaluation)[:, np.newaxis] * pi_plus
    escapes = np.log(survives, out=np.zeros_like(survives), where=taken > 0)
    return max(0.0, float(-(taken * escapes).sum()))


def outcome_variance(mdp: SuccessMDP, evaluation: Evaluation) -> OutcomeVariance:
    r"""Split the variance of the outcome into what the start, the actions and the dice explain.

    .. math::

       \rho_0 (1 - \rho_0) = \operatorname{Var}_\mu V_0
       + \sum_s d_0(s) \operatorname{Var}_{\pi_0} Q_0(s, A)
       + \sum_{s, a} d_0(s)\, \pi_0(a|s) \operatorname{Var}\big( h(S') \,|\, s, a \big),

    with h = V_0 on states, 1 on success and 0 on failure.

    Parameters
    ----------
    mdp
        With S states and A actions.
    evaluation
        Of the behaviour policy in `mdp`.

    Returns
    -------
    OutcomeVariance
        Squared probabilities; each part is at least 0.

    Raises
    ------
    ValueError
        If the evaluation has other shapes than the MDP, or its policy never succeeds.

    Notes
    -----
    The martingale E[R | first t steps] has orthogonal increments. It goes beyond Russo (2026).
    """
    _refuse_another(mdp, evaluation)
    pi_0, V, Q = evaluation.policy, evaluation.V, evaluation.Q
    start = mdp.initial @ (V - evaluation.success_rate) ** 2
    actions = evaluation.visits @ (pi_0 * (Q - V[:, np.newaxis]) ** 2).sum(axis=1)

    row = _rows(mdp)
    moves = mdp.transition.data * (V[mdp.transition.indices] - Q.ravel()[row]) ** 2
    exits = mdp.success * (1 - Q) ** 2 + mdp.failure * Q**2
    dice = np.bincount(row, moves, minlength=Q.size).reshape(Q.shape) + exits
    transition = evaluation.visits @ (pi_0 * dice).sum(axis=1)
    return OutcomeVariance(float(start), float(actions), float(transition))


def influence_budget(evaluation: Evaluation) -> InfluenceBudget:
    r"""Return :math:`\sum_s d_+(s)\, V_0(s)\, I(s)` and its upper bound :math:`1 - \rho_0`.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.

    Returns
    -------
    InfluenceBudget
        Dimensionless.

    Raises
    ------
    ValueError
        If the policy never succeeds.

    Notes
    -----
    Times rho_0, these are the parts of `outcome_variance` that actions explain, and all of it.
    """
    met = successful_visits(evaluation) * evaluation.V
    used = met @ action_influence(evaluation.policy, evaluation.Q)
    return InfluenceBudget(used=float(used), limit=1 - evaluation.success_rate)


def improvement_bounds(mdp: SuccessMDP, evaluation: Evaluation) -> ImprovementBounds:
    r"""Return what the behaviour alone says about :math:`\rho_+`, the success rate of its imitator.

    The lower bounds are

    .. math::

       \sum_s \mu(s)\, V_0(s)\, (1 + I(s)), \qquad
       \rho_0 \exp \sum_s d_+(s)\, \kappa\Big(\frac{1}{V_0(s)}\Big)\, I(s), \qquad
       \rho_0 \exp \sum_s d_+(s) \operatorname{KL}(\pi_+ \| \pi_0)(s),

    with :math:`\kappa(x) = (x \log x - x + 1) / (x - 1)^2`; the last two are in this order.

    Parameters
    ----------
    mdp
        With S states and A actions; only its start is used.
    evaluation
        Of the behaviour policy in `mdp`.

    Returns
    -------
    ImprovementBounds
        Success rates, in [0, 1] but for `first_order`.

    Raises
    ------
    ValueError
        If the evaluation has other shapes than the MDP, or its policy never succeeds.

    Notes
    -----
    Russo (2026), Corollary 4.5, is `one_step`; `whole_episode` is the bound of expectation
    maximisation of Dayan and Hinton (1997); `influence` goes beyond both.
    """
    _refuse_another(mdp, evaluation)
    pi_0, V, rho_0 = evaluation.policy, evaluation.V, evaluation.success_rate
    d_plus, influence = successful_visits(evaluation), action_influence(pi_0, evaluation.Q)
    seen = d_plus > 0
    pi_plus = condition_on_success(pi_0, evaluation.Q)
    skill = d_plus[seen] @ kl_divergence(pi_plus[seen], pi_0[seen])
    return ImprovementBounds(
        first_order=float(rho_0 * (1 + d_plus @ influence)),
        one_step=float(mdp.initial @ (V * (1 + influence))),
        influence=float(rho_0 * np.exp((d_plus * influence)[seen] @ _kappa(1 / V[seen]))),
        whole_episode=float(rho_0 * np.exp(skill)),
    )


def _kappa(x: Array) -> Array:
    r"""Return :math:`(x \log x - x + 1) / (x - 1)^2` for x >= 1; 1/2 at 1, and falling."""
    t = np.maximum(x - 1, 0)
    series = 1 / 2 - t / 6 + t**2 / 12  # where the quotient has no digits left
    return np.asarray(np.divide(x * np.log1p(t) - t, t**2, out=series, where=t > 1e-4))


def _rows(mdp: SuccessMDP) -> NDArray[np.intp]:
    """Return the row of the transition table that each of its entries stands in."""
    return np.repeat(np.arange(mdp.success.size), np.diff(mdp.transition.indptr))


def _refuse_another(mdp: SuccessMDP, evaluation: Evaluation) -> None:
    """Refuse an evaluation of another process, or of a policy that never succeeds."""
    if evaluation.Q.shape != mdp.success.shape:
        raise ValueError(
            f"the evaluation must be of this MDP, of shape {mdp.success.shape}, "
            f"got one of shape {evaluation.Q.shape}"
        )
    refuse_no_success(evaluation)
