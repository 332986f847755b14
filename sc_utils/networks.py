r"""A small causal transformer, and how it is trained: what large ones do, small enough to read.

A network is a dictionary of arrays; its arithmetic is NumPy's, through which autograd finds the
gradient. It reads sequences and says at every position how likely each class is, having seen that
position and those before it. It knows nothing of what the sequences mean.
"""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad
from autograd.misc import flatten
from autograd.scipy.special import logsumexp
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from sc_utils.probabilities import Array, as_array, as_count, as_generator, first, place
from sc_utils.progress import progress_bar

__all__ = ["Network", "cross_entropy", "log_probabilities", "new_transformer", "one_hot", "train"]

Network = dict[str, Any]


def new_transformer(
    n_inputs: int,
    n_outputs: int,
    length: int,
    *,
    width: int = 32,
    heads: int = 2,
    layers: int = 1,
    rng: Generator,
) -> Network:
    """Return an untrained network, which finds all classes equally likely.

    Parameters
    ----------
    n_inputs
        Size N of a position's input: the number of tokens, if these are one-hot.
    n_outputs
        Number K of classes.
    length
        Largest number of positions T.
    width
        Size W of the vector that the network keeps at each position.
    heads
        Number of attention heads; it divides `width`.
    layers
        Number of blocks, each of attention and of a perceptron.
    rng
        Draws the initial weights.

    Returns
    -------
    Network
        ``embed`` (N, W), ``position`` (T, W), ``layers``, a list of dictionaries with ``query``,
        ``key``, ``value`` (H, W, W/H), ``out`` (H, W/H, W), ``up`` (W, 2W) and ``down`` (2W, W),
        and ``read`` (W, K), which starts at zero.

    Raises
    ------
    ValueError
        If a number is below 1, or `heads` does not divide `width`.

    Examples
    --------
    >>> network = new_transformer(3, 4, 5, rng=np.random.default_rng(1))
    >>> np.exp(log_probabilities(network, one_hot([[0, 2]], 3)))[0, 0].tolist()
    [0.25, 0.25, 0.25, 0.25]

    Notes
    -----
    Vaswani et al. (2017), with normalisation before each block as in Radford et al. (2019), and
    without biases.
    """
    N, K, T, W, H, L = (
        as_count(value, name)
        for name, value in [
            ("n_inputs", n_inputs),
            ("n_outputs", n_outputs),
            ("length", length),
            ("width", width),
            ("heads", heads),
            ("layers", layers),
        ]
    )
    if W % H:
        raise ValueError(f"heads must divide width = {W}, got {H}")
    normal = as_generator(rng).normal

    def block() -> dict[str, Array]:
        inner = {name: normal(0, W**-0.5, (H, W, W // H)) for name in ("query", "key", "value")}
        out = {"out": normal(0, W**-0.5, (H, W // H, W)), "up": normal(0, W**-0.5, (W, 2 * W))}
        return inner | out | {"down": normal(0, (2 * W) ** -0.5, (2 * W, W))}

    return {
        "embed": normal(0, 1, (N, W)),
        "position": normal(0, 0.3, (T, W)),
        "layers": [block() for _ in range(L)],
        "read": np.zeros((W, K)),
    }


def log_probabilities(network: Network, inputs: ArrayLike) -> Array:
    """Return the network's log-probability of each class at each position.

    Parameters
    ----------
    network
        As `new_transformer` or `train` returns it.
    inputs
        Shape (B, T, N): B sequences, each position a one-hot token or any other vector.

    Returns
    -------
    Array
        Shape (B, T, K), in nats. Position t depends on the inputs up to t alone.

    Raises
    ------
    ValueError
        If the inputs are of another shape, longer than the network's positions, or not finite.
    """
    values: Array = _log_probabilities(network, _as_inputs(network, inputs))
    return values


def cross_entropy(
    network: Network, inputs: ArrayLike, targets: ArrayLike, weights: ArrayLike
) -> float:
    r"""Return the mean of -log p(target), weighted, in nats.

    Parameters
    ----------
    network
        As `new_transformer` or `train` returns it.
    inputs
        Shape (B, T, N).
    targets
        The class at each position, shape (B, T), integers below K.
    weights
        How much each position counts, shape (B, T), >= 0; 0 where there is no target.

    Returns
    -------
    float
        The sum of -weight log p(target) over the sum of weights.

    Raises
    ------
    ValueError
        If the shapes do not fit, a target is not a class, or a weight is negative or all are 0.

    Examples
    --------
    >>> network = new_transformer(3, 4, 2, rng=np.random.default_rng(1))
    >>> round(cross_entropy(network, one_hot([[0, 2]], 3), [[3, 0]], [[1, 0]]), 3)  # log 4
    1.386
    """
    x, picked = _as_batch(network, inputs, targets, weights)
    return float(_loss(network, x, picked))


def train(
    network: Network,
    inputs: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike,
    *,
    steps: int,
    batch: int,
    rate: float = 0.01,
    rng: Generator,
    watch: Callable[[int, Network], object] = lambda step, network: None,
) -> Network:
    """Return the network after `steps` of Adam on `cross_entropy`; the one given is not changed.

    Parameters
    ----------
    network
        Where to begin.
    inputs, targets, weights
        As in `cross_entropy`.
    steps
        Number of steps.
    batch
        Sequences per step, drawn with replacement; all of them, in order, if there are no more.
    rate
        The first step's size; from there it falls to 0 in a straight line.
    rng
        Draws the batches.
    watch
        Called before each step, and after the last, with the number of steps taken and the
        network.

    Returns
    -------
    Network
        The same numbers whenever the same arguments and generator are given.

    Raises
    ------
    ValueError
        As `cross_entropy`; if `steps` or `batch` is below 1, or `rate` not positive.
    FloatingPointError
        If the loss is no longer finite; the message names the step.

    Notes
    -----
    Kingma and Ba (2015). A bar shows the progress of what takes longer than two seconds.
    """
    x, picked = _as_batch(network, inputs, targets, weights)
    draw = as_generator(rng).integers
    for name, count in [("steps", steps), ("batch", batch)]:
        as_count(count, name)
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}")
    theta, unflatten = flatten(network)
    descent = value_and_grad(lambda theta, x, picked: _loss(unflatten(theta), x, picked))
    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    with progress_bar(steps, "step") as bar:
        for step in range(steps):
            watch(step, unflatten(theta))
            rows = draw(len(x), size=batch) if batch < len(x) else slice(None)
            loss, slope = descent(theta, x[rows], picked[rows])
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} after {step} steps: lower the rate")
            mean = 0.9 * mean + 0.1 * slope
            square = 0.99 * square + 0.01 * slope**2
            steady, spread = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.99 ** (step + 1))
            theta = theta - rate * (1 - step / steps) * steady / (np.sqrt(spread) + 1e-8)
            bar.update()
    trained: Network = unflatten(theta)
    watch(steps, trained)
    return trained


def one_hot(tokens: ArrayLike, n_tokens: int) -> Array:
    """Return tokens as vectors with a single 1: shape (..., n_tokens).

    Parameters
    ----------
    tokens
        Integers below `n_tokens`, of any shape; -1 stands for none, a vector of zeros.
    n_tokens
        How many there are.

    Raises
    ------
    TypeError, ValueError
        If a token is not an integer from -1 to n_tokens - 1.

    Examples
    --------
    >>> one_hot([2, 0, -1], 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    N = as_count(n_tokens, "n_tokens")
    numbers = _as_numbers(tokens, "tokens", -1, N)
    vectors: Array = np.vstack([np.eye(N), np.zeros(N)])[numbers]
    return vectors


def _log_probabilities(network: Network, x: Array) -> Any:
    T = x.shape[1]
    x = np.tensordot(x, network["embed"], 1) + network["position"][:T]
    ahead = np.triu(np.full((T, T), -1e9), 1)  # nobody looks ahead
    for layer in network["layers"]:
        x = x + _attention(layer, _normalise(x), ahead)
        x = x + _perceptron(layer, _normalise(x))
    return _log_softmax(np.tensordot(_normalise(x), network["read"], 1))


def _attention(layer: dict[str, Array], x: Array, ahead: Array) -> Any:
    """Let every head of each position ask the positions up to it: (B, T, W) -> (B, T, W)."""
    query, key, value = (
        np.transpose(np.tensordot(x, layer[name], [2, 1]), (0, 2, 1, 3))
        for name in ("query", "key", "value")
    )
    scores = query @ np.swapaxes(key, 2, 3) / query.shape[-1] ** 0.5 + ahead
    answers = np.exp(_log_softmax(scores)) @ value  # (B, H, T, W/H)
    return np.tensordot(answers, layer["out"], [[1, 3], [0, 1]])


def _perceptron(layer: dict[str, Array], x: Array) -> Any:
    hidden = np.tensordot(x, layer["up"], 1)
    return np.tensordot(hidden * (hidden > 0), layer["down"], 1)


def _normalise(x: Array) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def _log_softmax(x: Array) -> Any:
    return x - logsumexp(x, axis=-1, keepdims=True)


def _loss(network: Network, x: Array, picked: Array) -> Any:
    return -np.sum(picked * _log_probabilities(network, x)) / np.sum(picked)


def _as_inputs(network: Network, inputs: ArrayLike) -> Array:
    x = as_array(inputs, "inputs")
    N, T = len(network["embed"]), len(network["position"])
    if x.ndim != 3 or x.shape[2] != N or not 0 < x.shape[1] <= T or len(x) == 0:
        raise ValueError(f"inputs must have shape (B, T, {N}) with T <= {T}, got {x.shape}")
    if np.isinf(x).any():
        raise ValueError(f"{place('inputs', first(np.isinf(x)))} is infinite")
    return x


def _as_batch(
    network: Network, inputs: ArrayLike, targets: ArrayLike, weights: ArrayLike
) -> tuple[Array, Array]:
    """Return the inputs, and the weight of each class at each position, shape (B, T, K)."""
    x, weight, K = (
        _as_inputs(network, inputs),
        as_array(weights, "weights"),
        network["read"].shape[1],
    )
    classes = _as_numbers(targets, "targets", 0, K)
    for name, array in [("targets", classes), ("weights", weight)]:
        if array.shape != x.shape[:2]:
            raise ValueError(
                f"{name} must have the shape {x.shape[:2]} of inputs, got {array.shape}"
            )
    if (weight < 0).any():
        where = first(weight < 0)
        raise ValueError(f"{place('weights', where)} must not be negative, got {weight[where]}")
    if not 0 < weight.sum() < np.inf:
        raise ValueError(f"the weights must have a positive, finite sum, got {weight.sum()}")
    return x, weight[..., np.newaxis] * np.eye(K)[classes]


def _as_numbers(values: ArrayLike, name: str, least: int, limit: int) -> NDArray[np.signedinteger]:
    numbers: NDArray[np.signedinteger] = np.asarray(values)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {numbers.dtype}")
    outside = (numbers < least) | (numbers >= limit)
    if outside.any():
        where = first(outside)
        raise ValueError(
            f"{place(name, where)} must be an integer from {least} to {limit - 1}, "
            f"got {numbers[where]}"
        )
    return numbers
