"""The border: what is right up to rounding passes, anything else is named and refused."""

import numpy as np
import pytest

from sc_utils.probabilities import as_action_values, as_count, as_generator, as_policy


def test_a_policy_comes_back_as_floats_with_its_shape():
    assert as_policy([[1, 0], [0, 1]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert as_policy([0.25, 0.75]).shape == (2,)


def test_a_sum_may_be_off_by_rounding_and_by_no_more():
    as_policy([[1 / 3 + 2e-12] * 3])
    with pytest.raises(ValueError, match=r"policy\[0\] must sum to 1, got 0.9995 "):
        as_policy([[0.5, 0.4995]])


def test_values_outside_by_rounding_are_moved_to_the_border():
    assert as_action_values([-1e-17, 1 + 5e-10], (2,)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.05], r"Q\[1\] must be a probability, got 1.05"),
        ([-0.01, 0.5], r"Q\[0\] must be a probability, got -0.01"),
        ([0.5, np.nan], r"Q\[1\] is NaN"),
        ([[0.5, 0.5]], r"Q must have the policy's shape \(2,\), got \(1, 2\)"),
    ],
)
def test_values_that_are_no_probabilities_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        as_action_values(values, (2,))


def test_the_name_in_the_message_is_the_caller_s():
    with pytest.raises(ValueError, match=r"behaviour\[1, 0\] must not be negative, got -1"):
        as_policy([[0, 1], [-1, 2]], "behaviour")


def test_counts_are_positive_integers():
    assert as_count(np.int64(3), "n_states") == 3
    with pytest.raises(ValueError, match="n_states must be at least 1, got 0"):
        as_count(0, "n_states")
    with pytest.raises(TypeError, match="n_states must be an integer"):
        as_count(2.5, "n_states")


def test_randomness_comes_from_a_generator_and_not_from_a_seed(rng):
    assert as_generator(rng) is rng
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator.*, got 7"):
        as_generator(7)
