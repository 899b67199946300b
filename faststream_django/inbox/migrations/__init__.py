"""The table of the inbox."""
