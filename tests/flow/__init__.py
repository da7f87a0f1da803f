"""What concerns both services: written by one, projected, read by the other."""
