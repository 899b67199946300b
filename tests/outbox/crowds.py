"""Many rows at once, made by the database."""

from faststream_django.outbox.models import OutboxMessage, State

FAR = 4e9  # the year 2096
# A table with the numbers from 1 on in the column n, and how much of it.
_NUMBERS = {
    "postgresql": "generate_series(1, {count}) AS numbers(n)",
    "mysql": "(SELECT seq AS n FROM seq_1_to_{count}) AS numbers",
    "sqlite": (
        "(WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {count}) "
        "SELECT n FROM numbers) AS numbers"
    ),
}
_TEXT = {"postgresql": "'m' || n", "mysql": "concat('m', n)", "sqlite": "'m' || n"}
_KEY = {
    "postgresql": "'k' || n %% {keys}",
    "mysql": "concat('k', n %% {keys})",
    "sqlite": "'k' || n %% {keys}",
}


def fill(connection, count, state=State.READY, *, due=None, keys=0, body="{}"):
    """Insert rows in this state, if `keys` with so many different keys."""
    quote = connection.ops.quote_name
    values = {
        "broker": "'default'",
        "state": f"{state:d}",
        "due": "NULL" if due is None else f"{due} + n * 0.001",
        "ordering_key": _KEY[connection.vendor].format(keys=keys) if keys else "''",
        "message_id": _TEXT[connection.vendor],
        "exchange": "''",
        "routing_key": "'orders'",
        "body": "%s",
        "properties": """'{"content_type":"application/json"}'""",
        "created_at": "0",
        "attempts": "0",
        "last_error": "''",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quote(OutboxMessage._meta.db_table)} ({', '.join(map(quote, values))}) "
            f"SELECT {', '.join(values.values())} FROM {_NUMBERS[connection.vendor].format(count=count)}",
            [body.encode()],
        )


def analyze(connection):
    """Have the statistics be those of the moment."""
    table = connection.ops.quote_name(OutboxMessage._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {table}" if connection.vendor == "mysql" else f"ANALYZE {table}")
