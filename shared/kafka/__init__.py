"""The events' way through Kafka: what a record holds, its partition, and the filling of the topic it is of."""
