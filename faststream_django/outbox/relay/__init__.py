"""The relay: one process for each database and broker sends what is stored there."""
