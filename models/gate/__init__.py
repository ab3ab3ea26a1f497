"""The gate's facts: provider calls, rates, budgets and breakers."""
