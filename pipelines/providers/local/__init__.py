"""The local engine: measures a picture offline, and treats what it measured."""
