"""Draw the README's figure, for light pages and for dark: ``python -m _ext.cover``.

One round of success conditioning in real environments, from random play, computed exactly.
"""

import io
from pathlib import Path

import gymnasium
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from _ext.figures import by_day, by_night
from sc_utils import figures
from sc_utils.conditioning import condition_on_success
from sc_utils.environments import any_ending, blackjack, from_gymnasium, positive_ending
from sc_utils.mdp import SuccessMDP, evaluate

FOLDER = Path(__file__).resolve().parent.parent / "_static"


def crossing(s: int, a: int, s2: int, reward: float, terminated: bool) -> str:
    """Call a fall from the cliff a failure, arrival a success."""
    return "failure" if reward == -100 else any_ending(s, a, s2, reward, terminated)


def cases() -> dict[str, SuccessMDP]:
    """Return the environments; a step costs 5% where random play would wander for ever."""
    dry = gymnasium.make("FrozenLake-v1", is_slippery=False)
    slippery = gymnasium.make("FrozenLake-v1", is_slippery=True)
    cliff, taxi = gymnasium.make("CliffWalking-v1"), gymnasium.make("Taxi-v4")
    return {
        "FrozenLake, not slippery": from_gymnasium(dry, outcome=positive_ending),
        "FrozenLake, slippery": from_gymnasium(slippery, outcome=positive_ending),
        "CliffWalking": from_gymnasium(cliff, outcome=crossing, hazard=0.05),
        "Taxi": from_gymnasium(taxi, outcome=positive_ending, hazard=0.02),
        "Blackjack": blackjack(),
    }


def one_round(mdp: SuccessMDP) -> tuple[float, float]:
    """Return the success rate of random play, and after imitating its successes."""
    uniform = np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    random = evaluate(mdp, uniform)
    imitation = evaluate(mdp, condition_on_success(random.policy, random.Q))
    return random.success_rate, imitation.success_rate


def cover() -> str:
    """Return the figure as SVG, in the inks of the book."""
    named = cases()
    before, after = zip(*map(one_round, named.values()), strict=True)
    with mpl.rc_context():
        figures.use_book_style()
        figure = Figure(figsize=(6.4, 2.4))
        axes = figure.subplots()
        figures.draw_shift(axes, list(named), before, after)
        axes.set(xlim=(-0.02, 1.12), xlabel="success rate")
        axes.set_title("From random play to imitating its successes, once")
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue()


def drawings() -> dict[Path, str]:
    """Return the two files and what is in them."""
    svg = cover()
    return {FOLDER / "cover-light.svg": by_day(svg), FOLDER / "cover-dark.svg": by_night(svg)}


if __name__ == "__main__":
    for path, drawing in drawings().items():
        path.write_text(drawing, encoding="utf-8")
