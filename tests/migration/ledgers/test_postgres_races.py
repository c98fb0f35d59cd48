"""The fence's race on a real Postgres, with two connections interleaved by hand.

A ledger that is modelled as linearizable cannot show it: between the insert of an intent and its
commit, nobody else sees the intent.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from cm_platform.errors import UnavailableError
from cm_platform.migration.ledger import Busy, Fenced, Intent
from cm_platform.routing import Stage
from cm_platform.testing.servers import PostgresServer

from .postgres_ledgers import (
    FACES,
    NAMED,
    SAY,
    SUBJECT,
    LosingProxy,
    Opened,
    begun,
    beside,
    connected,
    entered,
    eventually,
    intent,
    move_to,
    opened,
    wait_until_blocked,
)


@pytest.fixture(params=FACES)
def ledger(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Opened]:
    with opened(request.param, postgres_url) as ledger:
        yield ledger


@pytest.fixture
def writer(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection that begins an intent, and commits when the test says so."""
    with connected(postgres_url) as db:
        yield db


def epochs(url: str) -> list[int]:
    """Those under which the intents were begun."""
    with connected(url, autocommit=True) as db:
        return [epoch for (epoch,) in db.execute("SELECT epoch FROM cm_platform.intent")]


# Without the lock


def test_without_the_lock_an_intent_of_the_old_epoch_is_committed_after_the_flip(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    assert SAY.begin.count(b"FOR SHARE") == 1
    naive = SAY.begin.replace(b"FOR SHARE", b"")
    assert writer.execute(naive, begun(epoch, intent())).fetchall() == [(1,)]
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 60))
    ledger.run(ledger.ledger.pause(SUBJECT, epoch, 60))
    assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 0
    flipped = ledger.run(ledger.ledger.move(SUBJECT, epoch, move_to(Stage.LIVE)))
    writer.commit()
    assert epochs(postgres_url) == [epoch]
    assert flipped.epoch > epoch
    assert ledger.state().authority == "target"


# With it, begun first


def test_a_pause_waits_for_an_intent_that_is_being_recorded_and_sees_it(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 60))
    assert writer.execute(SAY.begin, begun(epoch, intent())).fetchall() == [(1,)]
    with beside(lambda: ledger.run(ledger.ledger.pause(SUBJECT, epoch, 60))) as pausing:
        wait_until_blocked(postgres_url, writer)
        assert not pausing.done()
        writer.commit()
        pausing.result(10)
    assert ledger.run(ledger.ledger.pending(SUBJECT)).count == 1
    with pytest.raises(Busy, match="no intent may be open, and 1 are"):
        ledger.run(ledger.ledger.move(SUBJECT, epoch, move_to(Stage.LIVE)))


def test_a_move_waits_for_an_intent_that_is_being_recorded_and_counts_it(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 60))
    assert writer.execute(SAY.begin, begun(epoch, intent())).fetchall() == [(1,)]
    move = move_to(Stage.LIVE)
    with beside(lambda: ledger.run(ledger.ledger.move(SUBJECT, epoch, move))) as moving:
        wait_until_blocked(postgres_url, writer)
        # The move's first statement waits. A count in that statement would be from before.
        writer.commit()
        with pytest.raises(Busy, match="no intent may be open, and 1 are"):
            moving.result(10)


def test_an_intent_that_was_not_committed_is_in_nobodys_way(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 60))
    writer.execute(SAY.begin, begun(epoch, intent()))
    with beside(lambda: ledger.run(ledger.ledger.pause(SUBJECT, epoch, 60))) as pausing:
        wait_until_blocked(postgres_url, writer)
        writer.rollback()
        pausing.result(10)
    assert ledger.run(ledger.ledger.move(SUBJECT, epoch, move_to(Stage.LIVE))).epoch == epoch + 1


# With it, begun last


@pytest.mark.parametrize("act", ["pause", "move"])
def test_an_intent_waits_for_what_is_being_committed_and_is_refused(
    postgres_url: str, ledger: Opened, act: str
) -> None:
    epoch = ledger.started()
    with connected(postgres_url) as mover:
        if act == "pause":
            mover.execute(SAY.pause, {**NAMED, "epoch": epoch, "seconds": 60.0})
        else:
            mover.execute(SAY.enter, entered(ledger.state(), Stage.SHADOW))
        with beside(lambda: ledger.begin(epoch, intent("a"), intent("b"))) as beginning:
            wait_until_blocked(postgres_url, mover)
            assert not beginning.done()
            mover.commit()
            with pytest.raises(Fenced):
                beginning.result(10)
    assert epochs(postgres_url) == []


