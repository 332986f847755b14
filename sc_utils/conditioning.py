"""Success conditioning as an operator on policies, and the quantities it moves, state by state.

Everything here acts on ``(policy, Q)`` alone. Exact values and estimates from a log enter by the same door.
"""
