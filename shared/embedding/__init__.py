"""Text becomes embeddings: by a model in this process, by an endpoint, or not at all."""
