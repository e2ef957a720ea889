"""The own user store: what it keeps, how it is kept, and what happens when it is broken."""

from __future__ import annotations

import os
import stat

import apsw
import pytest

from mta.sasl.refusal import BackendUnavailable
from mta.sasl.saslprep import ProhibitedText
from mta.sasl.user_database import UserDatabase, UserExists, UserMissing
from mta.sasl.verifier import HASHES, ROUNDS, proves

DEMO = "demo@dev.test"


def test_the_file_is_born_closed_to_others_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        UserDatabase(tmp_path / "users.db").create(os.urandom)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "users.db").stat().st_mode) == 0o600


def test_a_file_that_is_there_is_never_made_anew(database):
    with pytest.raises(FileExistsError):
        database.create(os.urandom)
    assert database.find(DEMO) is not None


def test_a_password_leaves_three_verifiers_and_nothing_else(database):
    row = database.find(DEMO)
    assert set(HASHES) == set(row.verifiers)
    assert {ROUNDS} == {one.rounds for one in row.verifiers.values()}
    assert len({one.salt for one in row.verifiers.values()}) == 3
    assert all(proves("demo-password", one) for one in row.verifiers.values())
    assert not proves("demo-passwore", row.verifiers["sha256"])
    assert b"demo-password" not in database.path.read_bytes()


def test_users_are_listed_changed_and_deleted(database):
    before = database.find(DEMO).fingerprint
    database.change_password(DEMO, "another", now=1_700_000_100.0, random=os.urandom)
    assert database.find(DEMO).fingerprint != before
    listed = {user.name: user for user in database.users()}
    assert listed[DEMO].created_at == 1_700_000_000.0
    assert listed[DEMO].changed_at == 1_700_000_100.0
    database.delete(DEMO)
    assert database.find(DEMO) is None
    assert database.names() == {"zo\u00eb@dev.test"}
    leftover = apsw.Connection(str(database.path)).execute("SELECT count(*) FROM verifier WHERE user = ?", (DEMO,))
    assert leftover.fetchall() == [(0,)]


def test_what_cannot_be_done_changes_nothing(database):
    before = database.find(DEMO).fingerprint
    with pytest.raises(UserExists):
        database.add(DEMO, "another", now=0.0, random=os.urandom)
    with pytest.raises(UserMissing):
        database.change_password("nobody@dev.test", "another", now=0.0, random=os.urandom)
    with pytest.raises(UserMissing):
        database.delete("nobody@dev.test")
    with pytest.raises(ProhibitedText):
        database.change_password(DEMO, "bell\x07", now=0.0, random=os.urandom)
    assert database.find(DEMO).fingerprint == before


def test_the_secret_of_the_decoys_is_the_file_s_own_and_stays(database, tmp_path):
    assert database.decoy_secret() == UserDatabase(database.path).decoy_secret()
    other = UserDatabase(tmp_path / "other.db")
    other.create(os.urandom)
    assert other.decoy_secret() != database.decoy_secret()


def test_a_missing_file_is_unavailable_and_is_not_made(tmp_path):
    with pytest.raises(BackendUnavailable, match="No such file"):
        UserDatabase(tmp_path / "users.db").find(DEMO)
    assert not (tmp_path / "users.db").exists()


def test_a_file_that_others_can_read_is_refused_with_what_mends_it(database):
    database.path.chmod(0o644)
    with pytest.raises(BackendUnavailable, match=f"chmod 0640 {database.path}"):
        database.find(DEMO)


def test_a_broken_file_is_unavailable(database):
    database.path.write_bytes(b"not a database" * 100)
    with pytest.raises(BackendUnavailable):
        database.find(DEMO)


def test_a_file_broken_in_the_middle_is_unavailable(database):
    content = bytearray(database.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    database.path.write_bytes(content)
    with pytest.raises(BackendUnavailable):
        database.find(DEMO)


def test_somebody_else_s_database_is_refused(tmp_path):
    path = tmp_path / "users.db"
    path.touch(0o600)
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE verifier (user, hash, rounds, salt, stored_key, server_key)")
    connection.close()
    with pytest.raises(BackendUnavailable, match="is no user database"):
        UserDatabase(path).find(DEMO)


def test_a_database_of_a_later_version_is_refused(database):
    connection = apsw.Connection(str(database.path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BackendUnavailable, match="another version"):
        database.find(DEMO)


def test_a_locked_file_is_unavailable_and_comes_back(database):
    writer = apsw.Connection(str(database.path))
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BackendUnavailable, match="locked"):
        database.find(DEMO)
    writer.execute("COMMIT")
    assert database.find(DEMO) is not None
    writer.close()


def test_a_reader_undoes_what_a_crashed_writer_left(database):
    """A hot journal: the writer died between the journal's sync and the commit."""
    before = database.find(DEMO).fingerprint
    pid = os.fork()
    if pid == 0:  # the writer: spills its cache into the file, then dies without a word
        writer = apsw.Connection(str(database.path))
        writer.execute(
            "PRAGMA cache_spill = 1; PRAGMA cache_size = 1; BEGIN; UPDATE verifier SET stored_key = zeroblob(9000)"
        )
        os._exit(0 if os.path.exists(f"{database.path}-journal") else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert database.find(DEMO).fingerprint == before
