"""The projector: events become the read model. It owns the read database."""
