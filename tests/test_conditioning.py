"""The operator and its three numbers: identities, oracles, worked numbers, refusals."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import chi2_contingency

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_failure,
    condition_on_success,
    kl_divergence,
    merge_states,
    relative_improvement,
    success_ratio,
    successful_visits,
)
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.symbolic import ActionDraw, exact_evaluate, trajectories
from sc_utils.trust_region import policy_movement, surrogate_gain, trust_region_radius
from tests.strategies import Listed, acyclic_exact_mdps, as_floats, mdps_with_policies, policies_of

POLICY = np.array([[0.30, 0.25, 0.20, 0.15, 0.10], [0.2, 0.2, 0.2, 0.2, 0.2]])
Q = np.array([[0.05, 0.10, 0.20, 0.40, 0.60], [0.9, 0.0, 0.9, 0.0, 0.9]])


def rational_rows(draw: st.DrawFn) -> tuple[list[Fraction], list[Fraction]]:
    n = draw(st.integers(2, 6))
    weights = draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    chances = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n).filter(any))
    return [Fraction(w, sum(weights)) for w in weights], [Fraction(c, 12) for c in chances]


one_decision = st.composite(rational_rows)()


# Identities


@given(mdps_with_policies())
def test_three_numbers_agree_at_every_state(case):
    mdp, policy = case
    q = evaluate(mdp, policy).Q
    pi_plus = condition_on_success(policy, q)
    influence = action_influence(policy, q)
    np.testing.assert_allclose(chi_squared(pi_plus, policy), influence, rtol=1e-9, atol=1e-14)
    improvement = relative_improvement(pi_plus, policy, q)
    np.testing.assert_allclose(improvement, influence, rtol=1e-9, atol=1e-14)


@given(mdps_with_policies(full_support=False))
def test_three_numbers_agree_summed_over_the_visits_of_successes(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    assume(e.success_rate > 0)
    pi_plus, radius = condition_on_success(policy, e.Q), trust_region_radius(e)
    gain = surrogate_gain(e, pi_plus) / e.success_rate
    assert gain == pytest.approx(radius, rel=1e-9, abs=1e-13)
    assert policy_movement(e, pi_plus) == pytest.approx(radius, rel=1e-9, abs=1e-13)


@given(mdps_with_policies())
def test_first_order_gain_is_the_slope_of_the_success_rate(case):
    """By evaluating two policies next to the behaviour, to the left and to the right."""
    mdp, policy = case
    e = evaluate(mdp, policy)
    pi_plus, h = condition_on_success(policy, e.Q), 1e-5
    near = [evaluate(mdp, policy + x * (pi_plus - policy)).success_rate for x in (h, -h)]
    slope = (near[0] - near[1]) / (2 * h)
    assert slope / e.success_rate == pytest.approx(trust_region_radius(e), rel=1e-5, abs=1e-8)


@given(st.data())
def test_gain_of_any_policy_is_bounded_by_its_movement_and_the_influence(data):
    mdp, policy = data.draw(mdps_with_policies())
    new, q = data.draw(policies_of(mdp, full_support=False)), evaluate(mdp, policy).Q
    influence = action_influence(policy, q)
    gain, bound = relative_improvement(new, policy, q), chi_squared(new, policy) * influence
    assert (gain**2 <= bound + 1e-12).all()
    pi_plus = condition_on_success(policy, q)
    for eta in (-0.1, 0.4, 1.0):  # on the path the bound is attained
        path = policy + eta * (pi_plus - policy)
        if (path >= 0).all():
            gain = relative_improvement(path, policy, q)
            np.testing.assert_allclose(gain, eta * influence, rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(
                chi_squared(path, policy) * influence, gain**2, rtol=1e-9, atol=1e-13
            )


@given(mdps_with_policies(full_support=False))
def test_behaviour_is_the_mixture_of_success_and_failure(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    V = e.V[:, None]
    mixture = V * condition_on_success(policy, e.Q) + (1 - V) * condition_on_failure(policy, e.Q)
    np.testing.assert_allclose(mixture, policy, atol=1e-12)


@given(mdps_with_policies())
def test_conditioned_policy_never_does_worse_at_any_state(case):
    mdp, policy = case
    old = evaluate(mdp, policy)
    new = evaluate(mdp, condition_on_success(policy, old.Q))
    assert (old.V * (1 + action_influence(policy, old.Q)) - 1e-12 <= new.V).all()


@given(one_decision, st.integers(0, 5))
def test_one_decision_gains_its_influence_and_nothing_only_if_all_played_succeed_alike(case, k):
    """In exact rationals, with one action that is never played and succeeds differently."""
    pi, q = [*case[0], Fraction(0)], [*case[1], Fraction(k, 5)]
    V = sum(p * x for p, x in zip(pi, q, strict=True))
    V_plus = sum(p * x / V * x for p, x in zip(pi, q, strict=True))
    pi_plus = condition_on_success(np.array(pi, dtype=float), np.array(q, dtype=float))
    influence = float(action_influence(np.array(pi, dtype=float), np.array(q, dtype=float)))
    assert pi_plus @ np.array(q, dtype=float) == pytest.approx(float(V_plus), rel=1e-12)
    assert float(V_plus) == pytest.approx(float(V) * (1 + influence), rel=1e-12)
    assert (V_plus == V) == (len(set(case[1])) == 1)


def wanderers(rng, n_states=5, n_actions=3):
    """Only one action of each state can end; the others lead on for ever, round in a ring."""
    transition, success = np.zeros((n_states, n_actions, n_states)), np.zeros((n_states, n_actions))
    for s in range(n_states):
        for a in range(n_actions):
            transition[s, a, (s + a) % n_states] = 1
    lucky = rng.integers(1, n_actions, n_states)
    transition[np.arange(n_states), lucky] = 0
    success[np.arange(n_states), lucky] = rng.uniform(0.1, 0.9, n_states)
    return SuccessMDP.from_dense(transition, success, np.full(n_states, 1 / n_states))


def can_end(mdp, policy):
    """Not by solving, but by walking: from where can an exit be reached, along what is played?"""
    dense = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, -1)
    moves = (policy[:, :, np.newaxis] * dense).sum(axis=1) > 0
    ends = (policy * (mdp.success + mdp.failure)).sum(axis=1) > 1e-12
    for _ in range(mdp.n_states):
        ends = ends | (moves & ends).any(axis=1)
    return ends.all()


def test_conditioning_keeps_episodes_ending(rng):
    for _ in range(60):
        mdp = wanderers(rng)
        behaviour = rng.dirichlet(np.ones(3), size=5)
        e = evaluate(mdp, behaviour)
        assert can_end(mdp, condition_on_success(behaviour, e.Q))
        assert not can_end(mdp, np.eye(3)[np.zeros(5, dtype=int)])  # always the first action


def test_where_nothing_succeeds_another_choice_than_the_behaviour_may_never_end():
    """State 1 cannot succeed. Its actions: stay, or fail. Staying would be a policy without end."""
    transition = np.zeros((2, 3, 2))
    transition[0, 0, 1] = transition[1, 0, 1] = 1.0
    mdp = SuccessMDP.from_dense(transition, [[0, 1, 0.5], [0, 0, 0]], [1.0, 0.0])
    behaviour = np.full((2, 3), 1 / 3)
    e = evaluate(mdp, behaviour)
    pi_plus = condition_on_success(behaviour, e.Q)
    np.testing.assert_array_equal(pi_plus[1], behaviour[1])
    assert np.isfinite(evaluate(mdp, pi_plus).visits).all()
    stay = [[1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="never ends"):
        evaluate(mdp, stay)


@given(one_decision, st.floats(0.05, 0.9))
def test_offset_dilutes_influence_and_scale_does_not(case, share):
    pi, q = (np.array(row, dtype=float) for row in case)
    V, I = pi @ q, float(action_influence(pi, q))
    b = share * (1 - q.max())
    assert float(action_influence(pi, q + b)) == pytest.approx(I * (V / (V + b)) ** 2, abs=1e-13)
    assert float(action_influence(pi, share * q)) == pytest.approx(I, abs=1e-13)


@given(one_decision, st.integers(1, 6))
def test_rounds_multiply(case, k):
    pi, q = (np.array(row, dtype=float) for row in case)
    after = pi
    for _ in range(k):
        after = condition_on_success(after, q)
    power = pi * q**k
    np.testing.assert_allclose(after, power / power.sum(), rtol=1e-11)


# Derivations


def test_three_numbers_for_any_number_of_actions():
    X, V = sp.symbols("X V", positive=True)
    draw = ActionDraw({X: V})
    w = X / V
    improvement = draw.expect(w * X) / V - 1
    movement = draw.expect((w - 1) ** 2)
    influence = draw.expect((X - V) ** 2) / V**2
    assert sp.expand(improvement - influence) == 0
    assert sp.expand(movement - influence) == 0
    assert sp.expand(movement - draw.expect((w - 1) ** 3)) != 0


@given(st.data())
def test_summed_gain_of_any_policy_is_bounded_by_its_movement_and_the_radius(data):
    """So the radius is at least the squared gain over the movement; on the straight way, equal."""
    mdp, policy = data.draw(mdps_with_policies())
    new, e = data.draw(policies_of(mdp, full_support=False)), evaluate(mdp, policy)
    radius, bent = trust_region_radius(e), condition_on_success(policy, e.Q)
    gain = surrogate_gain(e, new) / e.success_rate
    movement = policy_movement(e, new)
    assert gain**2 <= movement * radius * (1 + 1e-9) + 1e-12
    assert -1e-9 <= radius - 2 * gain + movement  # the squared distance to the imitator
    way = (policy + bent) / 2
    gain, movement = surrogate_gain(e, way) / e.success_rate, policy_movement(e, way)
    assert gain**2 == pytest.approx(movement * radius, rel=1e-9, abs=1e-13)
    assert movement == pytest.approx(gain / 2, rel=1e-9, abs=1e-13)  # half of the way is gone


def test_switching_one_state_is_first_order_only_where_episodes_do_not_return():
    """In a loop the switched action is played again and again: the gain is not d_0 A_0."""
    loop = SuccessMDP.from_dense([[[0.5], [0.0]]], [[0.2, 0.3]], [1.0])
    pi_0 = np.array([[0.5, 0.5]])
    e = evaluate(loop, pi_0)
    assert e.success_rate == pytest.approx(1 / 3, rel=1e-12)
    assert e.visits == pytest.approx([4 / 3], rel=1e-12)
    pi_plus = condition_on_success(pi_0, e.Q)
    first_order = surrogate_gain(e, pi_plus)
    whole = evaluate(loop, pi_plus).success_rate - e.success_rate
    assert first_order == pytest.approx(1 / 225, rel=1e-12)
    assert whole == pytest.approx(2 / 435, rel=1e-12)


def test_ratio_on_successes_is_the_gain_for_any_number_of_actions():
    X, W, V = sp.symbols("X W V", positive=True)  # pi / pi_0, Q, and the means 1 and V
    draw = ActionDraw({X: 1, W: V})
    on_successes = draw.expect(W / V * (X - 1))
    assert sp.expand(on_successes - (draw.expect(X * W) - V) / V) == 0
    assert sp.expand(draw.expect(X - 1) - (draw.expect(X * W) - V) / V) != 0


def test_gap_of_the_inequality_is_what_lies_off_the_path():
    X, W, V = sp.symbols("X W V", positive=True)
    draw = ActionDraw({X: 1, W: V})
    gain, moved = draw.expect(X * W) / V - 1, draw.expect((X - 1) ** 2)
    influence = draw.expect(W**2) / V**2 - 1
    off = draw.expect((X - 1 - gain / influence * (W / V - 1)) ** 2)
    assert sp.simplify(moved * influence - gain**2 - influence * off) == 0


def test_pearson_statistic_per_play_for_any_number_of_actions():
    X, V = sp.symbols("X V", positive=True)
    draw = ActionDraw({X: V})
    variance = draw.expect((X - V) ** 2)
    pearson = variance / V + variance / (1 - V)  # of the wins and of the losses
    assert sp.simplify(pearson - variance / V**2 * V / (1 - V)) == 0


# Oracles


@given(one_decision)
def test_three_numbers_are_equal_in_exact_rationals(case):
    pi, q = case
    V = sum(p * x for p, x in zip(pi, q, strict=True))
    new = [p * x / V for p, x in zip(pi, q, strict=True)]
    improvement = (sum(n * x for n, x in zip(new, q, strict=True)) - V) / V
    movement = sum((n - p) ** 2 / p for n, p in zip(new, pi, strict=True))
    influence = sum(p * (x - V) ** 2 for p, x in zip(pi, q, strict=True)) / V**2
    assert improvement == movement == influence
    ours = action_influence(np.array(pi, dtype=float), np.array(q, dtype=float))
    assert float(ours) == pytest.approx(float(influence), rel=1e-12, abs=1e-15)


@settings(max_examples=120)
@given(acyclic_exact_mdps())
def test_identity_at_every_state_as_equal_fractions_from_listed_episodes(case):
    """No formula: shares of probability among listed episodes, as `Fraction`, nothing rounded."""
    mdp, policy = case
    listed = Listed.of(mdp, policy)
    floats, pi_0 = as_floats(mdp), np.array(policy, dtype=float)
    e = evaluate(floats, pi_0)
    pi_plus = condition_on_success(pi_0, e.Q)
    for s in range(len(policy)):
        paths = list(listed.episodes(start=s))  # their first decision is taken in s
        plays, wins = {}, {}
        for path in paths:
            a = path.decisions[0][1]
            plays[a] = plays.get(a, 0) + path.probability
            wins[a] = wins.get(a, 0) + path.probability * path.success
        rate = sum(wins.values())
        shares = {a: won / rate for a, won in wins.items()}
        movement = sum((shares[a] - p) ** 2 / p for a, p in plays.items())
        influence = sum(p * (wins[a] / p - rate) ** 2 for a, p in plays.items()) / rate**2
        switched = listed.switch(s, shares)
        better = sum(path.probability for path in switched.episodes(start=s) if path.success)
        assert type(movement) is type(influence) is type(better) is Fraction
        assert (better - rate) / rate == movement == influence
        ours = [chi_squared(pi_plus, pi_0)[s], relative_improvement(pi_plus, pi_0, e.Q)[s]]
        np.testing.assert_allclose(ours, float(influence), rtol=1e-12, atol=1e-15)


@settings(max_examples=100)
@given(acyclic_exact_mdps())
def test_summed_identity_as_equal_fractions_from_listed_episodes(case):
    """The first-order gain, by switching one state at a time to the imitator and listing again."""
    mdp, policy = case
    listed = Listed.of(mdp, policy)
    paths = list(listed.episodes())
    rate = sum(path.probability for path in paths if path.success)
    gain = movement = influence = Fraction(0)
    for s in range(len(policy)):
        plays, wins = {}, {}
        for path in paths:
            for state, a in path.decisions:
                if state == s:
                    plays[a] = plays.get(a, 0) + path.probability
                    wins[a] = wins.get(a, 0) + path.probability * path.success
        if not plays:
            continue
        visits, won = sum(plays.values()), sum(wins.values())
        shares = {a: x / won for a, x in wins.items()}
        switched = listed.switch(s, shares).episodes()
        gain += sum(path.probability for path in switched if path.success) - rate
        for a, p in plays.items():
            movement += won / rate * (shares[a] - p / visits) ** 2 / (p / visits)
            influence += won / rate * p / visits * (wins[a] / p * visits / won - 1) ** 2
    assert gain / rate == movement == influence
    e = evaluate(as_floats(mdp), np.array(policy, dtype=float))
    pi_plus = condition_on_success(e.policy, e.Q)
    assert surrogate_gain(e, pi_plus) == pytest.approx(float(gain), rel=1e-11, abs=1e-14)
    assert policy_movement(e, pi_plus) == pytest.approx(float(movement), rel=1e-11, abs=1e-14)
    assert trust_region_radius(e) == pytest.approx(float(influence), rel=1e-11, abs=1e-14)


@given(st.data())
def test_mean_ratio_on_listed_successes_is_the_first_order_gain_of_any_policy(data):
    mdp, policy = data.draw(acyclic_exact_mdps())
    e = evaluate(as_floats(mdp), np.array(policy, dtype=float))
    new = data.draw(policies_of(as_floats(mdp), full_support=False))
    read = rate = 0.0
    for path in trajectories(mdp, policy):
        if path.success:
            rate += float(path.probability)
            ratios = [new[s, a] / e.policy[s, a] - 1 for s, a in path.decisions]
            read += float(path.probability) * sum(ratios)
    assert read / rate == pytest.approx(surrogate_gain(e, new) / e.success_rate, abs=1e-12)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(any), min_size=2, max_size=6
    ).filter(lambda rows: all(map(sum, zip(*rows, strict=True))))
)
def test_normalised_influence_of_a_table_is_pearsons_statistic_and_an_r_squared(rows):
    """Against SciPy's contingency table, and least squares of the outcome on the action."""
    table = np.array(rows)
    n, plays = table.sum(), table.sum(axis=1)
    pi, q = plays / n, table[:, 0] / plays
    phi_squared = float(action_influence(pi, q)) * (pi @ q) / (1 - pi @ q)
    statistic = chi2_contingency(table, correction=False).statistic
    assert phi_squared == pytest.approx(statistic / n, rel=1e-9, abs=1e-13)
    design = np.repeat(np.eye(len(rows)), plays, axis=0)
    outcome = np.concatenate([np.repeat([1.0, 0.0], row) for row in rows])
    residual = outcome - design @ np.linalg.lstsq(design, outcome, rcond=None)[0]
    assert phi_squared == pytest.approx(1 - residual.var() / outcome.var(), abs=1e-10)


