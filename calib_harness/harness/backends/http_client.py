"""Asking a server: what may pass is tried again, what cannot pass is one sentence at once."""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from calib_harness.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# Longest part of a server's own words in a message.
_QUOTED = 200

# Seconds between tries: doubled each time, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


# No proxy of the environment reaches a server on this machine.
_DIRECTLY: Any = {"http": None, "https": None, "all": None}


class _PassingError(Exception):
    """What may pass: a time-out, an answer cut off, 429 or 5xx, a server that restarts."""


class RefusedError(UserError):
    """A server refuses a request, and would again: `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Posts JSON to one server from several threads.

    Parameters
    ----------
    url : str
    headers : mapping
    timeout : float
        Seconds for one answer.
    tries : int
        How often one request is made at most.
    verify : bool or str
        Whether certificates are checked, or the file of those to trust.
    first_wait : float
        Seconds before the second try; each wait after it is twice as long.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = 300.0,
        tries: int = 3,
        verify: bool | str = True,
        first_wait: float = _FIRST_WAIT,
    ) -> None:
        self.url = url
        self._headers, self._timeout, self._verify = headers or {}, timeout, verify
        self._tries, self._first_wait = max(1, tries), first_wait
        self._local = threading.local()

    def post(self, payload: dict[str, Any], url: str | None = None) -> Any:
        """Return a server's JSON answer.

        Raises
        ------
        RefusedError
            If the server refuses the request, at once.
        UserError
            If it does not answer it in all tries.
        """
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_PassingError),
                stop=stop_after_attempt(self._tries),
                wait=wait_exponential(multiplier=self._first_wait, max=_LONGEST_WAIT)
                + wait_random(0, self._first_wait),
                before_sleep=self._say,
                reraise=True,
            ):
                with attempt:
                    return self._post_once(payload, url or self.url)
        except _PassingError as error:
            raise UserError(
                f"base_url: {url or self.url} {error}, {self._tries} times in a row; what was "
                "scored is in the cache if one is used (use_cache): start the server again and run "
                "the same command"
            ) from None
        raise AssertionError("a retry either returns or raises")

    def _post_once(self, payload: dict[str, Any], url: str) -> Any:
        try:
            response = self._session().post(
                url,
                json=payload,
                headers=self._headers,
                timeout=self._timeout,
                verify=self._verify,
                proxies=_DIRECTLY if _is_here(url) else None,
            )
        except requests.Timeout:
            raise _PassingError(f"gave no answer within {self._timeout:g} s") from None
        except requests.exceptions.ProxyError as error:
            proxy = select_proxy(url, get_environ_proxies(url))
            raise _PassingError(
                f"cannot be reached through the proxy {proxy} that the environment names "
                f"({_reason(error)}); where it needs none, add its host to no_proxy"
            ) from None
        except requests.ConnectionError as error:
            raise _PassingError(f"cannot be reached ({_reason(error)})") from None
        except requests.exceptions.ChunkedEncodingError:
            raise _PassingError("broke off in the middle of an answer") from None
        except requests.RequestException as error:
            raise UserError(f"base_url: {url} cannot be asked: {_one_line(error)}") from None
        if response.status_code == 429 or response.status_code >= 500:
            raise _PassingError(f"answered {response.status_code} ({_quote(response)})")
        if not response.ok:
            raise RefusedError(
                response.status_code,
                f"base_url: {url} refused a request with {response.status_code}: "
                f"{_quote(response)}{_hint(response.status_code)}",
            )
        try:
            return response.json()
        except ValueError:
            raise _PassingError(
                f"answered with what is no JSON ({_one_line(response.text)!r})"
            ) from None

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session

    def _say(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "%s %s; trying again in %.1f s.",
            self.url,
            error,
            state.next_action.sleep if state.next_action else 0.0,
        )


def each_as_it_comes(
    ask: Callable[[T], R], items: Iterable[T], *, concurrent: int
) -> Iterator[tuple[T, R]]:
    """Ask for items from several threads; yield each with its answer as soon as it is there.

    When one fails, or the caller stops, nothing new is asked; what is under way is yielded first
    if it succeeds, so that no answer is lost.
    """
    todo = iter(items)
    with ThreadPoolExecutor(max_workers=max(1, concurrent)) as pool:
        running = {pool.submit(ask, item): item for item in islice(todo, max(1, concurrent))}
        failure: BaseException | None = None
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                item = running.pop(future)
                error = future.exception()
                failure = failure or error
                if error is None:
                    if failure is None:
                        running.update({pool.submit(ask, new): new for new in islice(todo, 1)})
                    yield item, future.result()
    if failure is not None:
        raise failure


def _is_here(url: str) -> bool:
    """Say whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _hint(status: int) -> str:
    if status in (401, 403):
        return "; set OPENAI_API_KEY (or header in the model's arguments) to a key it accepts"
    if status == 404:
        return "; look at model and base_url in the model's arguments: both must be the server's"
    return ""


def _quote(response: requests.Response) -> str:
    """Return the server's own words, taken out of the usual JSON around them."""
    try:
        said = json.loads(response.text)
    except ValueError:
        return _one_line(response.text) or "it says nothing more"
    error = said.get("error", said) if isinstance(said, dict) else said
    words = error.get("message", error) if isinstance(error, dict) else error
    return _one_line(words)


def _one_line(words: object) -> str:
    text = " ".join(str(words).split())
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _reason(error: requests.ConnectionError) -> str:
    text = str(error)
    for sign in ("Connection refused", "Connection reset", "Remote end closed", "Name or service"):
        if sign in text:
            return sign.lower()
    return _one_line(text)
