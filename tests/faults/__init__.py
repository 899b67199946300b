"""Load through one connection while something goes wrong, with a ledger of what came of it."""
