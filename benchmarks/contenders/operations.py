"""The operations of the question of scale, by the names of the functions in `contenders.scale`."""

OPERATIONS = (
    "open a source",
    "a message beside idle sources",
    "a message to one of many that wait",
    "begin and give up a wait",
    "a message to a polled socket",
    "begin and give up a poll",
    "a request beside outstanding ones",
    "a request that expires",
    "queue and send a message",
    "a message from a thread",
    "withdraw a message",
)
