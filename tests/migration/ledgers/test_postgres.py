"""`ledger.postgres` beside its contract: its settings, its errors, its tables, its round trips."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from cm_platform.errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    UnauthenticatedError,
    UnavailableError,
)
from cm_platform.migration.ledger import Fenced, Intent, Terms
from cm_platform.migration.ledgers.postgres import BACKEND, PostgresLedgerConfig, schema_sql
from cm_platform.registry import REGISTRY
from cm_platform.routing import Stage
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.testing.servers import PostgresServer
from cm_platform.testing.servers.process import free_port

from .postgres_ledgers import (
    FACES,
    LONG,
    NAMED,
    SAY,
    SUBJECT,
    LosingProxy,
    Opened,
    beside,
    blocked_by,
    connected,
    eventually,
    intent,
    move_to,
    opened,
    wait_until_blocked,
)

SOURCE = str(Path(__file__).resolve().parents[3] / "src")


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    with PostgresServer() as server:
        yield server


def executed(url: str, *statements: str) -> None:
    with connected(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def error_of(act: Callable[[], Any]) -> PlatformError:
    """The error that a call ends with, which says nothing that it must not say."""
    with pytest.raises(PlatformError) as caught:
        act()
    said = f"{caught.value!s} {caught.value!r} {caught.value.to_dict()}"
    for secret in ("postgresql://", "s3cret", "127.0.0.1", "acme"):
        assert secret not in said
    return caught.value


def answers(ledger: Opened) -> bool:
    try:
        ledger.state()
    except (UnavailableError, DeadlineExceededError):
        return False
    return True


# Settings


def test_it_is_found_by_its_name() -> None:
    assert REGISTRY.get("ledger", "postgres") is BACKEND
    assert (BACKEND.name, BACKEND.extra, BACKEND.capabilities) == (
        "ledger.postgres",
        "postgres",
        frozenset(),
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "mysql://user:s3cret@host/db"}, "such as postgresql://"),
        ({"url": "postgresql:///db"}, "such as postgresql://"),
        ({"url": "postgresql://user:s3cret@[host/db"}, "such as postgresql://"),
        ({"table_schema": 'a"; DROP SCHEMA public; --'}, "schema's name"),
        ({"table_schema": "pg_mine"}, "schema's name"),
        ({"pool_min": 5, "pool_max": 4}, "pool_max must not be below pool_min"),
        ({"application_name": "é"}, "application's name"),
        ({"read_timeout": 0}, "greater than 0"),
        ({"schema": "mine"}, "Extra inputs"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        PostgresLedgerConfig(**{"url": "postgresql://user:s3cret@host/db", **settings})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("query", ["?no_such_parameter=1", "?sslmode"])
def test_a_url_that_the_sdk_refuses_is_not_repeated(query: str) -> None:
    config = PostgresLedgerConfig(url=f"postgresql://user:s3cret@host/db{query}")

    async def open_it() -> None:
        await BACKEND.open(config, BlockingRuntime())

    error = error_of(lambda: drive(open_it()))
    assert isinstance(error, ConfigInvalidError)
    assert error.__cause__ is None


def test_encrypted_means_that_the_server_is_known() -> None:
    url = "postgresql://user@one:5432,two:5432/db"
    assert not PostgresLedgerConfig(url=url).encrypted
    assert not PostgresLedgerConfig(url=f"{url}?sslmode=require").encrypted
    assert PostgresLedgerConfig(url=f"{url}?sslmode=verify-full").encrypted


def test_to_name_it_imports_no_sdk_and_to_open_it_asks_nobody() -> None:
    script = (
        "import sys\n"
        "from cm_platform.migration.ledgers.postgres import BACKEND\n"
        "assert not any(name.startswith('psycopg') for name in sys.modules)\n"
        "from cm_platform.runtime import BlockingRuntime, drive\n"
        f"config = BACKEND.config(url='postgresql://user@127.0.0.1:{free_port()}/db')\n"
        "ledger = drive(BACKEND.open(config, BlockingRuntime()))\n"
        "drive(ledger.close())\n"
    )
    subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE},
        check=True,
        timeout=60,
    )


def test_what_is_set_for_a_connection(postgres_url: str, face: str) -> None:
    def asked(ledger: Opened, query: bytes) -> Any:
        return ledger.run(ledger.ledger._tables._connections.ask(query))[0][0]

    with opened(face, postgres_url, pool_max=1, read_timeout=7, application_name="mine") as direct:
        direct.started()
        for _ in range(7):
            direct.state()
        assert asked(direct, b"SHOW statement_timeout") == "7s"
        assert asked(direct, b"SHOW idle_in_transaction_session_timeout") == "7s"
        assert asked(direct, b"SHOW application_name") == "mine"
        assert asked(direct, b"SELECT count(*) FROM pg_prepared_statements") > 0
    with opened(face, postgres_url, pool_max=1, pooler=True, read_timeout=7) as pooled:
        for _ in range(7):
            pooled.state()
        assert asked(pooled, b"SHOW statement_timeout") == "0"
        assert asked(pooled, b"SELECT count(*) FROM pg_prepared_statements") == 0


# Errors


def test_a_server_that_is_not_there_is_unavailable_in_time(face: str) -> None:
    url = f"postgresql://user:s3cret@127.0.0.1:{free_port()}/db"
    with opened(face, url, connect_timeout=0.3) as ledger:
        began = time.monotonic()
        error = error_of(ledger.state)
        assert time.monotonic() - began < 3
        assert isinstance(error, UnavailableError)
        assert (error.retryable, error.not_sent) == (True, True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("postgres:", "postgres:wrong"), UnauthenticatedError),
        (("postgres:", "nobody:wrong"), UnauthenticatedError),
        (("/postgres", "/not_there"), ConfigInvalidError),
        (("", ""), ConfigInvalidError),
    ],
    ids=["password", "user", "database", "tables"],
)
def test_what_is_wrong_is_told(
    postgres_server: PostgresServer,
    face: str,
    change: tuple[str, str],
    expected: type[PlatformError],
) -> None:
    head, _, tail = postgres_server.url.partition("//")
    url = f"{head}//{tail.replace(*change) if change[0] else tail}"
    with opened(face, url, connect_timeout=0.5) as ledger:
        error = error_of(ledger.state)
        assert isinstance(error, expected)
        assert not error.retryable
        if not change[0]:
            assert "cm-platform migrate init" in error.message
            with pytest.raises(ConfigInvalidError, match="cm-platform migrate init"):
                ledger.run(ledger.ledger.ping())


def test_rights_that_are_missing_are_told(postgres_url: str, face: str) -> None:
    with opened("sync", postgres_url) as owner:
        epoch = owner.started()
    user = f"reader_{os.urandom(4).hex()}"
    executed(
        postgres_url,
        f"CREATE ROLE {user} LOGIN PASSWORD 's3cret'",
        f"GRANT USAGE ON SCHEMA cm_platform TO {user}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA cm_platform TO {user}",
    )
    _, _, place = postgres_url.partition("@")
    with opened(face, f"postgresql://{user}:s3cret@{place}") as reader:
        assert reader.state().epoch == epoch
        # The tables are there: to prepare them takes no right.
        reader.run(reader.ledger.prepare())
        error = error_of(lambda: reader.begin(epoch, intent()))
        assert isinstance(error, PermissionDeniedError)
        executed(
            postgres_url,
            f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cm_platform TO {user}",
            f"REVOKE UPDATE, DELETE ON cm_platform.transition FROM {user}",
        )
        reader.begin(epoch, intent())
        reader.run(reader.ledger.move(SUBJECT, epoch, move_to(Stage.SHADOW)))


def test_a_server_that_is_only_to_be_read_is_not_asked(postgres_url: str, face: str) -> None:
    database = postgres_url.rpartition("/")[2]
    with opened("sync", postgres_url) as ledger:
        ledger.started()
    executed(postgres_url, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with opened(face, postgres_url, connect_timeout=0.3) as ledger:
        error = error_of(ledger.state)
        assert isinstance(error, UnavailableError)
        assert "the ledger needs the primary" in error.message


def test_a_server_that_answers_before_it_has_written_is_refused(
    postgres_url: str, face: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    executed(postgres_url, f"ALTER DATABASE {database} SET synchronous_commit = off")
    with opened(face, postgres_url) as ledger:
        error = error_of(lambda: ledger.run(ledger.ledger.prepare()))
        assert isinstance(error, ConfigInvalidError)
        assert "synchronous_commit" in error.message


def test_connections_that_are_all_in_use_are_told(postgres_url: str, face: str) -> None:
    with opened(face, postgres_url, pool_max=1, connect_timeout=0.3) as ledger:
        ledger.started()

        async def asked_within() -> None:
            async with ledger.ledger._tables._connections.transaction():
                await ledger.ledger.state(SUBJECT)

        error = error_of(lambda: ledger.run(asked_within()))
        assert isinstance(error, UnavailableError)
        assert "pool_max" in error.message
        assert error.not_sent
        ledger.state()


def test_a_server_without_room_is_unavailable(face: str) -> None:
    with PostgresServer(
        settings={"max_connections": "4", "superuser_reserved_connections": "0"}
    ) as server:
        taken = [psycopg.connect(server.url) for _ in range(4)]
        with opened(face, server.url, connect_timeout=0.3) as ledger:
            error = error_of(ledger.state)
            assert isinstance(error, UnavailableError)
            assert "room for another connection" in error.message
            for one in taken:
                one.close()
            eventually(lambda: isinstance(error_of(ledger.state), ConfigInvalidError))


def test_after_close_nothing_is_asked(postgres_url: str, face: str) -> None:
    with opened(face, postgres_url) as ledger:
        ledger.started()
        ledger.run(ledger.ledger.close())
        ledger.run(ledger.ledger.close())
        error = error_of(ledger.state)
        assert isinstance(error, UnavailableError)
        assert not error.retryable
    with opened(face, postgres_url) as unused:
        unused.run(unused.ledger.close())
        assert isinstance(error_of(unused.state), UnavailableError)


def test_a_silent_server_is_not_waited_for(own_server: PostgresServer, face: str) -> None:
    with opened("sync", own_server.url) as patient:
        epoch = patient.started()
    with opened(face, own_server.url, read_timeout=0.5, pooler=True) as ledger:
        eventually(lambda: answers(ledger))
        own_server.pause()
        try:
            began = time.monotonic()
            error = error_of(lambda: ledger.begin(epoch, intent()))
            assert time.monotonic() - began < 3
        finally:
            own_server.resume()
        assert isinstance(error, DeadlineExceededError)
        assert (error.retryable, error.not_sent) == (True, False)
        eventually(lambda: answers(ledger))


def test_a_statement_that_takes_too_long_is_given_up_by_both(postgres_url: str, face: str) -> None:
    with (
        opened("sync", postgres_url) as patient,
        opened(face, postgres_url, read_timeout=0.5) as ledger,
    ):
        epoch = patient.started()
        with connected(postgres_url) as mover:
            mover.execute(SAY.lock, NAMED)
            error = error_of(lambda: ledger.begin(epoch, intent()))
            assert isinstance(error, DeadlineExceededError)
            assert error.retryable
            eventually(lambda: not blocked_by(mover, postgres_url))
        assert patient.run(patient.ledger.pending(SUBJECT)).count == 0


def test_whoever_stops_in_a_transaction_keeps_nobody_waiting(postgres_url: str) -> None:
    with (
        opened("sync", postgres_url, read_timeout=0.3) as stopped,
        opened("sync", postgres_url, read_timeout=5) as ledger,
    ):
        epoch = ledger.started()

        async def stop() -> None:
            async with stopped.ledger._tables._connections.transaction() as ask:
                await ask(SAY.lock, NAMED)
                ledger.begin(epoch, intent())
                await ask(SAY.lock, NAMED)

        error = error_of(lambda: drive(stop()))
        assert isinstance(error, UnavailableError)
        assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 1


def test_after_a_restart_the_first_call_is_answered(own_server: PostgresServer, face: str) -> None:
    with opened(face, own_server.url, connect_timeout=5) as ledger:
        epoch = ledger.started()
        own_server.kill()
        own_server.start()
        assert ledger.state().epoch == epoch


def test_an_outage_is_over_when_it_is_over(own_server: PostgresServer, face: str) -> None:
    with opened(face, own_server.url, connect_timeout=0.3) as ledger:
        epoch = ledger.started()
        own_server.kill()
        for _ in range(3):
            assert isinstance(error_of(ledger.state), UnavailableError)
        own_server.start()
        began = time.monotonic()
        eventually(lambda: answers(ledger))
        assert ledger.state().epoch == epoch
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "act",
    [
        lambda ledger, epoch: ledger.begin(SUBJECT, epoch, "o", [Intent("id", "acme\x00")], 1),
        lambda ledger, epoch: ledger.begin(SUBJECT, epoch, "o", [Intent("id", "acme\ud800")], 1),
        lambda ledger, epoch: ledger.begin(SUBJECT, epoch, "o", [intent()], 1e300),
        lambda ledger, epoch: ledger.begin(SUBJECT, epoch, "o", [intent()], -1),
        lambda ledger, epoch: ledger.count(SUBJECT, {("acme", "b"): 1 << 70}),
        lambda ledger, epoch: ledger.note(SUBJECT, "acme", {"a": float("nan")}),
        lambda ledger, epoch: ledger.note(SUBJECT, "acme", {"a": object()}),
        lambda ledger, epoch: ledger.claim(SUBJECT, "o", 1, 0),
    ],
)
def test_what_cannot_be_kept_is_refused_and_not_repeated(
    postgres_url: str, face: str, act: Callable[[Any, int], Any]
) -> None:
    with opened(face, postgres_url) as ledger:
        epoch = ledger.started()
        error = error_of(lambda: ledger.run(act(ledger.ledger, epoch)))
        assert isinstance(error, InvalidArgumentError)
        assert error.not_sent
        assert error.__cause__ is None
        assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 0


# Tables


def test_evidence_comes_back_as_it_was(postgres_url: str, face: str) -> None:
    body = {"key": "a\x00\ud800é", "big": 1 << 100, "exact": 1.10, "none": None, "list": [[], {}]}
    with opened(face, postgres_url) as ledger:
        ledger.started()
        ledger.run(ledger.ledger.note(SUBJECT, "verify", body))
        assert ledger.run(ledger.ledger.notes(SUBJECT))["verify"].body == body


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cm_platform.transition SET who = 'nobody'",
        "UPDATE cm_platform.transition SET who = 'nobody' WHERE false",
        "DELETE FROM cm_platform.transition",
        "TRUNCATE cm_platform.transition",
        (
            "INSERT INTO cm_platform.transition SELECT * FROM cm_platform.transition "
            "ON CONFLICT (kind, tenant, epoch) DO UPDATE SET who = 'nobody'"
        ),
    ],
)
def test_the_log_only_grows_whoever_writes_it(postgres_url: str, statement: str) -> None:
    with opened("sync", postgres_url) as ledger:
        ledger.started()
        before = ledger.run(ledger.ledger.log(SUBJECT))
        with pytest.raises(psycopg.errors.RaiseException, match="the log only grows"):
            executed(postgres_url, statement)
        assert ledger.run(ledger.ledger.log(SUBJECT)) == before


def test_any_number_of_processes_make_the_tables_at_once(postgres_url: str) -> None:
    ledgers = [Opened("sync", postgres_url, pool_max=1) for _ in range(8)]
    try:
        runtime = BlockingRuntime()
        drive(runtime.gather([one.ledger.prepare() for one in ledgers], limit=8))
        drive(runtime.close())
        for one in ledgers:
            one.run(one.ledger.ping())
    finally:
        for one in ledgers:
            one.close()


def test_an_operator_may_make_the_tables_by_hand(postgres_url: str) -> None:
    executed(postgres_url, schema_sql("by_hand"), schema_sql("by_hand"))
    with opened("sync", postgres_url, table_schema="by_hand") as ledger:
        ledger.run(ledger.ledger.ping())
        assert ledger.started() == 2


# Versions of the tables


def test_tables_from_before_versions_are_told_and_brought_up_to_date(
    postgres_url: str, face: str
) -> None:
    with opened("sync", postgres_url) as ledger:
        epoch = ledger.started()
    executed(postgres_url, "DROP TABLE cm_platform.version")
    with opened(face, postgres_url) as ledger:
        for act in (ledger.state, lambda: ledger.run(ledger.ledger.ping())):
            error = error_of(act)
            assert isinstance(error, ConfigInvalidError)
            assert error.not_sent
            assert "of version 0, and this library needs version 1" in error.message
            assert "cm-platform migrate init" in error.message
        ledger.run(ledger.ledger.prepare())
        assert ledger.state().epoch == epoch


def test_tables_of_an_older_version_are_brought_up_to_date(postgres_url: str) -> None:
    with opened("sync", postgres_url) as ledger:
        epoch = ledger.started()
    executed(postgres_url, "UPDATE cm_platform.version SET version = 0")
    with opened("sync", postgres_url) as ledger:
        assert "of version 0" in error_of(lambda: ledger.begin(epoch, intent())).message
        start = move_to(Stage.OFF)
        terms = Terms("to-new", "old", "new")
        starting = ledger.ledger.start(SUBJECT, terms, start)
        assert "of version 0" in error_of(lambda: ledger.run(starting)).message
        ledger.run(ledger.ledger.prepare())
        ledger.begin(epoch, intent())


def test_tables_of_a_newer_version_are_left_alone(postgres_url: str, face: str) -> None:
    with opened("sync", postgres_url) as ledger:
        ledger.started()
    executed(postgres_url, "UPDATE cm_platform.version SET version = 2")
    with opened(face, postgres_url) as ledger:
        for act in (ledger.state, lambda: ledger.run(ledger.ledger.prepare())):
            error = error_of(act)
            assert isinstance(error, ConfigInvalidError)
            assert "of version 2, and this library knows version 1" in error.message
            assert "a newer release" in error.message
    # By hand neither.
    executed(postgres_url, schema_sql())
    with connected(postgres_url) as db:
        assert db.execute("SELECT version FROM cm_platform.version").fetchall() == [(2,)]


def test_the_version_is_looked_up_once(postgres_server: PostgresServer, postgres_url: str) -> None:
    with opened("sync", postgres_url) as ledger:
        ledger.started()
    database = postgres_url.rpartition("/")[2]
    with (
        LosingProxy(postgres_server.port) as proxy,
        opened("sync", postgres_server.url_at(proxy.port, database), pool_max=1) as ledger,
    ):
        ledger.state()
        before = proxy.turns
        ledger.run(ledger.ledger.pending(SUBJECT))
        assert proxy.turns - before == 1


def test_schemas_know_nothing_of_each_other(postgres_url: str) -> None:
    with (
        opened("sync", postgres_url, table_schema="one") as one,
        opened("sync", postgres_url, table_schema="other") as other,
    ):
        one.started()
        other.run(other.ledger.prepare())
        assert other.run(other.ledger.state(SUBJECT)) is None


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("pooler", [False, True])
def test_another_default_of_isolation_does_not_open_the_fence(
    postgres_url: str, level: str, pooler: bool
) -> None:
    database = postgres_url.rpartition("/")[2]
    executed(
        postgres_url, f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'"
    )
    with opened("sync", postgres_url, pooler=pooler) as ledger:
        epoch = ledger.started()
        ledger.run(ledger.ledger.announce(SUBJECT, epoch, LONG))
        ledger.run(ledger.ledger.pause(SUBJECT, epoch, 0))
        move = move_to(Stage.LIVE)
        with connected(postgres_url) as writer:
            writer.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            writer.execute(SAY.lock.replace(b"UPDATE", b"SHARE"), NAMED)
            writer.execute(
                "INSERT INTO cm_platform.intent (id, kind, tenant, key, purpose, epoch, owner, "
                "begun_at, due_at) VALUES ('id', 'storage', 'acme', 'key', 'write', %s, 'w', "
                "clock_timestamp(), clock_timestamp())",
                [epoch],
            )
            with beside(lambda: ledger.run(ledger.ledger.move(SUBJECT, epoch, move))) as moving:
                wait_until_blocked(postgres_url, writer)
                writer.commit()
                with pytest.raises(Exception, match="no intent may be open, and 1 are"):
                    moving.result(10)
        with connected(postgres_url) as mover:
            mover.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            mover.execute(SAY.pause, {**NAMED, "epoch": epoch, "seconds": LONG})
            with beside(lambda: ledger.begin(epoch, intent())) as beginning:
                wait_until_blocked(postgres_url, mover)
                mover.commit()
                # Behind a pooler it is the database's default: an error, which may be repeated.
                with pytest.raises(UnavailableError if pooler else Fenced):
                    beginning.result(10)
        with pytest.raises(Fenced):
            ledger.begin(epoch, intent())


# Round trips


@pytest.mark.parametrize("pooler", [False, True])
def test_what_is_hot_takes_one_round_trip(
    postgres_server: PostgresServer, postgres_url: str, face: str, pooler: bool
) -> None:
    database = postgres_url.rpartition("/")[2]
    url = postgres_server.url_at
    with (
        LosingProxy(postgres_server.port) as proxy,
        opened(face, url(proxy.port, database), pool_max=1, pooler=pooler) as opened_ledger,
    ):
        run, ledger = opened_ledger.run, opened_ledger.ledger
        epoch = opened_ledger.started(lease=5)
        one, two = intent("a"), intent("b")

        def turns(coroutine: Any) -> int:
            before = proxy.turns
            run(coroutine)
            return proxy.turns - before

        def hot() -> set[int]:
            return {
                turns(ledger.state(SUBJECT)),
                turns(ledger.begin(SUBJECT, epoch, "w", [one, two], LONG)),
                turns(ledger.extend("w", [one.id, two.id], LONG)),
                turns(ledger.is_pending(SUBJECT, "a")),
                turns(ledger.pending(SUBJECT)),
                turns(ledger.leave("w", [two.id], 0)),
                turns(ledger.claim(SUBJECT, "r", LONG, 10)),
                turns(ledger.end("w", [one.id])),
                turns(ledger.end("r", [two.id])),
                turns(ledger.count(SUBJECT, {("a", "b"): 1, ("a", "c"): 2})),
                turns(ledger.note(SUBJECT, "n", {})),
                turns(ledger.skip(SUBJECT, "k", "r")),
                turns(ledger.unskip(SUBJECT, ["k"])),
                turns(ledger.pause(SUBJECT, epoch, 0)),
                turns(ledger.ping()),
            }

        rounds = [hot() for _ in range(9)]
        # Directly, each statement is prepared once, which takes a trip of its own.
        assert rounds == [{1}] * 9 if pooler else rounds[-3:] == [{1}] * 3
        assert turns(ledger.announce(SUBJECT, epoch, LONG)) == 2
        assert turns(ledger.announce(SUBJECT, epoch, LONG)) == 1
        assert turns(ledger.announce(SUBJECT, epoch, 0)) == 1
        # BEGIN, lock, look, write, COMMIT, and the time of the commit.
        assert turns(ledger.move(SUBJECT, epoch, move_to(Stage.SHADOW))) == 6
        assert turns(ledger.state(SUBJECT)) == 1


# Processes and tasks


def test_a_forked_child_has_connections_of_its_own(postgres_url: str) -> None:
    script = (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "from cm_platform.migration.ledger import Intent, Subject\n"
        "from cm_platform.migration.ledgers.postgres import BACKEND\n"
        "from cm_platform.runtime import BlockingRuntime, drive\n"
        "subject = Subject('storage', 'acme')\n"
        "config = BACKEND.config(url=sys.argv[1])\n"
        "ledger = drive(BACKEND.open(config, BlockingRuntime()))\n"
        "state = drive(ledger.state(subject))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    drive(ledger.begin(subject, state.epoch, 'w', [Intent('child', 'k')], 60))\n"
        "    drive(ledger.close())\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert drive(ledger.pending(subject)).count == 1\n"
        "drive(ledger.close())\n"
    )
    with opened("sync", postgres_url) as ledger:
        ledger.started()
        subprocess.run(  # noqa: S603 - a script of this test
            [sys.executable, "-c", script, postgres_url],
            env={**os.environ, "PYTHONPATH": SOURCE},
            check=True,
            timeout=60,
        )


def test_a_call_that_is_cancelled_leaves_its_connection_to_others(postgres_url: str) -> None:
    import asyncio

    with opened("async", postgres_url, pool_max=1) as ledger:
        epoch = ledger.started()
        with connected(postgres_url) as mover:
            mover.execute(SAY.lock, NAMED)

            async def cancelled() -> None:
                task = asyncio.create_task(
                    ledger.ledger.begin(SUBJECT, epoch, "w", [intent()], LONG)
                )
                await asyncio.to_thread(wait_until_blocked, postgres_url, mover)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await ledger.ledger.state(SUBJECT) is not None

            ledger.run(cancelled())
        assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 0


def test_many_at_once_share_a_small_pool(postgres_url: str, face: str) -> None:
    with opened(face, postgres_url, pool_max=3) as ledger:
        epoch = ledger.started()
        runtime = ledger.ledger._tables._connections._runtime

        async def written(number: int) -> None:
            one = intent(f"key {number % 7}")
            await ledger.ledger.begin(SUBJECT, epoch, "w", [one], LONG)
            await ledger.ledger.end("w", [one.id])

        ledger.run(runtime.gather([written(number) for number in range(100)], limit=20))
        ledger.run(runtime.close())
        assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 0


def test_a_restarted_migration_brings_its_own_terms(postgres_url: str, face: str) -> None:
    with opened(face, postgres_url) as ledger:
        epoch = ledger.started()
        ledger.run(ledger.ledger.move(SUBJECT, epoch, move_to(Stage.OFF)))
        terms = Terms("another", "old", "newest", lease=1.5, longest=7.25, soak=0.0)
        state = ledger.run(ledger.ledger.start(SUBJECT, terms, move_to(Stage.OFF)))
        assert (state.terms, state.epoch, state.stage) == (terms, epoch + 2, Stage.OFF)
