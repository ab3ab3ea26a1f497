"""Operators of the dashboard, their sessions, and the limit on tries to sign in."""
