"""Workers that empty a queue: the programs, as the users of each package write them, and what they handle."""
