"""What success does to an episode beside its actions: the Doob transform, and skill against luck.

Given success, an episode is again a Markov decision process: a tilted start, the
success-conditioned policy, and tilted dynamics. The policy is the only one of the three that
imitation can keep.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from sc_utils.conditioning import condition_on_success, refuse_no_success, successful_visits
from sc_utils.mdp import Evaluation, SuccessMDP

__all__ = ["LuckDecomposition", "doob_transform", "luck_decomposition"]

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
    def skill_share(self) -> float:
        """The part of the total that actions explain, in [0, 1]; 1 where success is certain."""
        return self.skill / self.total if self.total > CERTAIN else 1.0


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
    row = np.repeat(np.arange(Q.size), np.diff(mdp.transition.indptr))
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
    row = np.repeat(np.arange(Q.size), np.diff(mdp.transition.indptr))
    next_state = mdp.transition.indices
    moves = rate.ravel()[row] * mdp.transition.data * V[next_state]
    transition = exits + moves @ (log_h[next_state] - log_Q.ravel()[row])
    return LuckDecomposition(*(max(float(part), 0.0) for part in (start, skill, transition)))


def _refuse_another(mdp: SuccessMDP, evaluation: Evaluation) -> None:
    """Refuse an evaluation of another process, or of a policy that never succeeds."""
    if evaluation.Q.shape != mdp.success.shape:
        raise ValueError(
            f"the evaluation must be of this MDP, of shape {mdp.success.shape}, "
            f"got one of shape {evaluation.Q.shape}"
        )
    refuse_no_success(evaluation)