@given(one_decision)
def test_bayes_form_by_listing_all_outcomes(case):
    pi, q = case
    joint = {(a, 1): p * x for a, (p, x) in enumerate(zip(pi, q, strict=True))}
    joint |= {(a, 0): p * (1 - x) for a, (p, x) in enumerate(zip(pi, q, strict=True))}
    success = sum(p for (_, outcome), p in joint.items() if outcome)
    conditional = [float(joint[a, 1] / success) for a in range(len(pi))]
    ours = condition_on_success(np.array(pi, dtype=float), np.array(q, dtype=float))
    np.testing.assert_allclose(ours, conditional, rtol=1e-13)


def test_bayes_form_by_play(rng):
    actions = rng.choice(5, size=400_000, p=POLICY[0])
    wins = actions[rng.random(actions.size) < Q[0, actions]]
    expected = condition_on_success(POLICY, Q)[0]
    error = np.sqrt(expected * (1 - expected) / wins.size)
    z = (np.bincount(wins, minlength=5) / wins.size - expected) / error
    assert np.abs(z).max() < 4


@given(acyclic_exact_mdps())
def test_bayes_form_at_every_state_and_time_by_listing_all_episodes(case):
    """P(A_t = a | S_t = s, R = 1) does not depend on t, and equals the formula exactly."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    seen, chosen = {}, {}
    for path in trajectories(mdp, policy):
        for t, (s, a) in enumerate(path.decisions):
            if path.success:
                seen[t, s] = seen.get((t, s), sp.Integer(0)) + path.probability
                chosen[t, s, a] = chosen.get((t, s, a), sp.Integer(0)) + path.probability
    for (t, s, a), p in chosen.items():
        assert p / seen[t, s] == policy[s][a] * exact.Q[s][a] / exact.V[s]
    for s, visits in enumerate(exact.visits):
        in_successes = sum(p for (_, state), p in seen.items() if state == s)
        assert in_successes / exact.success_rate == visits * exact.V[s] / exact.success_rate


def test_imitation_target_by_a_general_optimiser(rng):
    """Fitted to played successes without a formula; then the excess loss of other policies."""
    target = condition_on_success(POLICY, Q)[0]
    actions = rng.choice(5, size=400_000, p=POLICY[0])
    wins = actions[rng.random(actions.size) < Q[0, actions]]
    seen = np.bincount(wins, minlength=5) / wins.size

    def log_loss(logits):
        return np.logaddexp.reduce(logits) - seen @ logits

    logits = minimize(log_loss, np.zeros(5), tol=1e-12).x
    fitted = np.exp(logits - np.logaddexp.reduce(logits))
    assert (np.abs(fitted - target) < 4 * np.sqrt(target * (1 - target) / wins.size)).all()

    for other in rng.dirichlet(np.ones(5), size=20):
        excess = -(target * np.log(other)).sum() + (target * np.log(target)).sum()
        on_data = -np.log(other[wins]).mean() + np.log(target[wins]).mean()
        spread = np.log(target[wins] / other[wins]).std() / np.sqrt(wins.size)
        assert excess > 0
        assert abs(on_data - excess) < 4.5 * spread


# Worked numbers


def test_two_nearly_equal_arms():
    """Russo (2026), Example 3.1."""
    coin, arms = [0.5, 0.5], [0.495, 0.505]
    pi_plus = condition_on_success(coin, arms)
    np.testing.assert_allclose(pi_plus, arms, rtol=1e-13)
    assert pi_plus @ arms == pytest.approx(0.50005, rel=1e-12)
    assert float(action_influence(coin, arms)) == pytest.approx(1e-4, rel=1e-11)
    assert (pi_plus @ arms - 0.5) / 0.005 == pytest.approx(0.01, rel=1e-9)


def test_hidden_context_makes_imitation_worse_than_the_behaviour():
    """The behaviour sees the context, the learner does not: a wins the counts, b the tasks."""
    q = np.array([[0.90, 0.95], [0.05, 0.10]])
    behaviour = np.array([[0.9, 0.1], [0.1, 0.9]])
    wins = (0.5 * behaviour * q).sum(axis=0)
    blind = np.broadcast_to(wins / wins.sum(), (2, 2))

    def value(policy):
        return 0.5 * (policy * q).sum()

    assert (q[:, 1] > q[:, 0]).all()
    assert value(blind) < value(behaviour) - 0.01
    assert value(condition_on_success(behaviour, q)) > value(behaviour)


def test_of_another_policy_movement_tells_neither_size_nor_sign_of_the_gain():
    coin, q = [0.5, 0.5], [0.2, 0.6]
    pi_plus = condition_on_success(coin, q)
    assert float(chi_squared(pi_plus[::-1], coin)) == pytest.approx(0.25)
    assert float(relative_improvement(pi_plus[::-1], coin, q)) == pytest.approx(-0.25)
    sideways = [0.5, 0.2, 0.3]  # three actions, two of them alike
    assert float(chi_squared(sideways, [0.5, 0.25, 0.25])) == pytest.approx(0.02)
    assert float(
        relative_improvement(sideways, [0.5, 0.25, 0.25], [0.8, 0.2, 0.2])
    ) == pytest.approx(0, abs=1e-15)


def test_relative_entropy_is_not_influence():
    assert float(action_influence([0.5, 0.5], [0, 0.7])) == pytest.approx(1)
    kl = float(kl_divergence(condition_on_success([0.5, 0.5], [0, 0.7]), [0.5, 0.5]))
    assert kl == pytest.approx(np.log(2), rel=1e-12)


def test_mean_ratio_on_all_episodes_says_nothing():
    """Only on successes is it the gain; on all of the behaviour's own actions it is always 0."""
    pi, pi_0 = np.array([0.1, 0.9]), np.array([0.5, 0.5])
    assert (pi_0 * (pi / pi_0 - 1)).sum() == pytest.approx(0)
    q = np.array([0.2, 0.6])
    on_successes = (condition_on_success(pi_0, q) * (pi / pi_0 - 1)).sum()
    assert on_successes == pytest.approx(float(relative_improvement(pi, pi_0, q)), rel=1e-12)
    assert on_successes == pytest.approx(0.4, rel=1e-12)


