"""HTTP habits that both services share: problems, strict bodies, request ids, health, metrics, draining."""
