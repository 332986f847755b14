"""Success conditioning: keep the episodes that succeeded, imitate them, and know what that does.

>>> import sc_utils as sc
>>> arms = sc.bandit([0.2, 0.6])
>>> before = sc.evaluate(arms, [[0.5, 0.5]])
>>> imitator = sc.condition_on_success(before.policy, before.Q)
>>> imitator.round(2).tolist(), round(sc.evaluate(arms, imitator).success_rate, 3)
([[0.25, 0.75]], 0.5)

Algebra and drawing are imported by their rooms' names: ``from sc_utils import symbolic, figures``.
"""

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_failure,
    condition_on_success,
    relative_improvement,
    success_ratio,
    successful_visits,
)
from sc_utils.environments import (
    any_ending,
    bandit,
    blackjack,
    from_gymnasium,
    positive_ending,
    random_mdp,
    slippery_grid,
)
from sc_utils.logs import Counts, Log
from sc_utils.luck import LuckDecomposition, doob_transform, luck_decomposition
from sc_utils.mdp import Evaluation, SuccessMDP, evaluate, maximise_success
from sc_utils.sampling import sample_counts, sample_log

__all__ = [
    "Counts",
    "Evaluation",
    "Log",
    "LuckDecomposition",
    "SuccessMDP",
    "action_influence",
    "any_ending",
    "bandit",
    "blackjack",
    "chi_squared",
    "condition_on_failure",
    "condition_on_success",
    "doob_transform",
    "evaluate",
    "from_gymnasium",
    "luck_decomposition",
    "maximise_success",
    "positive_ending",
    "random_mdp",
    "relative_improvement",
    "sample_counts",
    "sample_log",
    "slippery_grid",
    "success_ratio",
    "successful_visits",
]
