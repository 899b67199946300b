"""Publishing compared: faststream_django beside its peers, on one private RabbitMQ node, in one run."""
