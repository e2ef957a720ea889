"""What one listener's sessions have in common, made once from the configuration: profile, greeting, TLS, mechanisms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.config import kinds, model
from mta.mail.reply import Reply
from mta.sasl.authenticator import Authenticator
from mta.smtp.extensions import ServerProfile

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator


@dataclass(frozen=True, slots=True)
class Listener:
    """Immutable: a reload makes a new one, and sessions that are open keep theirs."""

    name: str
    submission: bool
    implicit_tls: bool
    profile: ServerProfile
    greeting: Reply
    helo_reply: Reply
    authenticator: Authenticator | None
    tls: IOpenSSLServerConnectionCreator | None
    limits: model.Limits
    handshake_timeout: float
    auth_failures: int
    normalize_networks: tuple[kinds.Network, ...]

    def mechanisms(self, *, over_tls: bool) -> tuple[str, ...]:
        """What EHLO announces in this TLS state."""
        return self.authenticator.offered(tls=over_tls) if self.authenticator is not None else ()


def make_listener(
    section: model.Listener,
    configuration: model.Configuration,
    *,
    authenticator: Authenticator | None,
    tls: IOpenSSLServerConnectionCreator | None,
) -> Listener:
    """`tls` None: no certificate is configured, or the section says none."""
    limits = configuration.limits
    submission = section.kind == "submission"
    offers_auth = section.auth if section.auth is not None else submission
    profile = ServerProfile(
        hostname=configuration.hostname,
        size_limit=section.size_limit or limits.message_size,
        header_limit=limits.header_size,
        command_line_limit=limits.command_line,
        text_line_limit=limits.submission_text_line if submission else limits.text_line,
        recipients_limit=limits.recipients,
        messages_limit=limits.messages,
        soft_errors=limits.soft_errors,
        hard_errors=limits.hard_errors,
        junk_limit=limits.junk_commands,
        normalize=section.bare_newline == "normalize",
        starttls=section.tls == "starttls" and tls is not None,
        auth=offers_auth and authenticator is not None,
    )
    return Listener(
        name=section.name,
        submission=submission,
        implicit_tls=section.tls == "implicit",
        profile=profile,
        greeting=Reply(220, "", f"{configuration.hostname} ESMTP"),
        helo_reply=Reply(250, "", configuration.hostname),
        authenticator=authenticator if profile.auth else None,
        tls=tls if section.tls != "none" else None,
        limits=limits,
        handshake_timeout=configuration.tls.handshake_timeout,
        auth_failures=configuration.auth.failures_per_session,
        normalize_networks=tuple(section.normalize_networks),
    )
