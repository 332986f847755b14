"""From a counted log to a verdict: whether actions matter in it, and what another round would give.

The behaviour is not known here: it is read from the same visits, failures included. Everything is
measured against what a log without influence would show.
"""

from dataclasses import dataclass

from sc_utils.tallies import Tally

__all__ = [
    "Caution",
    "Choice",
    "Diagnosis",
    "Estimate",
    "StateReport",
    "ThresholdReport",
    "diagnose",
]


@dataclass(frozen=True)
class Estimate:
    """A number read from data, and how well it is known.

    Attributes
    ----------
    value
        The estimate; NaN where the log says nothing.
    low, high
        Its confidence interval. For an influence the interval holds the *true*, non-negative
        value; the estimate is unbiased and may lie below it.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StateReport:
    """What a log says of one state (or prompt).

    Attributes
    ----------
    state
        Its label.
    decisions
        Visits, successful or not.
    success_rate
        Mean success of the visits.
    influence
        I(s); value NaN, interval [0, inf], where no two visits can be compared.
    p_value
        Of the hypothesis I(s) = 0, adjusted for the number of states (Holm); 1 where nothing can
        be compared.
    """

    state: str
    decisions: int
    success_rate: float
    influence: Estimate
    p_value: float


@dataclass(frozen=True)
class ThresholdReport:
    """What calling the returns of at least a threshold a success would do.

    The gain is alignment times amplification times the gain of the faithful label, which is the
    return itself.

    Attributes
    ----------
    threshold
        The least return that counts as a success.
    success_rate
        Share of the episodes that reach it.
    influence
        Gamma of this label: the relative gain in *its* success rate.
    amplification
        Root of the ratio of its influence to that of the return, both over the same visits; NaN
        where either is no more than noise.
    alignment
        Correlation of the actions' true success rates with their true mean returns, in [-1, 1];
        NaN where either is no more than noise.
    gain
        In the mean return, in its units, to first order, of one exact round with this label.
    """

    threshold: float
    success_rate: float
    influence: Estimate
    amplification: float
    alignment: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Choice:
    """The threshold that looks best, and what it honestly gains.

    Attributes
    ----------
    threshold
        That of the largest estimated gain in the whole log.
    gain
        In the mean return, of choosing in this way: one half of the groups of episodes chooses,
        the other half measures, and the other way round. Choosing by looking is paid for.
    faithful
        Gain of the label that is the return itself, for comparison.
    """

    threshold: float
    gain: Estimate
    faithful: Estimate


@dataclass(frozen=True)
class Caution:
    """What may be wrong with a verdict.

    Attributes
    ----------
    kind
        ``"success"`` (none, or few), ``"coverage"``, ``"behaviour"``, ``"confounding"``,
        ``"drift"``, ``"unique"`` or ``"noise"``.
    text
        One or two sentences, with the numbers.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """What a tally says; see `diagnose`.

    Attributes
    ----------
    episodes, decisions, skipped
        How much was read; lines that were left out.
    n_states, n_actions
        Distinct states (prompts); distinct actions (answers), None if they were not kept apart.
    single
        Whether every episode is one decision.
    confidence
        Of all intervals.
    success_rate
        Over episodes; Clopper and Pearson's interval.
    influence
        Gamma, summed over the decisions of a success: the relative gain, to first order, of one
        exact round. NaN, [0, inf] where the log carries no evidence.
    p_value
        Of the hypothesis that there is no influence anywhere.
    detectable
        Whether `p_value` is at most 1 - confidence; if and only if ``influence.low > 0``.
    judged
        Share of the influence's weight that lies where visits can be compared: successes that met,
        actions that recurred. The estimate takes the rest to be alike.
    pooled
        Success rate after another round, rho (1 + Gamma), to first order, at most 1.
    balanced
        Mean over the prompts that were solved of the relative gain I(x): what a trainer that counts
        prompts alike gains, in the mean of log p(x). None unless `single`.
    floor
        rho exp(skill): what an exact round reaches at least.
    deterministic
        Gamma if the verifier always judges an answer alike, whether it recurred or not: failures
        over successes in the prompts that were solved. None unless `single`, or if the log refutes
        it.
    states
        By their share of the influence, the largest first.
    sweep
        By threshold, ascending; empty without returns.
    best
        The threshold that looks best, None without returns.
    needed
        Pairs (Gamma, episodes): how many episodes in these states show such an influence with
        probability 0.8. The estimate itself, if positive, comes last.
    cautions
        In order of weight.
    """

    episodes: int
    decisions: int
    skipped: int
    n_states: int
    n_actions: int | None
    single: bool
    confidence: float
    success_rate: Estimate
    influence: Estimate
    p_value: float
    detectable: bool
    judged: float
    pooled: Estimate
    balanced: Estimate | None
    floor: Estimate
    deterministic: Estimate | None
    states: tuple[StateReport, ...]
    sweep: tuple[ThresholdReport, ...]
    best: Choice | None
    needed: tuple[tuple[float, int], ...]
    cautions: tuple[Caution, ...]


def diagnose(tally: Tally, *, confidence: float = 0.95) -> Diagnosis:
    """Judge a counted log: is there influence in it, and what would another round give?"""
    raise NotImplementedError