def test_a_behaviour_with_a_clock_breaks_the_formula_of_one_policy_for_all_times():
    """It plays a, then b, in one state: given success, the action still depends on the time."""
    q = np.array([0.5, 0.5])  # chance that an action succeeds; the first may be followed by another
    first, second = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    at_first = first * (q + (1 - q) * (second @ q))
    at_second = second * q
    assert abs(at_first[0] / at_first.sum() - at_second[0] / at_second.sum()) > 0.5


def test_small_influence_keeps_its_digits():
    q = 0.5 + np.array([-1e-9, 1e-9])
    assert float(action_influence([0.5, 0.5], q)) == pytest.approx(4e-18, rel=1e-6, abs=0)


def test_rare_success_is_conditioned_like_any_other():
    rare = condition_on_success([0.5, 0.5], [1e-13, 3e-13])
    np.testing.assert_allclose(rare, [0.25, 0.75], rtol=1e-12)
    assert float(action_influence([0.5, 0.5], [1e-13, 3e-13])) == pytest.approx(0.25)


def test_where_nothing_succeeds_the_behaviour_stays():
    policy, q = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.0, 0.0], [0.25, 0.75]])
    np.testing.assert_array_equal(condition_on_success(policy, q)[0], policy[0])
    np.testing.assert_array_equal(success_ratio(policy, q)[0], [1, 1])
    assert action_influence(policy, q)[0] == 0
    assert relative_improvement(policy, policy, q)[0] == 0
    np.testing.assert_array_equal(condition_on_failure(policy, 1 - q)[0], policy[0])


