"""The engine: identities, oracles that share no code with it, numbers by hand, refusals."""

from fractions import Fraction
from itertools import islice, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import bicgstab, gmres

from sc_utils import mdp as engine
from sc_utils.mdp import SuccessMDP, evaluate, maximise_success
from tests.strategies import mdps_with_policies, random_mdps

Array = NDArray[np.float64]


def uniform(mdp: SuccessMDP) -> Array:
    return np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)


def dense(mdp: SuccessMDP) -> Array:
    return mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)


# --- Identities ---------------------------------------------------------------------------------


@given(mdps_with_policies(full_support=False))
def test_bellman_equations_and_flow_balance(mdp_and_policy):
    mdp, pi = mdp_and_policy
    e, P = evaluate(mdp, pi), dense(mdp)
    flow = np.einsum("s,sa,sat->t", e.visits, pi, P)
    np.testing.assert_allclose(e.Q, mdp.success + np.einsum("sat,t->sa", P, e.V), rtol=1e-13)
    np.testing.assert_allclose(e.V, (pi * e.Q).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(e.visits, mdp.initial + flow, rtol=1e-13)
    assert e.success_rate == pytest.approx(float(mdp.initial @ e.V), rel=1e-14)


@given(mdps_with_policies())
def test_success_and_failure_exhaust_the_episodes(mdp_and_policy):
    """With the two exits swapped, the chance of success is the chance of failure."""
    mdp, pi = mdp_and_policy
    if not mdp.failure[mdp.initial > 0].any():
        return
    mirror = SuccessMDP(mdp.transition, mdp.failure, mdp.initial)
    np.testing.assert_allclose(evaluate(mdp, pi).V + evaluate(mirror, pi).V, 1, rtol=1e-13)


@given(mdps_with_policies())
def test_performance_difference(mdp_and_policy):
    """rho(new) - rho(old) is the old advantage of new, summed over the new visits."""
    mdp, pi = mdp_and_policy
    old, new = evaluate(mdp, uniform(mdp)), evaluate(mdp, pi)
    gain = new.visits @ ((pi * old.Q).sum(axis=1) - old.V)
    assert gain == pytest.approx(new.success_rate - old.success_rate, abs=1e-13)


# --- Oracles ------------------------------------------------------------------------------------


@given(mdps_with_policies(max_states=3, max_actions=4), st.data())
def test_enumerated_trajectories_bracket_the_truth(mdp_and_policy, data):
    """Sum the probability of every path of up to 40 decisions; what still runs bounds the rest."""
    mdp, pi = mdp_and_policy

    def rational(x: float) -> Fraction:
        return Fraction(float(x)).limit_denominator(1000)

    S, A = pi.shape
    P = dense(mdp)
    running = [rational(x) for x in mdp.initial]
    won, visits = Fraction(0), [Fraction(0)] * S
    for _ in range(40):
        visits = [v + x for v, x in zip(visits, running, strict=True)]
        acting = {(s, a): running[s] * rational(pi[s, a]) for s in range(S) for a in range(A)}
        won += sum(x * rational(mdp.success[s, a]) for (s, a), x in acting.items())
        running = [sum(x * rational(P[s, a, t]) for (s, a), x in acting.items()) for t in range(S)]
    left = float(sum(running))
    e = evaluate(mdp, pi)
    assert float(won) - 1e-13 <= e.success_rate <= float(won) + left + 1e-13
    for s in range(S):
        assert e.visits[s] >= float(visits[s]) * (1 - 1e-13)


def test_playing_agrees_within_the_error_bar(rng):
    """20,000 episodes, one decision at a time."""
    transition = [
        [[0.2, 0.5], [0.0, 0.3], [0.6, 0.1]],
        [[0.4, 0.0], [0.1, 0.6], [0.0, 0.0]],
    ]
    success = [[0.1, 0.3, 0.0], [0.2, 0.1, 0.55]]
    mdp = SuccessMDP.from_dense(transition, success, [0.7, 0.3])
    pi = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    n, wins, lengths = 20_000, 0, []
    for _ in range(n):
        s, steps = rng.choice(2, p=mdp.initial), 0
        while s < 2:
            a = rng.choice(3, p=pi[s])
            u, steps = rng.random(), steps + 1
            s = int(np.searchsorted(np.cumsum([*transition[s][a], success[s][a]]), u))
        wins += s == 2
        lengths.append(steps)
    e = evaluate(mdp, pi)
    rho = e.success_rate
    assert abs(wins / n - rho) < 4 * np.sqrt(rho * (1 - rho) / n)
    assert abs(np.mean(lengths) - e.visits.sum()) < 4 * np.std(lengths) / np.sqrt(n)


def many_states(n_states: int, rng: np.random.Generator, *, back: bool) -> SuccessMDP:
    """Three successors per action, among the next 50 states, or 50 on either side."""
    A = 3
    steps = rng.integers(-50 if back else 1, 51, size=(n_states, A, 3))
    target = np.arange(n_states)[:, None, None] + steps
    chance = rng.dirichlet(np.ones(5), size=(n_states, A))
    inside = (target >= 0) & (target < n_states)
    rows = np.broadcast_to(np.arange(n_states * A).reshape(n_states, A, 1), target.shape)
    transition = csr_array(
        (chance[:, :, :3][inside], (rows[inside], target[inside])), (n_states * A, n_states)
    )
    start = np.zeros(n_states)
    start[[0, 7]] = 0.25, 0.75
    return SuccessMDP(transition, chance[:, :, 3], start)


@pytest.mark.parametrize("back", [True, False], ids=["cyclic", "acyclic"])
def test_large_processes_agree_with_repeated_sweeps(back, rng):
    """The road for many states against value iteration, and against dense elimination."""
    mdp = many_states(3000, rng, back=back)
    assert (mdp._layers is None) == back
    pi = rng.dirichlet(np.ones(3), 3000)
    e = evaluate(mdp, pi)
    V, d = np.zeros(3000), np.zeros(3000)
    for _ in range(400):
        V = (pi * (mdp.success + (mdp.transition @ V).reshape(3000, 3))).sum(axis=1)
        d = mdp.initial + mdp.transition.T @ (d[:, None] * pi).ravel()
    np.testing.assert_allclose(e.V, V, rtol=1e-12)
    np.testing.assert_allclose(e.visits, d, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose((pi * e.Q).sum(axis=1), V, rtol=1e-12)


def lazy_walk(n: int, start: int) -> SuccessMDP:
    """Up with 3/8, down with 5/8; the second action waits half of the time. The top succeeds."""
    walk = diags_array([np.full(n - 1, 3 / 8), np.full(n - 1, 5 / 8)], offsets=[1, -1])
    transition = kron(walk, [[1], [1 / 2]]) + kron(eye_array(n), [[0], [1 / 2]])
    success = np.zeros((n, 2))
    success[-1] = 3 / 8, 3 / 16
    return SuccessMDP(csr_array(transition), success, np.eye(n)[start])


@pytest.mark.parametrize("n", [150, 600, 2000], ids=["dense", "sparse", "underflow"])
@pytest.mark.parametrize("start", [3, -40])
def test_rare_success_keeps_its_digits(n, start):
    """Gambler's ruin in rationals; from the low end success is as rare as (3/5)^n."""
    e = evaluate(lazy_walk(n, start), np.tile([0.25, 0.75], (n, 1)))
    ratio, whole = Fraction(5, 3), Fraction(5, 3) ** (n + 1) - 1
    for s in range(0, n, 7):
        truth = (ratio ** (s + 1) - 1) / whole
        if truth > Fraction(1, 10**300):
            assert abs(Fraction(float(e.V[s])) / truth - 1) < Fraction(1, 10**12)


@given(random_mdps())
def test_best_policy_against_brute_force(mdp):
    """No deterministic policy does better from any state, and none of them ties but the best."""
    best = maximise_success(mdp)
    rivals = [
        evaluate(mdp, np.eye(mdp.n_actions)[list(choice)]).V
        for choice in islice(product(range(mdp.n_actions), repeat=mdp.n_states), 100)
    ]
    assert (best.V >= np.max(rivals, axis=0) * (1 - 1e-11)).all()


@given(random_mdps())
def test_best_policy_against_value_iteration(mdp):
    V = np.zeros(mdp.n_states)
    for _ in range(3000):
        V = (mdp.success + dense(mdp) @ V).max(axis=1)
    np.testing.assert_allclose(maximise_success(mdp).V, V, rtol=1e-9)


def test_best_policy_of_many_states(rng):
    mdp = many_states(3000, rng, back=True)
    best, V = maximise_success(mdp), np.zeros(3000)
    for _ in range(400):
        V = (mdp.success + (mdp.transition @ V).reshape(3000, 3)).max(axis=1)
    np.testing.assert_allclose(best.V, V, rtol=1e-11)


# --- By hand ------------------------------------------------------------------------------------


def coin_or_pass() -> SuccessMDP:
    """0: toss (1/2), or pass to 1 or stay, half and half. 1: success 1/3 or 3/4, or back to 0."""
    transition = [[[0, 0], [1 / 2, 1 / 2], [0, 0]], [[0, 0], [0, 0], [1, 0]]]
    success = [[1 / 2, 0, 0], [1 / 3, 3 / 4, 0]]
    return SuccessMDP.from_dense(transition, success, [1, 0], labels=["door", "hall"])


def test_uniform_choice_by_hand():
    """V0 = 1/6 + (V0 + V1)/6 and V1 = 13/36 + V0/3; d0 = 1 + d0/6 + d1/3 and d1 = d0/6."""
    e = evaluate(coin_or_pass(), np.full((2, 3), 1 / 3))
    np.testing.assert_allclose(e.V, [7 / 24, 11 / 24], rtol=1e-15)
    np.testing.assert_allclose(e.Q, [[1 / 2, 3 / 8, 0], [1 / 3, 3 / 4, 7 / 24]], rtol=1e-15)
    np.testing.assert_allclose(e.visits, [9 / 7, 3 / 14], rtol=1e-15)
    assert e.success_rate == pytest.approx(7 / 24, rel=1e-15)


def test_best_choice_by_hand():
    """Pass until in the hall, then take 3/4: the wait costs nothing."""
    best = maximise_success(coin_or_pass())
    np.testing.assert_array_equal(best.policy, [[0, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(best.V, [3 / 4, 3 / 4], rtol=1e-15)


def test_a_bandit():
    bandit = SuccessMDP.from_dense(np.zeros((1, 3, 1)), [[0.1, 0.2, 0.6]], [1])
    e = evaluate(bandit, [[0.5, 0.25, 0.25]])
    assert e.V == pytest.approx([0.25])
    assert e.visits == pytest.approx([1])
    assert e.success_rate == pytest.approx(0.25)
    np.testing.assert_array_equal(e.Q, bandit.success)


def test_ties_do_not_tempt_into_waiting():
    """All actions are worth 1: to wait for ever, once among equals, must not be chosen."""
    wait_or_win = SuccessMDP.from_dense([[[1], [0]]], [[0, 1]], [1])
    assert maximise_success(wait_or_win).success_rate == pytest.approx(1)


def test_never_succeeding_is_a_value():
    mdp = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[0, 1]], [1])
    e = evaluate(mdp, [[1, 0]])
    assert (e.success_rate, e.visits) == (0, 1)


def test_failure_is_what_is_left():
    mdp = coin_or_pass()
    np.testing.assert_allclose(mdp.failure, [[1 / 2, 0, 1], [2 / 3, 1 / 4, 0]], atol=1e-16)
    assert mdp.failure[0, 1] == mdp.failure[1, 2] == 0
    tenths = SuccessMDP.from_dense(np.tile([0.2, 0.7], (2, 1, 1)), [[0.1], [0.1]], [1, 0])
    np.testing.assert_array_equal(tenths.failure, 0)  # but 1 - 0.1 - (0.2 + 0.7) is 1.1e-16


# --- The caller's solver --------------------------------------------------------------------------


@given(mdps_with_policies(full_support=False))
def test_a_rough_solver_gives_the_exact_answer(mdp_and_policy):
    mdp, pi = mdp_and_policy
    rough = evaluate(mdp, pi, solver=lambda A, b: gmres(A, b, rtol=1e-3)[0])
    fine = evaluate(mdp, pi)
    np.testing.assert_allclose(rough.V, fine.V, rtol=1e-13)
    np.testing.assert_allclose(rough.Q, fine.Q, rtol=1e-13)
    np.testing.assert_allclose(rough.visits, fine.visits, rtol=1e-12)


def test_a_solver_that_breaks_down_is_refused():
    """Bicgstab reports a breakdown in its second return value only; it is the answer we check."""
    mdp = lazy_walk(300, 3)
    pi = np.tile([0.25, 0.75], (300, 1))
    reports = []

    def solver(A, b):
        x, report = bicgstab(A, b, maxiter=20)
        reports.append(report)
        return x

    with np.errstate(all="ignore"), pytest.raises(ValueError, match="linear solver fails on"):
        evaluate(mdp, pi, solver=solver)
    assert any(reports)


# --- Refusals -------------------------------------------------------------------------------------

GOOD = {
    "transition": np.full((2, 3, 2), 0.25),
    "success": np.full((2, 3), 0.25),
    "initial": np.array([0.5, 0.5]),
    "labels": np.array(["left", "right"]),
}


def changed(name: str, place: tuple[int, ...], value: float) -> dict[str, Array]:
    array = GOOD[name].copy()
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"success": np.full(3, 0.2)}, r"success must have shape \(S, A\), got \(3,\)"),
        ({"success": np.zeros((0, 3))}, "at least one state and one action, got S=0 and A=3"),
        ({"success": np.zeros((2, 0))}, "at least one state and one action, got S=2 and A=0"),
        (
            {"transition": np.zeros((2, 2, 3))},
            r"transition must have shape \(S, A, S\) = \(2, 3, 2\), got \(2, 2, 3\)",
        ),
        ({"initial": np.ones(3) / 3}, r"initial must have shape \(S,\) = \(2,\), got \(3,\)"),
        ({"labels": np.arange(3)}, r"labels must have shape \(S,\) = \(2,\), got \(3,\)"),
        ({"labels": np.array(["up", "up"])}, "labels must differ, got up 2 times"),
        (
            changed("transition", (1, 2, 0), np.nan),
            r"transition\[1, 2, 0\] is not a number, got nan",
        ),
        (
            changed("transition", (1, 0, 1), -0.1),
            r"transition\[1, 0, 1\] must lie between 0 and 1, got -0.1",
        ),
        (changed("success", (0, 2), np.nan), r"success\[0, 2\] is not a number, got nan"),
        (changed("success", (1, 2), 1.5), r"success\[1, 2\] must lie between 0 and 1, got 1.5"),
        (changed("initial", (1,), np.nan), r"initial\[1\] is not a number, got nan"),
        (changed("initial", (1,), -0.5), r"initial\[1\] must lie between 0 and 1, got -0.5"),
        (changed("initial", (1,), 0.4), "initial must sum to 1, got 0.9"),
        (
            changed("success", (1, 2), 0.75),
            r"success\[1, 2\] \+ sum\(transition\[1, 2\]\) must not exceed 1, got 1.25",
        ),
        ({"success": np.zeros((2, 3))}, "success is impossible"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_no_mdp_is_refused_with_the_place(change, message):
    SuccessMDP.from_dense(**GOOD)
    with pytest.raises(ValueError, match=message):
        SuccessMDP.from_dense(**{**GOOD, **change})


def test_sparse_rows_of_the_wrong_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"\(S \* A, S\) = \(6, 2\), got \(2, 6\); SuccessMDP.from_"
    ):
        SuccessMDP(csr_array((2, 6)), GOOD["success"], GOOD["initial"])


def test_success_out_of_reach_is_refused():
    """State 1 succeeds, but nothing leads there."""
    with pytest.raises(ValueError, match="success is impossible"):
        SuccessMDP.from_dense(np.zeros((2, 1, 2)), [[0], [1]], [1, 0])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((3, 2), 0.5), r"policy must have shape \(S, A\) = \(2, 3\), got \(3, 2\)"),
        (
            [[0.2, 0.3, 0.5], [0.5, 0.48, 0]],
            r"policy\[1\] must sum to 1, got 0.98 \(row \[0.5, 0.48, 0.0\]\)",
        ),
        ([[0.2, 0.3, 0.5], [0.5, 0.7, -0.2]], r"policy\[1, 2\] must not be negative, got -0.2"),
        ([[0.2, np.nan, 0.5], [0.5, 0.5, 0]], r"policy\[0, 1\] is NaN"),
    ],
    ids=["shape", "sum", "negative", "nan"],
)
def test_what_is_no_policy_is_refused_with_the_place(policy, message):
    with pytest.raises(ValueError, match=message):
        evaluate(SuccessMDP.from_dense(**GOOD), policy)


