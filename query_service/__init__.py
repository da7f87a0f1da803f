"""The read side: searches over replicas of the read model. It owns nothing and writes nothing."""
