"""Checks of `darkroom doctor`, by subject: rows, the database, and services outside of it."""