@pytest.mark.parametrize("act", ["pause", "move"])
def test_an_intent_begins_when_what_it_waited_for_is_undone(
    postgres_url: str, ledger: Opened, act: str
) -> None:
    epoch = ledger.started()
    with connected(postgres_url) as mover:
        if act == "pause":
            mover.execute(SAY.pause, {**NAMED, "epoch": epoch, "seconds": 60.0})
        else:
            mover.execute(SAY.enter, entered(ledger.state(), Stage.SHADOW))
        with beside(lambda: ledger.begin(epoch, intent("a"), intent("b"))) as beginning:
            wait_until_blocked(postgres_url, mover)
            mover.rollback()
            beginning.result(10)
    assert epochs(postgres_url) == [epoch, epoch]


def test_intents_do_not_wait_for_each_other(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    writer.execute(SAY.begin, begun(epoch, intent()))
    ledger.begin(epoch, intent("another"))
    writer.commit()
    assert epochs(postgres_url) == [epoch, epoch]


def test_of_two_moves_one_is_fenced(postgres_url: str, ledger: Opened) -> None:
    epoch = ledger.started()
    before = ledger.state()
    with connected(postgres_url) as mover:
        mover.execute(SAY.lock, NAMED)
        move = move_to(Stage.SHADOW)
        with beside(lambda: ledger.run(ledger.ledger.move(SUBJECT, epoch, move))) as moving:
            wait_until_blocked(postgres_url, mover)
            mover.execute(SAY.enter, entered(before, Stage.SHADOW))
            mover.commit()
            with pytest.raises(Fenced):
                moving.result(10)
    assert [line.epoch for line in ledger.run(ledger.ledger.log(SUBJECT))] == [1, 2, 3]


def test_whoever_claims_passes_over_what_another_is_claiming(
    postgres_url: str, ledger: Opened
) -> None:
    epoch = ledger.started()
    wanted = [intent("a"), intent("b")]
    ledger.run(ledger.ledger.begin(SUBJECT, epoch, "writer", wanted, 0))
    named = {**NAMED, "owner": "repairer", "seconds": 60.0}
    with connected(postgres_url) as repairer:
        assert len(repairer.execute(SAY.claim, {**named, "limit": 1}).fetchall()) == 1
        assert ledger.run(ledger.ledger.claim(SUBJECT, "another", 60, 10)) == wanted[1:]
        repairer.commit()
    assert ledger.run(ledger.ledger.claim(SUBJECT, "another", 60, 10)) == []


# Time


def test_a_stages_age_counts_from_its_commit(postgres_url: str, ledger: Opened) -> None:
    ledger.started()
    with connected(postgres_url) as mover:
        mover.execute(SAY.enter, entered(ledger.state(), Stage.SHADOW))
        mover.execute("SELECT pg_sleep(0.5)")
        mover.commit()
    assert ledger.state().stage is Stage.SHADOW
    assert ledger.state().age < 0.5
    eventually(lambda: ledger.state().age > 0)


def test_an_announcement_counts_from_its_commit(postgres_url: str, ledger: Opened) -> None:
    lease = 0.4
    epoch = ledger.started(lease=lease)
    named = {**NAMED, "epoch": epoch, "seconds": 60.0}
    with connected(postgres_url) as mover:
        assert mover.execute(SAY.announce, named).fetchall() == [(True,)]
        mover.execute("SELECT pg_sleep(0.5)")
        assert ledger.state().lease == lease, "nobody can know it yet"
        mover.commit()
    ledger.run(ledger.ledger.pause(SUBJECT, epoch, 60))
    move = move_to(Stage.LIVE)
    with pytest.raises(Busy, match="announced"):
        ledger.run(ledger.ledger.move(SUBJECT, epoch, move))
    # Whoever announces again makes it count; of its own time nothing is known.
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 60))
    with pytest.raises(Busy, match="announced"):
        ledger.run(ledger.ledger.move(SUBJECT, epoch, move))

    def moves() -> bool:
        try:
            ledger.run(ledger.ledger.move(SUBJECT, epoch, move))
        except Busy:
            return False
        return True

    eventually(moves)