def waiting_room(start: list[float]) -> SuccessMDP:
    """In the room one may wait or leave for the gate; the gate succeeds half of the time."""
    transition = [[[1, 0], [0, 1]], [[0, 0], [0, 0]]]
    return SuccessMDP.from_dense(transition, [[0, 0], [0.5, 0.5]], start, ["room", "gate"])


@pytest.mark.parametrize("solver", [None, np.linalg.solve], ids=["ours", "caller's"])
def test_waiting_for_ever_is_refused_by_name(solver):
    with pytest.raises(ValueError, match="reaches state room never ends under this policy"):
        evaluate(waiting_room([0.5, 0.5]), [[1, 0], [1, 0]], solver=solver)


def test_waiting_for_ever_out_of_reach_is_no_success():
    e = evaluate(waiting_room([0, 1]), [[1, 0], [1, 0]])
    np.testing.assert_array_equal(e.V, [0, 0.5])
    np.testing.assert_array_equal(e.visits, [0, 1])


def test_a_wrong_solution_fails_its_check(monkeypatch):
    """V and visits come from different sides of the system: an error in one shows."""
    honest = engine.eliminate
    monkeypatch.setattr(
        engine, "eliminate", lambda *x: (honest(*x)[0] * (1 + 1e-11), honest(*x)[1])
    )
    with pytest.raises(ValueError, match="the solution fails its check"):
        evaluate(coin_or_pass(), np.full((2, 3), 1 / 3))


# --- Frozen data ----------------------------------------------------------------------------------


def test_arrays_are_copied_and_read_only():
    given_arrays = {name: array.copy() for name, array in GOOD.items()}
    mdp = SuccessMDP.from_dense(**given_arrays)
    policy = uniform(mdp)
    e = evaluate(mdp, policy)
    given_arrays["success"][0, 0] = policy[0, 0] = 0.9
    given_arrays["initial"][:] = given_arrays["transition"][:] = 0
    assert mdp.success[0, 0] == 0.25
    assert e.policy[0, 0] == pytest.approx(1 / 3)
    np.testing.assert_array_equal(mdp.initial, GOOD["initial"])
    np.testing.assert_array_equal(dense(mdp), GOOD["transition"])
    frozen = [mdp.success, mdp.initial, mdp.labels, mdp.failure, mdp.transition.data]
    for array in [*frozen, e.policy, e.V, e.Q, e.visits]:
        assert not array.flags.writeable


def test_labels_default_to_numbers():
    mdp = SuccessMDP.from_dense(np.zeros((3, 1, 3)), np.ones((3, 1)), [1, 0, 0])
    np.testing.assert_array_equal(mdp.labels, [0, 1, 2])
