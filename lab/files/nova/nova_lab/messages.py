"""RabbitMQ as the stand-ins use it: durable queues named by topic, JSON messages {"method": ..., "args": {...}}."""

import json
import re
import uuid
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

import pika
from pika.exceptions import AMQPError

AWAY = (AMQPError, OSError)


def why(error):
    """The reason at the bottom of pika's nested errors."""
    found = re.findall(r"\w+(?:Error|Exception)?\([^()]*\)", repr(error))
    return found[0] if found else repr(error)


def parameters(place, heartbeat=20):
    return pika.ConnectionParameters(
        host=place["host"],
        port=place["port"] or 5672,
        virtual_host=place["virtual_host"] or "/",
        credentials=pika.PlainCredentials(place["username"] or "", place["password"] or ""),
        heartbeat=heartbeat,
        blocked_connection_timeout=5,
        socket_timeout=3,
        stack_timeout=4,
        connection_attempts=1,
    )


def from_url(url):
    """A transport_url as Havana keeps it, as a place to connect to."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "virtual_host": unquote(parts.path[1:]),
    }


def publish(channel, queue, method, reply_to=None, correlation_id=None, **args):
    """Put one message on a queue, which is made if nobody has listened there yet."""
    if not queue.startswith("reply_"):
        channel.queue_declare(queue, durable=True)
    channel.basic_publish(
        "",
        queue,
        json.dumps({"method": method, "args": args}, default=str),
        pika.BasicProperties(delivery_mode=2, reply_to=reply_to, correlation_id=correlation_id),
    )


@contextmanager
def channel_to(place):
    """A connection of its own for one message; the broker's acknowledgement is waited for."""
    connection = pika.BlockingConnection(parameters(place))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        if connection.is_open:
            connection.close()


def cast(place, queue, method, **args):
    with channel_to(place) as channel:
        publish(channel, queue, method, **args)


def call(place, queue, method, timeout, **args):
    """Ask and wait for the answer.

    Raises TimeoutError when none came in time.
    """
    with channel_to(place) as channel:
        reply, token = f"reply_{uuid.uuid4().hex}", uuid.uuid4().hex
        channel.queue_declare(reply, exclusive=True, auto_delete=True)
        publish(channel, queue, method, reply_to=reply, correlation_id=token, **args)
        for _method, _properties, body in channel.consume(reply, auto_ack=True, inactivity_timeout=timeout):
            if body is None:
                raise TimeoutError(f"Timed out waiting for a reply from topic {queue} on {place['host']}")
            return json.loads(body)
