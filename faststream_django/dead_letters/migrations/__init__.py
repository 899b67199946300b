"""Migrations of the app: the model without a table, for its permissions."""
