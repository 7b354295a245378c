"""RabbitMQ as the components' stand-ins use it: JSON on a durable queue, whose messages wait for whoever takes them."""

import json

import pika
from pika.exceptions import AMQPError

AWAY = (AMQPError, OSError)


class Queue:
    """One queue on the broker that the settings name; the connection is made when it is wanted, and after a failure anew.

    Its methods raise AWAY.
    """

    def __init__(self, config, name):
        self.place, self.name = config.rabbit, name
        self._connection = self._channel = None

    def _open(self):
        if self._channel is None:
            self._connection = pika.BlockingConnection(
                pika.ConnectionParameters(
                    host=self.place["host"],
                    port=self.place["port"],
                    virtual_host=self.place["virtual_host"],
                    credentials=pika.PlainCredentials(self.place["username"], self.place["password"]),
                    heartbeat=20,
                    blocked_connection_timeout=5,
                    socket_timeout=3,
                    stack_timeout=4,
                    connection_attempts=1,
                )
            )
            channel = self._connection.channel()
            channel.confirm_delivery()
            channel.queue_declare(self.name, durable=True)
            self._channel = channel
        return self._channel

    def close(self):
        """Whatever was not taken goes back to the queue."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except AWAY:
                return

    def put(self, message):
        """Send a message; returns when the broker has it."""
        try:
            self._open().basic_publish("", self.name, json.dumps(message), pika.BasicProperties(delivery_mode=2))
        except AWAY:
            self.close()
            raise

    def take(self, handle):
        """Give what is there to `handle`, one message after another; one for which it raises stays. The number taken."""
        taken = 0
        try:
            channel = self._open()
            while True:
                method, _properties, body = channel.basic_get(self.name)
                if method is None:
                    return taken
                handle(json.loads(body))
                channel.basic_ack(method.delivery_tag)
                taken += 1
        except BaseException:  # raised again: what was begun goes back to the queue
            self.close()
            raise