def test_an_action_that_nobody_plays_costs_nothing():
    assert float(chi_squared([0.25, 0.75, 0], [0.5, 0.5, 0])) == 0.25
    assert float(action_influence([0.5, 0.5, 0], [0.25, 0.75, 1])) == 0.25


def test_success_where_there_was_none_is_infinitely_better():
    better = relative_improvement([[0, 1], [1, 0]], [[1, 0], [1, 0]], [[0, 1], [0, 1]])
    assert better.tolist() == [np.inf, 0]


def test_rounding_outside_the_range_is_moved_to_its_border():
    np.testing.assert_array_equal(condition_on_failure([0.5, 0.5], [0.2, 1 + 5e-10]), [1, 0])
    np.testing.assert_array_equal(condition_on_success([0.5, 0.5], [-1e-17, 0.5]), [0, 1])


def test_leaving_the_support_is_infinitely_far():
    assert float(chi_squared([0.99, 0.01], [1.0, 0.0])) == np.inf
    assert chi_squared([[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]).tolist() == [np.inf, 0]


@given(mdps_with_policies())
def test_successful_visits_sum_over_the_next_states_of_the_conditioned_flow(case):
    """d_+ solves the flow equation of the conditioned process, without mentioning visits."""
    mdp, policy = case
    e = evaluate(mdp, policy)
    d_plus = successful_visits(e)
    P = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, -1)
    kernel = np.einsum("sa,sat,t->st", policy, P, e.V) / e.V[:, None]
    start = mdp.initial * e.V / e.success_rate
    np.testing.assert_allclose(d_plus, start + d_plus @ kernel, rtol=1e-9, atol=1e-13)