def test_an_announcement_that_is_over_lends_nothing_while_a_flip_is_being_committed(
    postgres_url: str, ledger: Opened
) -> None:
    lease = 0.01
    epoch = ledger.started(lease=lease)
    ledger.run(ledger.ledger.announce(SUBJECT, epoch, 0.05))
    before = ledger.state()
    assert before.lease == 0
    with connected(postgres_url) as mover:
        # The flip found it in force, and takes long to be committed.
        mover.execute(SAY.enter, entered(before, Stage.LIVE))
        mover.execute("SELECT pg_sleep(0.1)")
        with beside(ledger.state) as asking:
            wait_until_blocked(postgres_url, mover)
            mover.commit()
            answer = asking.result(10)
    assert answer.epoch > epoch or answer.lease == 0
    assert (ledger.state().epoch, ledger.state().lease) == (epoch + 1, lease)


# Answers that are lost


@pytest.mark.parametrize("face", FACES)
def test_an_intent_whose_answer_was_lost_is_begun_again_without_harm(
    postgres_server: PostgresServer, postgres_url: str, face: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    with (
        LosingProxy(postgres_server.port) as proxy,
        opened(face, postgres_server.url_at(proxy.port, database)) as ledger,
    ):
        epoch = ledger.started()
        wanted = [intent("a"), intent("b")]
        proxy.loses.set()
        with pytest.raises(UnavailableError, match="before the answer was complete") as caught:
            ledger.begin(epoch, *wanted)
        assert not proxy.loses.is_set()
        assert (caught.value.retryable, caught.value.not_sent) == (True, False)
        assert epochs(postgres_url) == [epoch, epoch], "it was committed"
        ledger.begin(epoch, *wanted)
        assert epochs(postgres_url) == [epoch, epoch]
        ledger.run(ledger.ledger.end("writer", [one.id for one in wanted]))
        assert epochs(postgres_url) == []


def test_an_intent_whose_connection_was_killed_is_not_there_and_begins_again(
    postgres_url: str, ledger: Opened
) -> None:
    epoch = ledger.started()
    one = intent()
    with connected(postgres_url) as mover, connected(postgres_url, autocommit=True) as killer:
        mover.execute(SAY.lock, NAMED)
        with beside(lambda: ledger.begin(epoch, one)) as beginning:
            wait_until_blocked(postgres_url, mover)
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE %s = ANY(pg_blocking_pids(pid))",
                [mover.info.backend_pid],
            )
            with pytest.raises(UnavailableError) as caught:
                beginning.result(10)
        assert (caught.value.retryable, caught.value.not_sent) == (True, False)
    assert epochs(postgres_url) == []
    ledger.begin(epoch, one)
    assert epochs(postgres_url) == [epoch]


def test_an_intent_that_was_sent_twice_at_once_is_one(
    postgres_url: str, ledger: Opened, writer: psycopg.Connection
) -> None:
    epoch = ledger.started()
    one = intent()
    # The first is not committed yet when the second comes, and so cannot be seen by it.
    writer.execute(SAY.begin, begun(epoch, one))
    with beside(lambda: ledger.begin(epoch, one)) as beginning:
        wait_until_blocked(postgres_url, writer)
        writer.commit()
        beginning.result(10)
    assert epochs(postgres_url) == [epoch]


def test_an_intent_that_was_claimed_meanwhile_does_not_begin_again(
    postgres_url: str, ledger: Opened
) -> None:
    epoch = ledger.started()
    lost = intent("a")
    ledger.run(ledger.ledger.begin(SUBJECT, epoch, "writer", [lost], 0))
    claimed = ledger.run(ledger.ledger.claim(SUBJECT, "repairer", 60, 10))
    assert claimed == [lost]
    with pytest.raises(Fenced, match="somebody else's"):
        ledger.begin(epoch, intent("b"), Intent(lost.id, lost.key))
    assert epochs(postgres_url) == [epoch], "all or none"
