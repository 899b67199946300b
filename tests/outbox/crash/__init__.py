"""Processes that write and relay messages while they, the broker and the database fail; and what arrives."""