# Refusals


@pytest.mark.parametrize(
    ("policy", "q", "message"),
    [
        ([[0.5, 0.48]], [[0.1, 0.2]], r"policy\[0\] must sum to 1, got 0.98 \(row \[0.5, 0.48\]\)"),
        ([[0.5, 0.5], [1.1, -0.1]], np.ones((2, 2)), r"policy\[1, 1\] must not be negative"),
        ([[0.5, np.nan]], [[0.1, 0.2]], r"policy\[0, 1\] is NaN"),
        ([0.5, 0.5], [0.1, np.nan], r"Q\[1\] is NaN"),
        ([0.5, 0.4995], [0.1, 0.2], r"policy must sum to 1, got 0.9995"),
        ([0.5, 0.5], [0.1, 1.05], r"Q\[1\] must be a probability, got 1.05"),
        ([0.5, 0.5], [-0.1, 0.2], r"Q\[0\] must be a probability, got -0.1"),
        ([0.5, 0.5], [[0.1, 0.2]], r"Q must have the policy's shape \(2,\), got \(1, 2\)"),
        (np.ones((2, 0)), np.ones((2, 0)), r"policy must have shape \(S, A\) or \(A,\)"),
        (np.ones((1, 1, 1)), np.ones((1, 1, 1)), r"policy must have shape \(S, A\) or \(A,\)"),
    ],
)
@pytest.mark.parametrize("function", [condition_on_success, condition_on_failure, action_influence])
def test_bad_input_is_refused_with_place_and_value(function, policy, q, message):
    with pytest.raises(ValueError, match=message):
        function(policy, q)


