"""The outbox: messages are rows of the caller's transaction until the broker has confirmed them."""
