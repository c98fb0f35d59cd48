"""Object storage that is moving from one backend to another."""
