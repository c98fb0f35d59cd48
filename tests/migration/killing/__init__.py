"""Real processes, killed at named points of the protocol."""
