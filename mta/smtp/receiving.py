"""Content on its way in: DATA to its end, BDAT chunk by chunk, and the one reset of a transaction.

The part of the server's engine that deals with octets that are no commands. After a refusal the rest of the content is swallowed;
after a failed chunk nothing is taken until RSET (RFC 3030 section 2).
"""

from __future__ import annotations

from mta.mail import reply
from mta.mail.reply import Reply
from mta.smtp import events
from mta.smtp.commands import CommandError, parse_chunk
from mta.smtp.content import ChunkReader, ContentFacts, DotReader
from mta.smtp.extensions import ServerProfile
from mta.smtp.states import Mode, State
from mta.smtp.turns import Turns


class Receiving(Turns):
    """Base of ServerEngine: what belongs to a transaction, and its content."""

    __slots__ = ("_chunks", "_dots", "_facts", "_junk", "_last", "_messages", "_overshoot", "_recipients", "_state", "_swallow", "_window",
                 "normalize")  # fmt: skip

    def __init__(self, profile: ServerProfile, normalize: bool) -> None:
        super().__init__(profile)
        self.normalize = normalize
        self._state = State.START
        self._recipients = 0
        self._overshoot = 0  # recipients beyond the limit
        self._messages = 0
        self._junk = 0
        self._swallow = False  # a chunk that nobody may send now goes by
        self._dots: DotReader | None = None
        self._chunks: ChunkReader | None = None
        self._last = False
        self._facts: ContentFacts | None = None
        self._window = profile.content_window

    def grant(self, octets: int) -> None:
        """Widen the window of content by so many octets: what was given on has been dealt with."""
        self._window += octets

    def _end_transaction(self) -> None:
        """The one reset (law 10), called on every exit from a transaction."""
        if self._state >= State.MAIL:
            self._events.append(events.TransactionEnded())
            self._state = State.READY
        self._recipients = self._overshoot = 0
        self._dots = self._chunks = self._facts = None
        self._last = self._swallow = False
        self._window = self.profile.content_window

    def _new_facts(self) -> ContentFacts:
        return ContentFacts(self.profile.size_limit, self.profile.text_line_limit, self.normalize)

    def _begin_content(self) -> None:
        self._dots = DotReader()
        self._facts = self._new_facts()
        self.mode = Mode.CONTENT

    def _take_content(self) -> bool:
        """Content of DATA: blocks until CRLF.CRLF."""
        dots, facts = self._dots, self._facts
        if dots is None or facts is None or not self._input.octets:
            return False
        block, rest = dots.feed(self._input.take_all())
        self._give(facts.take(block) if block else b"")
        if rest is None:
            return True
        self._input.put_back(rest)
        self._end_of_content(facts)
        return True

    def _give(self, block: bytes) -> None:
        if block:
            self._window -= len(block)
            self._events.append(events.ContentBlock(block))

    def _end_of_content(self, facts: ContentFacts) -> None:
        self.mode = Mode.LINE
        ticket = self._open(self._after_content)
        self._events.append(events.ContentEnd(ticket, facts.size, facts.has_8bit, facts.max_line, facts.refusal))

    def _after_content(self, answer: Reply) -> None:
        if self.profile.lmtp:  # RFC 2033 section 4.2: one reply for each recipient that was accepted
            self._out.extend([answer.wire] * (self._recipients - 1))
        self._finish_content(answer.positive)
        self._say(answer)

    def _finish_content(self, accepted: bool) -> None:
        if accepted:
            self._messages += 1
            self._junk = self._strikes = 0
        self._end_transaction()

    def _bdat(self, text: str, line: bytes) -> None:
        try:
            size, last = parse_chunk(text)
        except CommandError as error:
            self._refuse_and_close(error.reply, "malformed chunk size")  # what follows can't be told apart
            return
        if size == 0 and not last:
            self._junk += 1
            if self._junk > self.profile.junk_limit:
                self._refuse_and_close(reply.TOO_MANY_ERRORS, "too many empty chunks")
                return
        if self._chunks is None:
            self._chunks = ChunkReader()
            self._facts = self._new_facts()
        self._chunks.remaining, self._last = size, last
        if self._facts is not None and self._facts.size + size > self.profile.size_limit:
            self._facts.refuse(reply.MESSAGE_TOO_BIG)
        if self._state is State.CHUNKING:
            self.mode = Mode.CHUNK
        else:
            self._events.append(events.Data(self._open(self._after_first_bdat), chunked=True))

    def _after_first_bdat(self, answer: Reply) -> None:
        self.mode = Mode.CHUNK
        self._state = State.CHUNKING
        if answer.code != 354 and self._facts is not None:
            self._facts.refuse(answer)

    def _swallow_chunk(self, argument: bytes, refusal: Reply, line: bytes) -> None:
        """A chunk nobody may send now: its octets must go by before the refusal means anything to the client."""
        try:
            size, last = parse_chunk(argument.decode("ascii", "replace"))
        except CommandError as error:
            self._refuse_and_close(error.reply, "malformed chunk size")
            return
        self._events.append(events.Refused(refusal, line))
        self._facts = self._new_facts()
        self._facts.refuse(refusal)
        self._chunks = ChunkReader()
        self._chunks.remaining, self._last, self._swallow = size, last, True
        self.mode = Mode.CHUNK

    def _take_chunk(self) -> bool:
        chunks, facts = self._chunks, self._facts
        if chunks is None or facts is None:
            return False
        if chunks.remaining:
            if not self._input.octets:
                return False
            block = chunks.feed(self._input.take_some(chunks.remaining))
            if block:
                self._give(facts.take(block))
        if not chunks.remaining:
            self._end_of_chunk(chunks, facts)
        return True

    def _end_of_chunk(self, chunks: ChunkReader, facts: ContentFacts) -> None:
        self.mode = Mode.LINE
        if self._swallow:
            refusal = facts.refusal or reply.CHUNK_FAILED
            self._swallow, self._chunks, self._facts = False, None, None
            self._say(refusal)
        elif self._last:
            rest = chunks.finish()
            if rest and facts.refusal is None:
                self._give(facts.take(rest))
            self._end_of_content(facts)
        elif facts.refusal is not None:
            self._state = State.BROKEN
            self._chunks, self._facts = None, None
            self._say(facts.refusal)
        else:
            self._say(reply.CHUNK_OK)
