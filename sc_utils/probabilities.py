"""Arguments checked where they enter: a bad one is refused with its place and its value."""

from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "as_action_values", "as_policy"]

Array = NDArray[np.float64]

SUM_TOLERANCE = 1e-9


def as_array(values: ArrayLike, name: str) -> Array:
    """Return `values` as an array of floats without NaN.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If an entry is NaN; the message names it.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers: {error}") from None
    if np.isnan(array).any():
        raise ValueError(f"{place(name, first(np.isnan(array)))} is NaN")
    return array


def as_policy(policy: ArrayLike, name: str = "policy") -> Array:
    """Return a policy whose rows have been checked to be distributions over actions.

    Parameters
    ----------
    policy
        Action probabilities, shape (S, A), or (A,) where there is one state.
    name
        What the messages call it.

    Raises
    ------
    ValueError
        If there is no action, an entry is NaN or negative, or a row does not sum to 1.

    Examples
    --------
    >>> as_policy([[0.5, 0.48], [0.2, 0.8]])
    Traceback (most recent call last):
    ...
    ValueError: policy[0] must sum to 1, got 0.98 (row [0.5, 0.48])
    """
    array = as_array(policy, name)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must have shape (S, A) or (A,) with S, A >= 1, got {array.shape}")
    if (array < 0).any():
        where = first(array < 0)
        raise ValueError(f"{place(name, where)} must not be negative, got {array[where]:.6g}")
    totals = array.sum(axis=-1)
    wrong = np.abs(totals - 1) > SUM_TOLERANCE
    if wrong.any():
        where = first(wrong)
        raise ValueError(
            f"{place(name, where)} must sum to 1, got {totals[where]:.10g} "
            f"(row {array[where].tolist()})"
        )
    return array


def as_action_values(Q: ArrayLike, shape: tuple[int, ...], name: str = "Q") -> Array:
    """Return success probabilities of actions, checked to have `shape` and to lie in [0, 1].

    What is outside by rounding only is moved to the border.

    Raises
    ------
    ValueError
        If the shape differs, or an entry is NaN or outside [0, 1] (beyond rounding).
    """
    array = as_array(Q, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have the policy's shape {shape}, got {array.shape}")
    outside = (array < -SUM_TOLERANCE) | (array > 1 + SUM_TOLERANCE)
    if outside.any():
        where = first(outside)
        raise ValueError(f"{place(name, where)} must be a probability, got {array[where]:.10g}")
    return np.clip(array, 0, 1)


def first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the index of the first true entry."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), np.shape(mask)))


def place(name: str, where: tuple[int, ...]) -> str:
    """Return `name` with its index, as in ``policy[3, 1]``; the bare name where there is none."""
    return f"{name}[{', '.join(map(str, where))}]" if where else name


def as_count(value: int, name: str) -> int:
    """Return a whole number of things, at least 1.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is below 1.
    """
    try:
        count = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count


def as_generator(rng: np.random.Generator) -> np.random.Generator:
    """Return a source of randomness, checked to be one.

    Raises
    ------
    TypeError
        If it is anything else, such as a seed.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a numpy.random.Generator, such as np.random.default_rng(1), got {rng!r}"
        )
    return rng
