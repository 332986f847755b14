"""Exact algebra in SymPy: expectations over one action, and small processes in exact numbers.

`ActionDraw` proves statements for every finite set of actions at once, because it uses nothing but
the linearity of the expectation. `ExactMDP` holds rationals or symbols, so that equality means
equality and not closeness.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from sympy.polys.matrices import DomainMatrix

__all__ = [
    "ActionDraw",
    "ExactEvaluation",
    "ExactMDP",
    "Trajectory",
    "exact_evaluate",
    "trajectories",
]

Expr = Any  # SymPy's own expressions carry no useful static types
Row = tuple[Expr, ...]
Matrix = tuple[Row, ...]

LARGEST_DENOMINATOR = 10**6
ROUNDING = 4e-16  # relative; a sum of two floats is as far as that from its fraction


@dataclass(frozen=True)
class ActionDraw:
    r"""One action drawn from the behaviour policy, and random variables that depend on it.

    The number of actions, their probabilities and the values of the variables stay arbitrary. What
    is known of them are the means; every other moment is a symbol of its own, the same in every
    draw, so that one law is spoken of at a time. An identity between two expectations that holds
    here holds for every finite set of actions.

    Attributes
    ----------
    means
        The random variables, SymPy symbols, each with its mean under the behaviour policy.

    Examples
    --------
    >>> Q, V = sympy.symbols("Q V", positive=True)
    >>> draw = ActionDraw({Q: V})
    >>> draw.expect(3 * Q + 1)
    3*V + 1
    >>> sympy.expand(draw.expect((Q - V) ** 2) - draw.expect(Q**2) + V**2)
    0
    """

    means: Mapping[Expr, Expr]

    def expect(self, expression: Expr) -> Expr:
        r"""Return the mean of a polynomial in the random variables, term by term.

        Parameters
        ----------
        expression
            Polynomial in the variables; its coefficients are anything that the action does not
            change.

        Returns
        -------
        Expr
            With the known means put in, and a symbol such as :math:`\mathbb{E}[Q^2]` for each other
            moment.

        Raises
        ------
        ValueError
            If the expression is not a polynomial in the random variables.
        """
        variables = tuple(self.means)
        try:
            polynomial = sympy.Poly(expression, *variables)
        except sympy.PolynomialError:
            names = ", ".join(map(str, variables))
            raise ValueError(f"{expression} is not a polynomial in {names}") from None
        return sum(
            (coefficient * self.moment(powers) for powers, coefficient in polynomial.terms()),
            sympy.Integer(0),
        )

    def moment(self, powers: Sequence[int]) -> Expr:
        """Return the mean of the monomial with these powers: 1, a known mean, or a symbol."""
        factors = {v: k for v, k in zip(self.means, powers, strict=True) if k}
        if not factors:
            return sympy.Integer(1)
        if sum(factors.values()) == 1:
            return self.means[next(iter(factors))]
        monomial = sympy.Mul(*(v**k for v, k in factors.items()))
        return sympy.Symbol(rf"\mathbb{{E}}\left[{sympy.latex(monomial)}\right]", real=True)


@dataclass(frozen=True)
class ExactMDP:
    """A finite episodic process in exact numbers: the twin of `SuccessMDP` for small cases.

    Attributes
    ----------
    transition
        Nested (S, A, S): probability of each next state.
    success
        Nested (S, A): probability that the action ends the episode in success.
    initial
        (S,): start distribution.
    """

    transition: tuple[Matrix, ...]
    success: Matrix
    initial: Row

    @classmethod
    def of(cls, transition: Any, success: Any, initial: Any) -> ExactMDP:
        """Build from nested sequences or arrays of SymPy numbers, symbols, integers or floats.

        A float must be, up to rounding, a fraction with denominator up to a million, as the
        entries of real tables are; it becomes that fraction.

        Raises
        ------
        ValueError
            If a float is not such a fraction, the shapes differ from (S, A, S), (S, A), (S,), or
            rational entries are no probabilities. Symbols are taken on trust.
        """
        P = tuple(exact_matrix(rows, f"transition[{s}]") for s, rows in enumerate(transition))
        r = exact_matrix(success, "success")
        mu = exact_row(initial, "initial")
        S, A = len(mu), len(r[0]) if r else 0
        matching = {len(P), len(r)} == {S} and all(len(row) == A for row in r)
        if not (S and matching) or any(
            len(rows) != A or any(len(p) != S for p in rows) for rows in P
        ):
            raise ValueError(
                "transition, success and initial must have shapes (S, A, S), (S, A), (S,)"
            )
        actions = [(s, a) for s in range(S) for a in range(A)]
        refuse_improbable(
            [(r[s][a], *P[s][a]) for s, a in actions],
            [f"success[{s}, {a}] and transition[{s}, {a}]" for s, a in actions],
        )
        refuse_improbable([mu], ["initial"], whole=True)
        return cls(P, r, mu)


@dataclass(frozen=True)
class ExactEvaluation:
    """`Evaluation` in exact numbers: V and visits (S,), Q (S, A), the success rate."""

    V: Row
    Q: Matrix
    visits: Row
    success_rate: Expr


@dataclass(frozen=True)
class Trajectory:
    """A whole episode.

    Attributes
    ----------
    decisions
        Its (state, action) pairs in order of time.
    probability
        Under the policy.
    success
        How it ends.
    """

    decisions: tuple[tuple[int, int], ...]
    probability: Expr
    success: bool


def exact_evaluate(mdp: ExactMDP, policy: Any) -> ExactEvaluation:
    r"""Solve :math:`V = r_\pi + P_\pi V` and :math:`d = \mu + P_\pi^\top d` in exact arithmetic.

    Parameters
    ----------
    mdp
        Of rationals, or with symbols.
    policy
        Nested (S, A), of numbers as `ExactMDP.of` takes them.

    Returns
    -------
    ExactEvaluation

    Raises
    ------
    ValueError
        If the policy has another shape or no probabilities, or if under it an episode may never
        end, from any state, visited or not.

    Examples
    --------
    A coin is tossed until a head shows; a head succeeds with probability x, a tail tosses again.

    >>> x = sympy.Symbol("x")
    >>> coin = ExactMDP.of([[[0.5]]], [[x / 2]], [1])
    >>> exact_evaluate(coin, [[1]]).success_rate
    x
    """
    pi, S = policy_of(mdp, policy), len(mdp.initial)
    A = len(mdp.success[0])
    P_pi = sympy.Matrix(
        S, S, lambda s, t: sum(pi[s][a] * mdp.transition[s][a][t] for a in range(A))
    )
    r_pi = sympy.Matrix(S, 1, lambda s, _: sum(pi[s][a] * mdp.success[s][a] for a in range(A)))
    system = sympy.eye(S) - P_pi
    V = solve(system, r_pi)
    visits = solve(system.T, sympy.Matrix(S, 1, mdp.initial))
    Q = tuple(
        tuple(
            tidy(mdp.success[s][a] + sum(mdp.transition[s][a][t] * V[t] for t in range(S)))
            for a in range(A)
        )
        for s in range(S)
    )
    rate = tidy(sum(mdp.initial[s] * V[s] for s in range(S)))
    return ExactEvaluation(V=V, Q=Q, visits=visits, success_rate=rate)


def trajectories(mdp: ExactMDP, policy: Any) -> Iterator[Trajectory]:
    """Yield every episode of positive probability, one by one: the definition, without a formula.

    Parameters
    ----------
    mdp
        In which no state can come back, so that the episodes are finitely many.
    policy
        Nested (S, A), of numbers as `ExactMDP.of` takes them.

    Yields
    ------
    Trajectory
        Their probabilities sum to 1.

    Raises
    ------
    ValueError
        If an episode can come back to a state, which the message names; or if the policy has
        another shape or no probabilities.
    """
    pi = policy_of(mdp, policy)

    def extend(s: int, decisions: tuple[tuple[int, int], ...], p: Expr) -> Iterator[Trajectory]:
        if any(s == earlier for earlier, _ in decisions):
            raise ValueError(f"episodes come back to state {s}: there are infinitely many")
        for a, choice in enumerate(pi[s]):
            if choice == 0:
                continue
            path, r = (*decisions, (s, a)), mdp.success[s][a]
            lose = 1 - r - sum(mdp.transition[s][a])
            if r != 0:
                yield Trajectory(path, p * choice * r, True)
            if lose != 0:
                yield Trajectory(path, p * choice * lose, False)
            for t, move in enumerate(mdp.transition[s][a]):
                if move != 0:
                    yield from extend(t, path, p * choice * move)

    for s, start in enumerate(mdp.initial):
        if start != 0:
            yield from extend(s, (), start)


def policy_of(mdp: ExactMDP, policy: Any) -> Matrix:
    """Return an exact policy; refuse one of another shape or without probabilities."""
    pi = exact_matrix(policy, "policy")
    S, A = len(mdp.initial), len(mdp.success[0])
    if len(pi) != S or any(len(row) != A for row in pi):
        raise ValueError(f"policy must have shape ({S}, {A})")
    refuse_improbable(pi, [f"policy[{s}]" for s in range(S)], whole=True)
    return pi


def solve(system: Expr, right: Expr) -> Row:
    """Return the solution of a square linear system over the field of its entries."""
    A, b = DomainMatrix.from_Matrix(system).to_field().unify(DomainMatrix.from_Matrix(right))
    A, b = A.to_field(), b.to_field()
    if A.rank() < A.shape[0]:
        raise ValueError("an episode may never end under this policy: its equations are singular")
    return tuple(tidy(x) for x in A.lu_solve(b).to_Matrix())


def tidy(x: Expr) -> Expr:
    """Return a canonical form: the number itself, or a factored rational function."""
    expression = sympy.sympify(x)
    return expression if expression.is_Rational else sympy.factor(expression)


def exact_matrix(rows: Any, name: str) -> Matrix:
    """Return nested numbers as exact ones."""
    return tuple(exact_row(row, f"{name}[{i}]") for i, row in enumerate(rows))


def exact_row(row: Any, name: str) -> Row:
    """Return numbers as exact ones; refuse a float that is no small fraction."""
    return tuple(exact_number(x, f"{name}[{i}]") for i, x in enumerate(row))


def exact_number(x: Any, name: str) -> Expr:
    """Return `x` exactly; a float becomes the simple fraction that it is, up to rounding."""
    if isinstance(x, sympy.Basic) and not x.is_Float:
        if x.has(sympy.Float):
            raise ValueError(f"{name} must be exact, got {x}: write its floats as Rational")
        return x
    value = float(x) if isinstance(x, sympy.Float) else x
    fraction = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    if abs(float(fraction) - value) > ROUNDING * abs(value):
        raise ValueError(f"{name} must be a simple fraction, got {x}")
    return sympy.Rational(fraction.numerator, fraction.denominator)


def refuse_improbable(rows: Iterable[Row], names: Iterable[str], *, whole: bool = False) -> None:
    """Refuse rows of rationals that are no probabilities; with `whole` they must sum to 1."""
    for row, name in zip(rows, names, strict=True):
        if not all(x.is_Rational for x in row):
            continue  # symbols: their values are the caller's business
        total = sum(row)
        if any(x < 0 for x in row) or total > 1 or (whole and total != 1):
            due = "sum to 1" if whole else "sum to at most 1"
            raise ValueError(f"{name} must be probabilities that {due}, got {list(row)}")
