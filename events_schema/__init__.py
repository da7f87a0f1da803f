"""The facts: what happened, in the one language that all services speak."""
