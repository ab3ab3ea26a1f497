"""Pixels: stages, job types, providers, storage, imaging."""