def test_what_is_not_a_number_is_refused():
    with pytest.raises(TypeError, match="policy must be an array of real numbers"):
        condition_on_success(["half", "half"], [0.1, 0.2])


def test_policies_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="new and old must have the same shape"):
        chi_squared([0.5, 0.5], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="new and policy must have the same shape"):
        relative_improvement([0.5, 0.5], [[0.5, 0.5]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"new must sum to 1, got 1\.1"):
        chi_squared([0.5, 0.6], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"old must sum to 1, got 1\.1"):
        chi_squared([0.5, 0.5], [0.5, 0.6])
    with pytest.raises(ValueError, match=r"new must sum to 1, got 1\.1"):
        relative_improvement([0.5, 0.6], [0.5, 0.5], [0.5, 0.5])


def test_probabilities_that_are_right_up_to_rounding_are_accepted():
    third = 1 / 3 + 2e-12
    np.testing.assert_allclose(condition_on_success([third] * 3, [1, 0, 0]), [1, 0, 0], rtol=1e-9)


def test_visits_of_successes_that_never_come_are_refused():
    hopeless = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[0.0, 1.0]], [1.0])
    e = evaluate(hopeless, [[1.0, 0.0]])
    with pytest.raises(ValueError, match="the policy never succeeds"):
        successful_visits(e)


# Other weights on actions


def weighted(policy, weights):
    tilted = policy * weights
    return tilted / tilted.sum(axis=-1, keepdims=True)


IN_ORDER = {
    "success": lambda q, V: q,
    "exponential": lambda q, V: np.exp(q / 0.05),
    "at least average": lambda q, V: q >= V * (1 - 1e-12),
    "the best": lambda q, V: q >= q.max(axis=-1, keepdims=True) * (1 - 1e-12),
    "cube": lambda q, V: q**3,
    "stairs": lambda q, V: 1 + np.floor(4 * q * (1 + 1e-12)),
}


