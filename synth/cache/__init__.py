"""What was found and proved before, kept in the user's own cache folder (docs/cache.md)."""
