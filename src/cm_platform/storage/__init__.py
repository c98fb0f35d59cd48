"""Object storage: one interface over S3, R2 and the local disk."""
