"""The settings of every process that speaks to Kafka."""

from __future__ import annotations

from pydantic import Field

from events_schema.asyncapi import TOPIC
from shared.settings import ProcessSettings


class KafkaSettings(ProcessSettings):
    """Without `kafka_bootstrap` the event log itself is the projectors' source."""

    kafka_bootstrap: str = ""
    """Brokers, comma-separated. Empty: no Kafka, the projector reads the event log itself."""
    kafka_topic: str = Field(default=TOPIC, pattern=r"^[a-zA-Z0-9._-]{1,249}$")
    """The same for the relay and the projectors."""
