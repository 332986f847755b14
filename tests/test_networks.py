"""A causal transformer: what it computes, that its gradient is right, and that it learns."""

import copy
import io

import numpy as np
import pytest
from autograd.misc import flatten
from scipy.optimize import check_grad
from scipy.special import log_softmax

from sc_utils import networks, progress
from sc_utils.networks import cross_entropy, log_probabilities, new_transformer, one_hot, train


@pytest.fixture
def network(rng):
    """Five tokens, three classes, two blocks; every array drawn, so that all of them matter."""
    made = new_transformer(5, 3, 4, width=8, heads=2, layers=2, rng=rng)
    theta, unflatten = flatten(made)
    return unflatten(rng.normal(0, 0.5, theta.size))


def by_hand(network, tokens):
    """The same arithmetic with loops over positions, heads and blocks: one sequence at a time."""

    def normalised(v):
        v = v - v.mean()
        return v / np.sqrt((v**2).mean() + 1e-5)

    def softmax(v):
        return np.exp(log_softmax(v))

    T = len(tokens)
    x = [network["embed"][a] + network["position"][t] for t, a in enumerate(tokens)]
    for layer in network["layers"]:
        seen = [normalised(v) for v in x]
        for t in range(T):
            for q, k, v, out in zip(
                layer["query"], layer["key"], layer["value"], layer["out"], strict=True
            ):
                scores = [(seen[t] @ q) @ (seen[u] @ k) / np.sqrt(q.shape[1]) for u in range(t + 1)]
                answer = sum(p * (seen[u] @ v) for u, p in enumerate(softmax(np.array(scores))))
                x[t] = x[t] + answer @ out
        for t in range(T):
            x[t] = x[t] + np.maximum(normalised(x[t]) @ layer["up"], 0) @ layer["down"]
    return np.array([log_softmax(normalised(v) @ network["read"]) for v in x])


