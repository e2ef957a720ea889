"""The agents of the way out: one set for all shards, so that connections are shared; a body lies in its message's shard."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mta.config.model import Configuration
from mta.delivery.agent import Agents
from mta.delivery.maildir import MaildirAgent, ReactorThreads, Threads
from mta.delivery.maildir_files import MaildirFiles
from mta.delivery.options import OptionsInForce
from mta.delivery.rules import DiscardAgent, ErrorAgent
from mta.delivery.smtp import SmtpAgent
from mta.dns.resolver import Resolver
from mta.mail.envelope import BodyFile, Message
from mta.mail.identifiers import shard_of
from mta.spool.contract import Spool
from mta.tls.client import ClientContexts


def make_agents(
    reactor: Any,
    spools: Sequence[Spool],
    configuration: Callable[[], Configuration],
    contexts: ClientContexts,
    resolver: Resolver,
    *,
    now: Callable[[], float],
    random: random.Random,
    threads: Threads | None = None,
    addresses: Callable[[], frozenset[str]] = frozenset,
) -> Agents:
    """`configuration` gives the one in force. `addresses` gives this host's own, so that an MX can't send mail back to us.

    `random` also makes nonces for logins: outside tests it must be unguessable (SystemRandom).

    `threads` do the file work of mailboxes; None: a few of their own.
    """
    by_shard = {spool.shard: spool for spool in spools}

    def body_path(message: Message, body: BodyFile) -> Path:
        return by_shard[shard_of(message.id)].body_path(body)

    def nonce() -> str:
        return f"{random.getrandbits(144):036x}"

    def renewed(new: Configuration) -> None:
        contexts.reload(new.outbound.authorities)

    smtp = SmtpAgent(
        reactor,
        resolver=resolver,
        random=random,
        now=now,
        options=OptionsInForce(configuration, nonce, addresses, renewed),
        body_path=body_path,
        tls=contexts.context_factory,
    )
    maildir = MaildirAgent(MaildirFiles(configuration().hostname, now), threads or ReactorThreads(reactor), body_path)
    return Agents(
        {"smtp": smtp, "smtps": smtp, "mx": smtp, "maildir": maildir, "discard": DiscardAgent(), "error": ErrorAgent()}
    )
