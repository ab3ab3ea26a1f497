"""Who analyzes and generates."""
