"""Requests to an OpenAI-compatible server: address and key, a deadline, further tries, and the form of its answers.

httpx speaks HTTP and pydantic checks what comes back. The package `openai` would add little: its time limits lie
between two bytes, so that a server that drips holds a request for ever, and it does not check the types of an answer.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: Environment variable with the server's key.
KEY_VARIABLE = "OPENAI_API_KEY"
#: Seconds before the second, third, … try.
PAUSES = (1.0, 2.0, 4.0, 8.0)
#: Seconds for one request with all its tries, the server's queue included.
DEADLINE = 300.0
#: Seconds for the list of models, which no queue holds up.
_LIST_DEADLINE = 30.0
_CONNECT_TIMEOUT = 10.0
#: Most bytes of an answer.
_MOST_BYTES = 2**26
#: Answers that may be another one a little later.
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_Form = TypeVar("_Form", bound=BaseModel)


class RefusedError(Exception):
    """The server answered, and the answer is of no use."""


class UnreachableError(Exception):
    """The server did not answer in time."""


class _Answered(BaseModel):
    model_config = ConfigDict(strict=True)


class Choice(_Answered):
    """One response."""

    text: str
    finish_reason: str | None = None
    #: The sampled tokens, from a server that returns them.
    token_ids: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None


class Usage(_Answered):
    """What the server counted."""

    completion_tokens: int


class Completion(_Answered):
    """The answer to a prompt."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


class ServedModel(_Answered):
    """A model that the server has."""

    id: str
    root: str | None = None
    #: Most tokens of prompt and response together.
    max_model_len: Annotated[int, Field(ge=1)] | None = None


class _ModelList(_Answered):
    data: list[ServedModel]


class _Reply(NamedTuple):
    status: int
    phrase: str
    headers: Mapping[str, str]
    content: bytes


class Server:
    """A server at one address.

    Args:
        endpoint: the address, with or without `/v1`. A user and password in it are used and never shown; without
            them the key comes from `KEY_VARIABLE`.
        deadline: seconds for one request, all tries together.
        pauses: seconds before each further try; a longer `Retry-After` of the server's is honoured.

    Raises:
        ValueError: that is no address, or the key is none.

    Attributes:
        url: The address, `/v1` included, without user and password.
    """

    def __init__(self, endpoint: str, *, deadline: float = DEADLINE, pauses: Sequence[float] = PAUSES) -> None:
        address = _address(endpoint)
        self.url = str(address.copy_with(userinfo=b"")).rstrip("/").removesuffix("/v1") + "/v1"
        self._deadline, self._pauses = deadline, tuple(pauses)
        key = _key()
        self._secrets = [secret for secret in (key, address.password) if secret]
        self._client = httpx.AsyncClient(
            auth=httpx.BasicAuth(address.username, address.password) if address.userinfo else None,
            headers={"Authorization": f"Bearer {key}"} if key and not address.userinfo else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=None),
        )

    async def models(self) -> list[ServedModel]:
        """Ask which models the server has.

        Raises:
            ValueError: it does not say; the message says what to do.
        """
        try:
            reply = await asyncio.wait_for(self._send("GET", "/models"), min(_LIST_DEADLINE, self._deadline))
            if reply.status in (401, 403):
                raise ValueError(
                    f"--endpoint {self.url}: the server refuses the key ({reply.status}); put the right one into the "
                    f"environment variable {KEY_VARIABLE}"
                )
            if not 200 <= reply.status < 300:
                raise ValueError(
                    f"--endpoint {self.url}: /models answers {self._told(reply)}; is this an OpenAI-compatible server?"
                )
            return self._parsed(reply, _ModelList, "a list of models").data
        except (TimeoutError, httpx.HTTPError) as error:
            raise ValueError(
                f"--endpoint {self.url}: no server answers ({_words(error)}); start one with 'vllm serve MODEL', or "
                "correct the address"
            ) from error
        except RefusedError as error:
            raise ValueError(f"--endpoint {error}; is this an OpenAI-compatible server?") from error

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Send a prompt, again if the server is away for a moment.

        Raises:
            RefusedError: the server refuses the prompt, or answers something else than a completion.
            UnreachableError: it does not answer within the deadline.
        """
        end = time.monotonic() + self._deadline
        pauses = iter(self._pauses)
        while True:
            wanted = 0.0
            try:
                reply = await asyncio.wait_for(self._send("POST", "/completions", body), end - time.monotonic())
            except TimeoutError:
                raise UnreachableError(
                    f"{self.url} has not answered a request in full within {self._deadline:g} s: look at the server; "
                    "if it is only slow, give it longer with --timeout or fewer requests with --batch-size"
                ) from None
            except httpx.HTTPError as error:
                problem = f"{self.url} does not answer ({_words(error)})"
            else:
                if reply.status not in _TRANSIENT:
                    return self._completion(reply)
                problem, wanted = f"{self.url} answers {self._told(reply)}", _retry_after(reply)
            pause = next(pauses, None)
            if pause is None:
                raise UnreachableError(f"{problem} (asked {len(self._pauses) + 1} times)")
            pause = max(pause, wanted)
            if time.monotonic() + pause >= end:
                raise UnreachableError(
                    f"{problem}; the next try is due in {pause:g} s, after the {self._deadline:g} s for a request "
                    "(--timeout)"
                )
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> _Reply:
        """Send one request and read the whole answer; the caller limits the time."""
        content = bytearray()
        async with self._client.stream(method, f"{self.url}{path}", json=body) as response:
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise RefusedError(f"{self.url}: {path} answers more than {_MOST_BYTES >> 20} MiB")
        return _Reply(response.status_code, response.reason_phrase, response.headers, bytes(content))

    def _completion(self, reply: _Reply) -> Completion:
        if not 200 <= reply.status < 300:
            raise RefusedError(f"{self.url} refuses a prompt: {self._told(reply)}")
        return self._parsed(reply, Completion, "a completion")

    def _parsed(self, reply: _Reply, form: type[_Form], name: str) -> _Form:
        try:
            return form.model_validate_json(reply.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            problem = f"{place}: {first['msg']}" if place else first["msg"]
            raise RefusedError(
                f"{self.url} answers something else than {name} ({problem}): {self._text(reply)[:200]!r}"
            ) from error

    def _told(self, reply: _Reply) -> str:
        """What an error answer says."""
        return f"{reply.status} {reply.phrase}: {' '.join(self._text(reply).split())[:300]}"

    def _text(self, reply: _Reply) -> str:
        """The answer's text without what must not be shown: servers quote the key that they refuse."""
        text = reply.content.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _address(endpoint: str) -> httpx.URL:
    """Take an address apart. What stands before an @ is no part of any message."""
    shown = endpoint.rpartition("@")[2]
    try:
        url = httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise ValueError(f"--endpoint {shown!r} is no address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 2**16:
        raise ValueError(f"--endpoint {shown!r} is no address such as http://localhost:8000")
    if url.query or url.fragment:
        raise ValueError(
            f"--endpoint {shown.partition('?')[0].partition('#')[0]!r}: leave out what follows '?' or '#'; a key goes "
            f"into the environment variable {KEY_VARIABLE}"
        )
    return url


def _key() -> str:
    """The key in the environment, empty if there is none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the environment variable {KEY_VARIABLE} holds characters that a key cannot have")
    return key


def _retry_after(reply: _Reply) -> float:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: a number or a date), 0 if it does not say."""
    value = reply.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return seconds if seconds > 0 else 0.0


def _words(error: Exception) -> str:
    return str(error) or ("it takes too long" if isinstance(error, asyncio.TimeoutError) else type(error).__name__)
