"""Rows of the gate: provider calls, rates, budgets and breakers."""
