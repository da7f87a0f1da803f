"""The topic: made if it is missing, refused if it has another number of partitions than its feed."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

_MAX_REPLICATION = 3


class TopicMissingError(Exception):
    """The topic is not there. A relay makes it anew."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"there is no topic {topic}; a relay that leads makes it")


class TopicMismatchError(Exception):
    """The topic has another number of partitions than the feed; events would not stand where they belong."""

    def __init__(self, topic: str, *, expected: int, got: int) -> None:
        super().__init__(
            f"the topic {topic} has {got} partitions, but its feed has {expected}. Run `aindusdb relay reset "
            f"--partitions {got}` to go over to as many, or `aindusdb relay reset --new-topic` to make it anew with "
            f"{expected}"
        )


async def partition_count(admin: AIOKafkaAdminClient, topic: str) -> int:
    """0 if there is no such topic."""
    [found] = await admin.describe_topics([topic])
    if found["error_code"] == UnknownTopicOrPartitionError.errno:
        return 0
    if found["error_code"]:
        raise for_code(found["error_code"])(topic)
    return len(found["partitions"])


async def check_topic(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """
    Raises:
        TopicMissingError: there is no such topic.
        TopicMismatchError: it has another number of partitions.
        KafkaError: it cannot be looked at.
    """
    got = await partition_count(admin, topic)
    if got == 0:
        raise TopicMissingError(topic)
    if got != partitions:
        raise TopicMismatchError(topic, expected=partitions, got=got)


async def ensure_topic(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Makes the topic if it is missing, with as many replicas as brokers allow, at most three.

    Raises:
        TopicMismatchError: it has another number of partitions.
        KafkaError: it cannot be looked at or made.
    """
    try:
        await check_topic(admin, topic, partitions)
    except TopicMissingError:
        await _create(admin, topic, partitions)


async def _create(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    brokers = (await admin.describe_cluster())["brokers"]
    replicas = min(_MAX_REPLICATION, len(brokers))
    configuration = {
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": str(max(1, replicas - 1)),
    }
    answer = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configuration)])
    for _name, code, message in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(message)


async def delete_topic(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Whether there was one."""
    answer = await admin.delete_topics([topic])
    for _name, code in answer.topic_error_codes:
        if code == UnknownTopicOrPartitionError.errno:
            return False
        if code:
            raise for_code(code)(topic)
    return True
