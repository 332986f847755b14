"""The same evaluation by others: a model checker, an economists' library, and a loop in Python.

Each function takes what its tool takes and returns a function without arguments, to be timed.
Building the tool's own model is not timed; reading its answer into an array is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sc_utils.mdp import SuccessMDP

Array = NDArray[np.float64]


def storm(mdp: SuccessMDP, policy: Array) -> Callable[[], tuple[Array, Array]]:
    """V and visits by Storm with its default settings, on the chain that the policy induces."""
    import stormpy
    from stormpy.developer import compute_expected_visiting_times_with_sparse_engine as visits
    from stormpy.developer import storage

    S = mdp.n_states
    P, r = induced_chain(mdp, policy)
    failure = (policy * mdp.failure).sum(axis=1)
    builder = storage.SparseMatrixBuilder(
        rows=S + 2,
        columns=S + 2,
        entries=0,
        force_dimensions=False,
        has_custom_row_grouping=False,
    )
    for s in range(S):
        row = slice(P.indptr[s], P.indptr[s + 1])
        for t, p in zip(P.indices[row].tolist(), P.data[row].tolist(), strict=True):
            builder.add_next_value(s, t, p)
        for t, p in ((S, float(r[s])), (S + 1, float(failure[s]))):
            if p > 0:
                builder.add_next_value(s, t, p)
    builder.add_next_value(S, S, 1.0)
    builder.add_next_value(S + 1, S + 1, 1.0)
    labels = storage.StateLabeling(S + 2)
    labels.add_label("init")
    labels.add_label("success")
    for s in np.flatnonzero(mdp.initial).tolist():
        labels.add_label_to_state("init", s)
    labels.add_label_to_state("success", S)
    chain = storage.SparseDtmc(
        storage.SparseModelComponents(transition_matrix=builder.build(), state_labeling=labels)
    )
    reach = stormpy.parse_properties('P=? [F "success"]')[0]
    environment = stormpy.Environment()

    def run() -> tuple[Array, Array]:
        V = stormpy.model_checking(chain, reach).get_value_vector()
        d = visits(environment, chain).get_value_vector()
        return np.array(V), np.array(d)

    return run


def quantecon(mdp: SuccessMDP, policy: Array) -> Callable[[], Array]:
    """V by `DiscreteDP.evaluate_policy`, on the induced chain as a problem with one action.

    The method refuses an undiscounted problem, so the discount factor is the largest float below
    one.
    """
    from quantecon.markov import DiscreteDP
    from scipy.sparse import csr_matrix

    P, r = induced_chain(mdp, policy)
    states, only = np.arange(mdp.n_states), np.zeros(mdp.n_states, dtype=int)
    problem = DiscreteDP(r, csr_matrix(P), np.nextafter(1, 0), states, only)
    return lambda: problem.evaluate_policy(only)


def sweeps(
    table: Mapping[int, Mapping[int, list[tuple[float, int, float, bool]]]],
    policy: Mapping[int, Array],
    accuracy: float = 1e-12,
) -> Callable[[], dict[int, float]]:
    """V by sweeping over the rows of a Gymnasium table until a sweep changes nothing."""

    def run() -> dict[int, float]:
        V = dict.fromkeys(table, 0.0)
        change = 1.0
        while change > accuracy:
            change = 0.0
            for s, row in policy.items():
                v = sum(
                    chance * p * (reward + (0.0 if done else V[t]))
                    for a, chance in enumerate(row)
                    for p, t, reward, done in table[s][a]
                )
                change = max(change, abs(v - V[s]))
                V[s] = v
        return V

    return run


def induced_chain(mdp: SuccessMDP, policy: Array) -> tuple[Any, Array]:
    """P_pi (S, S) and r_pi (S,)."""
    S, A = policy.shape
    average = csr_array((policy.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)))
    P = csr_array(average @ mdp.transition)
    P.sort_indices()
    return P, (policy * mdp.success).sum(axis=1)
