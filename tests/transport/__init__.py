"""From the log through Kafka to the read model."""
