"""Episodes on FrozenLake 8x8 under the uniform policy: ours against a plain loop of `env.step`."""

from collections.abc import Callable
from dataclasses import replace
from time import process_time

import gymnasium
import numpy as np

from bench.race import Finish, race, table
from sc_utils.environments import from_gymnasium, positive_ending
from sc_utils.mdp import evaluate
from sc_utils.sampling import sample_counts, sample_log

N_EPISODES = 200_000
N_STEPS = 20_000


def finishes() -> list[Finish]:
    """Race per step of an episode, then give the time of counting 10^8 episodes."""
    env = gymnasium.make("FrozenLake-v1", map_name="8x8")
    lake = from_gymnasium(env, outcome=positive_ending)
    policy = np.full(lake.success.shape, 1 / lake.n_actions)
    rng = np.random.default_rng(1)

    (step,) = race(
        "sample_log, one step",
        lambda: sample_log(lake, policy, N_EPISODES, rng=rng),
        {"gymnasium env.step": (loop(env, rng), 250)},
    )
    start = process_time()
    sample_counts(lake, policy, 10**8, rng=rng)
    seconds = process_time() - start
    counts = Finish(
        "sample_counts, 1e8 episodes", "one second", seconds, 1.0, ratio=1 / seconds, target=1
    )
    steps = N_EPISODES * float(evaluate(lake, policy).visits.sum())
    return [
        replace(
            step,
            ours=step.ours / steps,
            theirs=step.theirs / N_STEPS,
            ratio=step.ratio * steps / N_STEPS,
        ),
        counts,
    ]


def loop(env: gymnasium.Env[int, int], rng: np.random.Generator) -> Callable[[], None]:
    """Step through episodes one after the other, with actions drawn beforehand."""
    env.reset(seed=1)

    def run() -> None:
        for action in rng.integers(4, size=N_STEPS).tolist():
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return run


if __name__ == "__main__":
    print(table(finishes()))
