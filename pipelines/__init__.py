"""Pictures: stages, job types, providers, storage and imaging."""
