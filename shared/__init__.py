"""What the services have in common: settings, databases, the ordered event log, HTTP habits, telemetry."""
