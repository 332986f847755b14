"""The best policy within a trust region, radius after radius: ours against a conic solver."""

from collections.abc import Callable
from itertools import cycle

import cvxpy as cp
import numpy as np

from bench.race import Finish, race, table
from sc_utils.conditioning import successful_visits
from sc_utils.environments import slippery_grid
from sc_utils.mdp import Evaluation, evaluate
from sc_utils.trust_region import trust_region_policy, trust_region_radius

SHARES = (0.5, 1.0, 4.0, 20.0)
"""Radii, as multiples of Gamma: on the straight path, and past the first actions to drop out."""


def finishes() -> list[Finish]:
    """Race on grids of two sizes."""
    results = []
    for side, target in ((10, 10), (40, 20)):
        grid = slippery_grid(side, side, hazard=0.01)
        e = evaluate(grid, np.full(grid.success.shape, 1 / grid.n_actions))
        results += race(
            f"trust_region_policy, grid {side}^2",
            ours(e),
            {"Clarabel by CVXPY": (clarabel(e), target)},
        )
    return results


def ours(e: Evaluation) -> Callable[[], object]:
    """Solve for the next radius."""
    radii = cycle(np.multiply(SHARES, trust_region_radius(e)))
    return lambda: trust_region_policy(e, next(radii))


def clarabel(e: Evaluation) -> Callable[[], object]:
    """Pose the problem once, with the radius as a parameter; solve for the next radius."""
    d_plus = successful_visits(e)
    weight = np.sqrt(d_plus[:, np.newaxis] / e.policy)
    A_0 = e.visits[:, np.newaxis] * (e.Q - e.V[:, np.newaxis])
    radii = cycle(np.multiply(SHARES, trust_region_radius(e)))
    pi, radius = cp.Variable(e.policy.shape, nonneg=True), cp.Parameter(nonneg=True)
    problem = cp.Problem(
        cp.Maximize(cp.sum(cp.multiply(A_0 / np.abs(A_0).max(), pi))),
        [
            cp.sum(pi, axis=1) == 1,
            cp.sum_squares(cp.multiply(weight, pi - e.policy)) <= radius,
        ],
    )

    def run() -> float:
        radius.value = next(radii)
        return float(problem.solve(solver=cp.CLARABEL))

    return run


if __name__ == "__main__":
    print(table(finishes()))