@pytest.mark.parametrize("name", IN_ORDER)
@given(mdps_with_policies())
def test_a_weight_that_keeps_the_order_improves_every_state(name, case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    new = weighted(policy, IN_ORDER[name](e.Q, e.V[:, None]))
    assert (relative_improvement(new, policy, e.Q) >= -1e-12).all()
    assert (evaluate(mdp, new).V >= e.V - 1e-12).all()


@given(one_decision, st.lists(st.integers(0, 4), min_size=13, max_size=13))
def test_the_gain_of_a_weight_is_its_covariance_with_success_in_rationals(case, steps):
    """For any non-decreasing staircase on the values 0, 1/12, ..., 1."""
    pi, q = case
    stairs = [sum(steps[: int(12 * x) + 1]) for x in q]
    if not any(stairs):
        return
    V = sum(p * x for p, x in zip(pi, q, strict=True))
    mean = sum(p * g for p, g in zip(pi, stairs, strict=True))
    covariance = sum(p * (g - mean) * (x - V) for p, g, x in zip(pi, stairs, q, strict=True))
    new = sum(p * g / mean * x for p, g, x in zip(pi, stairs, q, strict=True))
    assert new - V == covariance / mean
    assert new >= V


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_weight_that_keeps_the_order_keeps_episodes_ending(name, rng):
    for _ in range(40):
        mdp = wanderers(rng)
        behaviour = rng.dirichlet(np.ones(3), size=5)
        e = evaluate(mdp, behaviour)
        assert can_end(mdp, weighted(behaviour, IN_ORDER[name](e.Q, e.V[:, None])))


def test_any_number_of_actions_gains_the_covariance_of_weight_and_success():
    q, g, V, mean, at_V = sp.symbols("q g V gbar g_V")
    draw = ActionDraw({q: V, g: mean})
    same_sign = draw.expect((g - at_V) * (q - V))
    assert sp.expand(same_sign - (draw.expect(g * q) - mean * V)) == 0


def test_preferring_hard_won_successes_makes_things_worse():
    arms = np.array([0.9, 0.5])
    new = weighted(np.full(2, 0.5), arms * (1 - arms))
    np.testing.assert_allclose(new, np.array([9, 25]) / 34, rtol=1e-12)
    assert new @ arms == pytest.approx(20.6 / 34, rel=1e-12)
    assert new @ arms < arms.mean()


def test_weights_on_successes_may_fall_but_no_faster_than_one_over_success():
    """Weigh each success by u(q): fitted to the counts, actions weigh q u(q)."""
    arms = np.array([0.9, 0.5])
    fair = np.full(2, 0.5)

    def taught(u):
        counts = fair * arms * u
        return counts / counts.sum() @ arms

    assert taught(arms**-0.5) == pytest.approx((0.9**1.5 + 0.5**1.5) / (0.9**0.5 + 0.5**0.5))
    assert taught(arms**-0.5) > arms.mean()
    assert taught(1 / arms) == pytest.approx(arms.mean(), rel=1e-12)
    assert taught(arms**-1.5) < arms.mean()


@given(mdps_with_policies(), st.integers(1, 9))
def test_a_weight_on_states_alone_changes_nothing(case, k):
    mdp, policy = case
    q = evaluate(mdp, policy).Q
    by_state = np.arange(1, mdp.n_states + 1)[:, None] * k
    np.testing.assert_allclose(
        weighted(policy, q * by_state), condition_on_success(policy, q), rtol=1e-12
    )


# States that look alike


@given(mdps_with_policies(min_states=4), st.data())
def test_merged_states_play_what_their_successes_show(case, data):
    mdp, policy = case
    e = evaluate(mdp, policy)
    groups = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(policy), max_size=len(policy)))
    merged = merge_states(condition_on_success(policy, e.Q), successful_visits(e), groups)
    wins = e.visits[:, np.newaxis] * policy * e.Q  # the flow of successes
    for name in set(groups):
        rows = np.array(groups) == name
        if wins[rows].sum() > 0:
            expected = wins[rows].sum(axis=0) / wins[rows].sum()
            np.testing.assert_allclose(merged[rows] - expected, 0, atol=1e-12)


def test_merged_states_by_hand():
    merged = merge_states([[1, 0], [0.5, 0.5], [0, 1]], [1, 2, 5], [7, 7, 8])
    np.testing.assert_allclose(merged, [[2 / 3, 1 / 3], [2 / 3, 1 / 3], [0, 1]])
    unseen = merge_states([[1, 0], [0.5, 0.5], [0, 1]], [0, 0, 5], [7, 7, 8])
    np.testing.assert_allclose(unseen, [[0.75, 0.25], [0.75, 0.25], [0, 1]])


@pytest.mark.parametrize(
    ("weights", "groups", "message"),
    [
        ([1, -2], [0, 0], r"weights\[1\] must not be negative, got -2"),
        ([1], [0, 0], r"got \(2, 2\), \(1,\) and \(2,\)"),
        ([1, 1], [0, 0, 1], r"got \(2, 2\), \(2,\) and \(3,\)"),
        ([1, np.nan], [0, 0], r"weights\[1\] is NaN"),
    ],
)
def test_states_that_cannot_be_merged_are_refused(weights, groups, message):
    with pytest.raises(ValueError, match=message):
        merge_states([[1, 0], [0.5, 0.5]], weights, groups)


HIDDEN = (  # chances of what is hidden, behaviour, success: the easy and the hard case
    [Fraction(1, 2)] * 2,
    [[Fraction(9, 10), Fraction(1, 10)], [Fraction(1, 10), Fraction(9, 10)]],
    [[Fraction(18, 20), Fraction(19, 20)], [Fraction(1, 20), Fraction(2, 20)]],
)


def blind_value(chances, behaviour, success):
    """Success rate of the imitator of the wins, who does not see the case."""
    cases, actions = range(len(chances)), range(len(behaviour[0]))
    wins = [sum(chances[z] * behaviour[z][a] * success[z][a] for z in cases) for a in actions]
    played = [sum(chances[z] * success[z][a] for z in cases) for a in actions]
    return sum(w * v for w, v in zip(wins, played, strict=True)) / sum(wins)


def covariance(weights, x, y):
    mean = [sum(w * v for w, v in zip(weights, values, strict=True)) for values in (x, y)]
    return sum(w * a * b for w, a, b in zip(weights, x, y, strict=True)) - mean[0] * mean[1]


