"""Saved machines. For now the templates that every sandbox is restored from."""
