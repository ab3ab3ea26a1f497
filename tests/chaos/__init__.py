"""Chaos runs: real processes, real services and every fault that one machine can cause; then an audit of the tables."""
