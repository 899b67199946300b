"""Dead letters: look at them, replay them, discard them, all through AMQP."""
