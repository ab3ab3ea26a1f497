"""Chaos: real processes, real services and every fault that one machine can make; then an audit from outside."""
