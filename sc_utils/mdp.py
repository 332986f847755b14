"""Finite episodic decision processes that end in success or failure, and their exact evaluation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SuccessMDP:
    """A finite episodic MDP whose episodes end in success or in failure."""

    transition: csr_array
    success: Array
    initial: Array
    labels: NDArray[np.generic]

    @classmethod
    def from_dense(cls, transition, success, initial, labels=None):
        S, A = np.shape(success)
        rows = csr_array(np.reshape(np.asarray(transition, float), (S * A, S)))
        return cls(rows, np.asarray(success, float), np.asarray(initial, float), np.arange(S) if labels is None else labels)

    @property
    def n_states(self) -> int:
        return self.success.shape[0]

    @property
    def n_actions(self) -> int:
        return self.success.shape[1]

    @property
    def failure(self) -> Array:
        return 1 - self.success - np.asarray(self.transition.sum(axis=1)).reshape(self.success.shape)


@dataclass(frozen=True, eq=False)
class Evaluation:
    policy: Array
    V: Array
    Q: Array
    visits: Array
    success_rate: float


def evaluate(mdp: SuccessMDP, policy: Array) -> Evaluation:
    policy = np.asarray(policy, float)
    S, A = mdp.success.shape
    P = mdp.transition.toarray().reshape(S, A, S)
    M = np.eye(S) - np.einsum("sa,sat->st", policy, P)
    V = np.linalg.solve(M, (policy * mdp.success).sum(1))
    visits = np.linalg.solve(M.T, mdp.initial)
    Q = mdp.success + P @ V
    return Evaluation(policy, V, Q, visits, float(mdp.initial @ V))
