"""Exact evaluation: ours returns V, Q and visits; Storm V and visits; QuantEcon and the sweep V.

The policy is uniform. The grids are slippery, with a hazard; on those of 100 x 100 and 300 x 300 it
makes success from the start as rare as 1e-13.
"""

import resource
import subprocess
import sys
from collections.abc import Callable
from time import process_time

import gymnasium
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bench import peers
from bench.race import Finish, race
from sc_utils.environments import from_gymnasium, positive_ending, slippery_grid
from sc_utils.mdp import Evaluation, SuccessMDP, evaluate

Array = NDArray[np.float64]


def finishes() -> list[Finish]:
    """Race on FrozenLake, two grids and an acyclic process."""
    env = gymnasium.make("FrozenLake-v1", map_name="8x8")
    lake = from_gymnasium(env, outcome=positive_ending)
    rows = {int(s): np.full(4, 0.25) for s in lake.labels}
    plain = peers.sweeps(env.unwrapped.P, rows)  # type: ignore[attr-defined]
    return [
        *compete("FrozenLake 8x8", lake, storm=2, quantecon=1.2),
        *race("FrozenLake 8x8", runner(lake), {"sweeps in Python": (plain, 400)}),
        *compete("grid 100 x 100", slippery_grid(100, 100, hazard=1e-2), storm=2, quantecon=1.2),
        *compete("grid 300 x 300", slippery_grid(300, 300, hazard=1.1e-3), storm=4, quantecon=1.2),
        *compete("50 layers of 1,000 states", layered(50, 1000, 10, 5), storm=30, quantecon=100),
    ]


def long_finishes() -> list[Finish]:
    """Race on a million states; ours runs in a process of its own, to be weighed."""
    child = subprocess.run(
        [sys.executable, "-m", "bench.engine"], check=True, capture_output=True, text=True
    )
    seconds, gigabytes = map(float, child.stdout.split())
    course, grid = "grid 1000 x 1000", million_states()
    finishes = [
        Finish(
            f"{course}, peak memory {gigabytes:.2f} GB", "2 GB", seconds, seconds, 2 / gigabytes, 1
        )
    ]
    for name, peer, target in (("Storm", peers.storm, 7), ("QuantEcon", peers.quantecon, 2)):
        run = peer(grid, uniform(grid))
        start = process_time()
        run()
        theirs = process_time() - start
        finishes.append(Finish(course, name, seconds, theirs, theirs / seconds, target))
    return finishes


def compete(course: str, mdp: SuccessMDP, *, storm: float, quantecon: float) -> list[Finish]:
    """Race against Storm, then against QuantEcon."""
    policy = uniform(mdp)
    return [
        *race(course, runner(mdp), {"Storm": (peers.storm(mdp, policy), storm)}),
        *race(course, runner(mdp), {"QuantEcon": (peers.quantecon(mdp, policy), quantecon)}),
    ]


def runner(mdp: SuccessMDP) -> Callable[[], Evaluation]:
    """Ours, from the process and the policy to V, Q and visits."""
    policy = uniform(mdp)
    return lambda: evaluate(mdp, policy)


def uniform(mdp: SuccessMDP) -> Array:
    """Return the policy that prefers no action."""
    return np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)


def million_states() -> SuccessMDP:
    """Build the largest grid, with a hazard at which the model checker ends within minutes."""
    return slippery_grid(1000, 1000, hazard=1e-3)


def layered(n_layers: int, width: int, n_actions: int, n_successors: int) -> SuccessMDP:
    """Random moves from each layer to the next; one decision in ten ends the episode."""
    rng = np.random.default_rng(1)
    S = n_layers * width
    last = np.arange(S) >= S - width
    chance = 0.9 * rng.dirichlet(np.ones(n_successors), size=(S, n_actions))[~last]
    following = (np.arange(S)[~last] // width + 1)[:, None, None] * width
    target = following + rng.integers(width, size=chance.shape)
    rows = np.repeat(np.arange((S - width) * n_actions), n_successors)
    transition = csr_array((chance.ravel(), (rows, target.ravel())), (S * n_actions, S))
    success = np.where(last, 1.0, 0.1)[:, None] * rng.random((S, n_actions))
    return SuccessMDP(transition, success, np.where(np.arange(S) < width, 1 / width, 0))


if __name__ == "__main__":
    grid = million_states()
    start = process_time()
    evaluate(grid, uniform(grid))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(process_time() - start, kilobytes / 2**20)
