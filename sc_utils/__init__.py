"""Success conditioning: keep the episodes that succeeded, imitate them, and know what that does.

>>> import sc_utils as sc
>>> arms = sc.bandit([0.2, 0.6])
>>> before = sc.evaluate(arms, [[0.5, 0.5]])
>>> imitator = sc.condition_on_success(before.policy, before.Q)
>>> imitator.round(2).tolist(), round(sc.evaluate(arms, imitator).success_rate, 3)
([[0.25, 0.75]], 0.5)

Algebra, drawing and networks are imported by their rooms' names:
``from sc_utils import symbolic, figures, networks``.
"""

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_failure,
    condition_on_success,
    kl_divergence,
    relative_improvement,
    success_ratio,
    successful_visits,
    total_variation,
)
from sc_utils.diagnosis import (
    Caution,
    Choice,
    Diagnosis,
    Estimate,
    StateReport,
    ThresholdReport,
    diagnose,
)
from sc_utils.environments import (
    any_ending,
    bandit,
    blackjack,
    from_gymnasium,
    positive_ending,
    random_mdp,
    return_at_least,
    slippery_grid,
)
from sc_utils.intervals import (
    noncentral_interval,
    noncentral_p_value,
    noncentrality_needed,
    scaled_interval,
    successes_needed,
)
from sc_utils.labels import (
    OptimalLabel,
    alignment,
    amplification,
    label_gain,
    optimal_label,
    outcome_advantage,
)
from sc_utils.learning import LossCertificate, certify, negative_log_likelihood
from sc_utils.logs import Counts, InfluenceEstimate, Log, estimate_influence, estimate_policy
from sc_utils.luck import (
    ImprovementBounds,
    InfluenceBudget,
    LuckDecomposition,
    OutcomeVariance,
    doob_transform,
    escape_luck,
    improvement_bounds,
    influence_budget,
    luck_decomposition,
    outcome_variance,
)
from sc_utils.mdp import Evaluation, SuccessMDP, evaluate, maximise_success
from sc_utils.readers import MalformedLine, UnreadableLog, read_tally
from sc_utils.reports import as_html, as_text
from sc_utils.rounds import exact_rounds, sampled_rounds, wright_fisher
from sc_utils.sampling import sample_counts, sample_log
from sc_utils.sweeps import sweep
from sc_utils.tallies import Tally
from sc_utils.trust_region import (
    Certificate,
    GapClosed,
    certificate,
    chi_squared_reach,
    gap_closed,
    kl_reach,
    longest_step,
    policy_movement,
    reverse_kl_reach,
    step_for_radius,
    success_step,
    surrogate_gain,
    total_variation_reach,
    trust_region_policy,
    trust_region_radius,
)

__all__ = [
    "Caution",
    "Certificate",
    "Choice",
    "Counts",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "GapClosed",
    "ImprovementBounds",
    "InfluenceBudget",
    "InfluenceEstimate",
    "Log",
    "LossCertificate",
    "LuckDecomposition",
    "MalformedLine",
    "OptimalLabel",
    "OutcomeVariance",
    "StateReport",
    "SuccessMDP",
    "Tally",
    "ThresholdReport",
    "UnreadableLog",
    "action_influence",
    "alignment",
    "amplification",
    "any_ending",
    "as_html",
    "as_text",
    "bandit",
    "blackjack",
    "certificate",
    "certify",
    "chi_squared",
    "chi_squared_reach",
    "condition_on_failure",
    "condition_on_success",
    "diagnose",
    "doob_transform",
    "escape_luck",
    "estimate_influence",
    "estimate_policy",
    "evaluate",
    "exact_rounds",
    "from_gymnasium",
    "gap_closed",
    "improvement_bounds",
    "influence_budget",
    "kl_divergence",
    "kl_reach",
    "label_gain",
    "longest_step",
    "luck_decomposition",
    "maximise_success",
    "negative_log_likelihood",
    "noncentral_interval",
    "noncentral_p_value",
    "noncentrality_needed",
    "optimal_label",
    "outcome_advantage",
    "outcome_variance",
    "policy_movement",
    "positive_ending",
    "random_mdp",
    "read_tally",
    "relative_improvement",
    "return_at_least",
    "reverse_kl_reach",
    "sample_counts",
    "sample_log",
    "sampled_rounds",
    "scaled_interval",
    "slippery_grid",
    "step_for_radius",
    "success_ratio",
    "success_step",
    "successes_needed",
    "successful_visits",
    "surrogate_gain",
    "sweep",
    "total_variation",
    "total_variation_reach",
    "trust_region_policy",
    "trust_region_radius",
    "wright_fisher",
]