def price_of_blindness(chances, behaviour, success):
    """Rate, loss of the clone and term of selection: the right side of the proposition."""
    z, a = range(len(chances)), range(len(behaviour[0]))
    pi = [sum(chances[i] * behaviour[i][j] for i in z) for j in a]
    won = [sum(chances[i] * behaviour[i][j] * success[i][j] for i in z) for j in a]
    noted = [x / p for x, p in zip(won, pi, strict=True)]
    would = [sum(chances[i] * success[i][j] for i in z) for j in a]
    lost = sum(covariance(chances, [b[j] for b in behaviour], [q[j] for q in success]) for j in a)
    return sum(won), lost, covariance(pi, noted, would) / sum(won)


@given(st.data())
def test_blind_imitation_costs_the_two_covariances(data):
    def law(n):
        weights = data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
        return [Fraction(w, sum(weights)) for w in weights]

    chances, behaviour = law(3), [law(4) for _ in range(3)]
    success = [[Fraction(data.draw(st.integers(1, 12)), 12) for _ in range(4)] for _ in range(3)]
    rate, lost, selected = price_of_blindness(chances, behaviour, success)
    assert blind_value(chances, behaviour, success) == rate - lost + selected


@settings(max_examples=60)
@given(st.data())
def test_slightly_better_eyes_cost_at_most_their_factor(data):
    def law(n):
        weights = data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
        return [Fraction(w, sum(weights)) for w in weights]

    chances, behaviour = law(3), [law(4) for _ in range(3)]
    success = [[Fraction(data.draw(st.integers(1, 12)), 12) for _ in range(4)] for _ in range(3)]
    shown = [sum(p * row[a] for p, row in zip(chances, behaviour, strict=True)) for a in range(4)]
    won = [
        sum(p * row[a] * Q[a] for p, row, Q in zip(chances, behaviour, success, strict=True))
        for a in range(4)
    ]
    influence = sum(w**2 / p for w, p in zip(won, shown, strict=True)) / sum(won) ** 2 - 1
    factor = max(row[a] / shown[a] for row in behaviour for a in range(4))
    value = blind_value(chances, behaviour, success)
    assert value >= sum(won) * (1 + influence) / factor


def test_blind_imitation_of_easy_and_hard_cases_by_hand():
    assert price_of_blindness(*HIDDEN) == (Fraction(1, 2), 0, Fraction(-63, 4000))
    assert blind_value(*HIDDEN) == Fraction(1937, 4000)  # 0.48425


def test_blind_imitation_is_safe_if_the_behaviour_is_blind():
    chances, _, success = HIDDEN
    coin = [[Fraction(1, 2)] * 2] * 2
    would = [Fraction(19, 40), Fraction(21, 40)]
    gained = (would[0] ** 2 + would[1] ** 2) / 2 / Fraction(1, 2) - Fraction(1, 2)
    assert price_of_blindness(chances, coin, success) == (Fraction(1, 2), 0, gained)
    assert blind_value(chances, coin, success) == Fraction(1, 2) + gained


def blind_imitator(e, groups):
    return merge_states(condition_on_success(e.policy, e.Q), successful_visits(e), groups)


@settings(max_examples=60)
@given(mdps_with_policies(min_states=4), st.data())
def test_a_teacher_with_the_same_eyes_is_never_made_worse(case, data):
    mdp, policy = case
    groups = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=len(policy), max_size=len(policy)))
    )
    first = [np.flatnonzero(groups == g)[0] for g in groups]
    e = evaluate(mdp, policy[first])
    new = blind_imitator(e, groups)
    drop = successful_visits(e) @ (
        condition_on_success(e.policy, e.Q)
        * np.log(np.divide(new, e.policy, out=np.ones_like(new), where=new > 0))
    ).sum(axis=1)
    assert drop >= -1e-12
    assert evaluate(mdp, new).success_rate >= e.success_rate * np.exp(drop) * (1 - 1e-9)


def test_a_teacher_with_better_eyes_can_be_made_worse():
    chances, behaviour, success = (np.array(x, dtype=float) for x in HIDDEN)
    prompts = SuccessMDP.from_dense(np.zeros((2, 2, 2)), success, chances)
    e = evaluate(prompts, behaviour)
    assert np.isclose(evaluate(prompts, blind_imitator(e, [0, 0])).success_rate, 1937 / 4000)


def test_same_eyes_can_be_stuck_at_the_worse_of_two_ways():
    first = [[[0, 1, 0], [0, 0, 1]], *np.zeros((2, 2, 3))]
    for start, end in ((0.33, 0.5), (0.34, 1.0)):  # odds below and above one half
        mdp = SuccessMDP.from_dense(first, [[0, 0], [1, 0], [0, 0.5]], [1, 0, 0])
        e = evaluate(mdp, [[start, 1 - start]] * 3)
        for _ in range(12):
            odds = e.policy[0, 0] / e.policy[0, 1]
            e = evaluate(mdp, blind_imitator(e, [0, 0, 0]))
            if 1e-9 < odds < 1e9:
                assert np.isclose(e.policy[0, 0] / e.policy[0, 1], 2 * odds**2, rtol=1e-5)
        assert np.isclose(e.success_rate, end, atol=1e-6)