def test_the_arithmetic_agrees_with_loops(network, rng):
    tokens = rng.integers(5, size=(3, 4))
    expected = [by_hand(network, row) for row in tokens]
    found = log_probabilities(network, one_hot(tokens, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(np.exp(found).sum(axis=2), 1, rtol=1e-12)


def test_no_position_looks_ahead(network, rng):
    tokens = rng.integers(5, size=(6, 4))
    changed = tokens.copy()
    changed[:, 2:] = (changed[:, 2:] + 1) % 5
    before, after = (log_probabilities(network, one_hot(x, 5)) for x in (tokens, changed))
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).any(axis=2).all()


def test_a_short_sequence_is_the_beginning_of_a_long_one(network, rng):
    x = one_hot(rng.integers(5, size=(6, 4)), 5)
    whole = log_probabilities(network, x)
    np.testing.assert_allclose(log_probabilities(network, x[:, :3]), whole[:, :3], rtol=1e-9)


def test_the_gradient_is_that_of_finite_differences(network, rng):
    theta, unflatten = flatten(network)
    x, picked = rng.normal(size=(4, 4, 5)), rng.uniform(size=(4, 4, 3))
    slope = networks.value_and_grad(lambda v: networks._loss(unflatten(v), x, picked))

    def value(v):
        return slope(v)[0]

    assert np.linalg.norm(slope(theta)[1]) > 0.1
    assert check_grad(value, lambda v: slope(v)[1], theta) < 1e-5


def test_the_loss_is_the_weighted_mean(network, rng):
    tokens, targets = rng.integers(5, size=(2, 4)), rng.integers(3, size=(2, 4))
    weights = rng.uniform(size=(2, 4)) * (rng.uniform(size=(2, 4)) < 0.7)
    logs = log_probabilities(network, one_hot(tokens, 5))
    total = sum(weights[b, t] * logs[b, t, targets[b, t]] for b in range(2) for t in range(4))
    found = cross_entropy(network, one_hot(tokens, 5), targets, weights)
    assert found == pytest.approx(-total / weights.sum(), rel=1e-12)


def fit(rng, steps=300, **settings):
    """A table of probabilities that depends on the last two tokens, met equally often."""
    pairs = np.array([[a, b] for a in range(4) for b in range(4)])
    wanted = rng.dirichlet(np.full(3, 0.5), 16)
    inputs, targets = (
        one_hot(np.repeat(pairs, 3, axis=0), 4),
        np.tile([[0, k] for k in range(3)], (16, 1)),
    )
    weights = np.zeros((48, 2))
    weights[:, 1] = wanted.ravel()
    start = new_transformer(4, 3, 2, width=16, rng=rng)
    made = train(start, inputs, targets, weights, steps=steps, rng=rng, **settings)
    found = np.exp(log_probabilities(made, one_hot(pairs, 4)))[:, 1]
    return wanted, found, made


def test_it_learns_a_table_that_needs_attention(rng):
    wanted, found, _ = fit(rng, batch=48)
    assert np.abs(found - wanted).sum(axis=1).max() < 0.02


def test_it_learns_from_batches(rng):
    wanted, found, _ = fit(rng, batch=16, steps=600)
    assert np.abs(found - wanted).sum(axis=1).mean() < 0.1


def test_the_first_step_of_adam_moves_every_weight_by_the_rate(network, rng):
    x, targets, weights = rng.normal(size=(4, 4, 5)), rng.integers(3, size=(4, 4)), np.ones((4, 4))
    after = train(network, x, targets, weights, steps=1, batch=4, rate=0.01, rng=rng)
    moved = flatten(after)[0] - flatten(network)[0]
    theta, unflatten = flatten(network)
    slope = networks.value_and_grad(lambda v: networks._loss(unflatten(v), x, np.eye(3)[targets]))(
        theta
    )[1]
    clear = np.abs(slope) > 1e-5
    np.testing.assert_allclose(moved[clear], -0.01 * np.sign(slope[clear]), rtol=0.01)


def test_the_rate_falls_to_zero(rng):
    path = []
    fit(rng, steps=50, batch=48, rate=0.02, watch=lambda step, net: path.append(flatten(net)[0]))
    steps = np.abs(np.diff(path, axis=0)).max(axis=1)
    assert len(path) == 51
    assert steps[0] == pytest.approx(0.02, rel=1e-3)
    assert 0 < steps[-1] < 0.02 / 10


def test_two_runs_agree_to_the_last_bit_and_leave_the_start_alone():
    runs = [fit(np.random.default_rng(7), steps=5, batch=16)[2] for _ in range(2)]
    np.testing.assert_array_equal(*[flatten(run)[0] for run in runs])


def test_the_network_given_is_not_changed(network, rng):
    before = copy.deepcopy(network)
    args = rng.normal(size=(4, 4, 5)), rng.integers(3, size=(4, 4)), np.ones((4, 4))
    train(network, *args, steps=2, batch=4, rng=rng)
    np.testing.assert_array_equal(flatten(network)[0], flatten(before)[0])


def test_what_has_no_weight_does_not_matter(network, rng):
    x, targets, weights = rng.normal(size=(2, 4, 5)), rng.integers(3, size=(2, 4)), np.ones((2, 4))
    weights[:, 2:] = 0
    other = x.copy()
    other[:, 2:] = 7
    assert cross_entropy(network, x, targets, weights) == pytest.approx(
        cross_entropy(network, other, (targets + [0, 0, 1, 1]) % 3, weights), rel=1e-12
    )


def test_the_bar_counts_steps(monkeypatch, rng):
    bars = []

    def remember(total, unit):
        bars.append(progress.progress_bar(total, unit, disable=False, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr(networks, "progress_bar", remember)
    fit(rng, steps=3, batch=48)
    assert [(bar.n, bar.total, bar.unit) for bar in bars] == [(3, 3, "step")]


X, Y, W = np.zeros((2, 4, 5)), np.zeros((2, 4), int), np.ones((2, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": np.zeros((2, 5, 5))},
            r"inputs must have shape \(B, T, 5\) with T <= 4, got \(2, 5, 5\)",
        ),
        ({"inputs": np.zeros((2, 4, 3))}, r"inputs must have shape \(B, T, 5\)"),
        ({"inputs": np.zeros((0, 4, 5))}, r"inputs must have shape \(B, T, 5\)"),
        ({"inputs": np.where(np.arange(5) == 1, np.inf, X)}, r"inputs\[0, 0, 1\] is infinite"),
        ({"inputs": np.where(np.arange(5) == 1, np.nan, X)}, r"inputs\[0, 0, 1\] is NaN"),
        ({"targets": Y[:, :3]}, r"targets must have the shape \(2, 4\) of inputs, got \(2, 3\)"),
        ({"targets": Y + 3}, r"targets\[0, 0\] must be an integer from 0 to 2, got 3"),
        ({"targets": Y - 1}, r"targets\[0, 0\] must be an integer from 0 to 2, got -1"),
        ({"weights": W[:1]}, r"weights must have the shape \(2, 4\) of inputs, got \(1, 4\)"),
        ({"weights": -W}, r"weights\[0, 0\] must not be negative, got -1.0"),
        ({"weights": 0 * W}, "the weights must have a positive, finite sum, got 0.0"),
    ],
)
def test_a_bad_batch_is_refused(network, rng, change, message):
    batch = {"inputs": X, "targets": Y, "weights": W} | change
    with pytest.raises(ValueError, match=message):
        cross_entropy(network, **batch)
    with pytest.raises(ValueError, match=message):
        train(network, **batch, steps=1, batch=1, rng=rng)


def test_targets_must_be_integers(network):
    with pytest.raises(TypeError, match="targets must be integers, got float64"):
        cross_entropy(network, X, Y + 0.0, W)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"batch": 0}, ValueError, "batch must be at least 1, got 0"),
        ({"batch": 1.5}, TypeError, "batch must be an integer, got 1.5"),
        ({"rate": 0}, ValueError, "rate must be positive, got 0"),
        ({"rng": 1}, TypeError, "rng must be a numpy.random.Generator"),
    ],
)
def test_bad_training_is_refused(network, rng, change, error, message):
    with pytest.raises(error, match=message):
        train(network, X, Y, W, **({"steps": 1, "batch": 1, "rng": rng} | change))


def test_a_loss_that_is_no_number_stops_the_training(network, rng):
    network["read"] = network["read"] * np.nan
    with pytest.raises(FloatingPointError, match="the loss is nan after 0 steps"):
        train(network, X, Y, W, steps=1, batch=1, rng=rng)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_inputs": 0}, "n_inputs must be at least 1, got 0"),
        ({"n_outputs": 0}, "n_outputs must be at least 1, got 0"),
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"heads": 3, "width": 8}, "heads must divide width = 8, got 3"),
    ],
)
def test_a_network_that_cannot_be_is_refused(rng, change, message):
    with pytest.raises(ValueError, match=message):
        new_transformer(**({"n_inputs": 2, "n_outputs": 2, "length": 2, "rng": rng} | change))


def test_a_token_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"tokens\[1, 0\] must be an integer from -1 to 2, got 3"):
        one_hot([[0, -1], [3, 0]], 3)
    with pytest.raises(TypeError, match="tokens must be integers, got float64"):
        one_hot([0.0], 3)
