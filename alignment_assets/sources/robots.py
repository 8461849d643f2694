"""What a file that was found as robots.txt says: which agents it keeps out, and other signals.

Groups and product tokens are read here, because a token has to match exactly (RFC 9309, 2.2.1).
Paths are protego's to judge.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from protego import Protego

ANY = "*"

_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060\u00ad]")
_UNSEEN = " \t\v\f\u00a0\ufeff\u200b"
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_MARKUP = re.compile(
    r"<(!doctype|html|head|body|title|\?xml|pre|div|p|h\d|center|script|meta|table)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[a-z0-9_-]+")
_TOKEN_OF_THE_RFC = re.compile(r"[a-z_-]+")
_BETWEEN_AGENTS = re.compile(r"[\s,;|]+")
_IN_BRACKETS = re.compile(r"\(.*?(\)|$)")
_WITHOUT_COLON = re.compile(
    r"(user[-_ ]?agent)\s+(.*)|(allow|diss?all?ow)\s+([/*].*)", re.IGNORECASE
)
_ENCODED_SLASH = re.compile("^%2f", re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_PREFERENCE = re.compile(r"([a-z][a-z_-]*)\s*[=:]\s*[\"'?]*([a-z0-9]+)", re.IGNORECASE)

# Names of lines without blanks, dashes and underscores; the misspellings are protego's.
_DISALLOW = {"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"}
_SIGNALS = {"contentsignal", "contentusage"}
_LICENCES = {"license", "licence"}
# Lines by which a site keeps a path, or all, from training, with no more to say.
_RESERVATIONS = {"disallowaitraining", "tdmreservation"}
# A longer signal is not looked into: it refuses.
SIGNAL_CHARACTERS = 2000
# Any of these makes a text a robots.txt.
_OTHERS = {"useragent", "useragents", "allow", "sitemap", "sitemaps", "crawldelay"}
_TELLING = _DISALLOW | _SIGNALS | _LICENCES | _OTHERS | _RESERVATIONS

# Preferences about training. What is said of all machines holds for training unless more is said.
_TRAINING = ("ai-train", "train-ai", "train-genai")
_MACHINES = ("bots", "all", "ai", "genai", "train")
_NO = {
    *("n", "no", "0", "false", "none", "never", "off", "disallow", "disallowed", "deny", "denied"),
    *("forbid", "forbidden", "refuse", "refused", "reserved"),
}
_BLANK, _OTHER = "", "?"


@dataclass(eq=False)
class _Group:
    """What the lines of one agent's groups say together; signals are paths and what is said."""

    rules: list[tuple[str, str]] = field(default_factory=list)
    signals: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def paths(self) -> Protego:
        """The rules as one group for everybody."""
        return _paths(self.rules)


@dataclass(frozen=True)
class Robots:
    """A robots.txt, its groups put together by product token."""

    groups: dict[str, _Group]
    signals: tuple[tuple[str, str], ...]
    licence: str | None

    def forbids(self, agent: str, *urls: str) -> bool:
        """Return whether an agent may not fetch one of some pages of the site."""
        group = self._group(agent)
        return group is not None and not all(group.paths.can_fetch(url, ANY) for url in urls)

    def refusal(self, agent: str, *urls: str) -> str | None:
        """Return the preference by which the site refuses training on one of some pages.

        Those count that stand in the groups that hold for the agent, and outside of all groups.
        """
        group = self._group(agent)
        signals = [*self.signals, *(group.signals if group else ())]
        return _refused(said for path, said in signals if _concerns(path, urls))

    def _group(self, agent: str) -> _Group | None:
        token = ANY if agent.strip() == ANY else next(iter(tokens_of(agent)), "")
        return self.groups.get(token, self.groups.get(ANY))


def tokens_of(line: str) -> list[str]:
    """Return the product tokens that the value of a ``User-agent`` line names, in lower case.

    Each is cut at a comma, slash, blank or parenthesis. Digits belong to a token (AI2Bot has one),
    though not to those of RFC 9309; what stands there without them is a token as well. Of a
    browser's whole identification (``Mozilla/5.0 (compatible; …)``) each word may be one.
    """
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", _INVISIBLE.sub("", line))).lower()
    if text.strip().startswith("mozilla/"):
        return list(dict.fromkeys(_TOKEN.findall(text)))
    found: dict[str, None] = {}
    for word in _BETWEEN_AGENTS.split(_IN_BRACKETS.sub(" ", text)):
        piece = word.strip("\"'`<>[]")
        name = piece.partition("/")[0]
        if name and not name.strip("*"):
            found[ANY] = None
            continue
        for pattern in (_TOKEN, _TOKEN_OF_THE_RFC):
            if token := pattern.match(piece.lstrip("*/")):
                found[token.group()] = None
    return list(found)


def read_robots(content: bytes | str | None, content_type: str | None = None) -> Robots | None:
    """Return what a snapshot says; None if it is no robots.txt.

    That is HTML, an answer in other words, and what is no text. UTF-16 and UTF-32 are decoded if a
    byte order mark says so. A file of blanks and comments is a robots.txt without a rule, unless it
    was sent as something other than text.
    """
    text = _text(content)
    if text is None or "\x00" in text:
        return None
    lines = [line.strip(_UNSEEN) for line in _LINE_END.split(text)]
    said = [line for line in lines if line and not line.startswith("#")]
    if said and _MARKUP.match(said[0]):
        return None
    kind = (content_type or "text/plain").partition(";")[0].strip().lower()
    parsed = [_directive(line) for line in lines]
    if not any(name in _TELLING for name, _ in parsed) and (said or kind != "text/plain"):
        return None
    has_rules = any(name == "allow" or name in _DISALLOW for name, _ in parsed)
    forbids = any(name in _DISALLOW for name, _ in parsed)
    # A page, some lines of which look like those of a robots.txt, admits nobody.
    if not has_rules and any(":" not in line and _directive(line)[0] == _OTHER for line in said):
        return None
    if not forbids and any(_MARKUP.match(line) for line in said):
        return None
    return _grouped(parsed)


def _text(content: bytes | str | None) -> str | None:
    if content is None or isinstance(content, str):
        return content
    for mark, encoding in (
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def _directive(line: str) -> tuple[str, str]:
    """Return a line's name, without blanks, dashes and underscores, and its value."""
    if not line:
        return _BLANK, ""
    line = line.partition("#")[0].strip()
    name, colon, value = line.partition(":")
    known = re.sub(r"[\s_-]+", "", _DASHES.sub("-", _INVISIBLE.sub("", name))).lower()
    value = value.strip()
    # `Allow: GET` is a line of another protocol.
    if colon and known in _TELLING and (known != "allow" or not value[:1].isalpha()):
        return known.replace("agents", "agent"), value
    if loose := _WITHOUT_COLON.match(line):
        agent, agents, rule, path = loose.groups()
        return ("useragent", agents) if agent else (rule.lower(), path.strip())
    return _OTHER, ""


def _grouped(lines: list[tuple[str, str]]) -> Robots:
    groups: dict[str, _Group] = {}
    everywhere: list[tuple[str, str]] = []
    licence: str | None = None
    current: list[_Group] = []
    nobodys = _Group()
    open_, parted = True, False
    for name, value in lines:
        if name == "useragent":
            current, open_, parted = (current if open_ else []), True, False
            for token in tokens_of(value):
                group = groups.setdefault(token, _Group())
                current += [] if group in current else [group]
        elif name == "allow" or name in _DISALLOW:
            open_, parted = False, False
            for group in current or [nobodys]:
                group.rules += [(name, value)] if value else []
        elif name in _SIGNALS:
            # A blank line once ended a group: what comes after its rules may be for all.
            beyond = not current or (parted and not open_)
            for signals in [everywhere] if beyond else [group.signals for group in current]:
                signals.append(_placed(value))
            open_ = open_ and not current
        elif name in _RESERVATIONS and value and value.lower() not in _NO:
            path = value if value.startswith("/") else "/"
            everywhere.append((path, "ai-train=no"))
        elif name in _LICENCES and value:
            licence = licence or value
        elif name == _BLANK:
            parted = True
    # Rules without any agent in the file are meant for all.
    return Robots(groups or {ANY: nobodys}, tuple(everywhere), licence)


def _placed(signal: str) -> tuple[str, str]:
    """Return the path that a signal is about, all by default, and the rest of it."""
    if len(signal) > SIGNAL_CHARACTERS:
        return "/", "ai-train=no"
    path, _, rest = signal.partition(" ")
    return (path, rest) if path.startswith("/") else ("/", signal)


def _concerns(path: str, urls: tuple[str, ...]) -> bool:
    return not all(_paths([("disallow", path)]).can_fetch(url, ANY) for url in urls)


def _refused(signals: Iterable[str]) -> str | None:
    """Return the preference by which training is refused; None if none does."""
    given: dict[str, set[str]] = {}
    for said in signals:
        for name, value in _PREFERENCE.findall(said):
            given.setdefault(name.lower().replace("_", "-"), set()).add(value.lower())
    for name in _TRAINING if given.keys() & set(_TRAINING) else _MACHINES:
        for value in sorted(given.get(name, set()) & _NO):
            return f"{name}={value}"
    return None


def _paths(rules: list[tuple[str, str]]) -> Protego:
    """Return protego's reading of rules; a path that is forbidden may be written as a whole URL."""
    lines = [f"User-agent: {ANY}"]
    for name, value in rules:
        if name in _DISALLOW:
            path = _ENCODED_SLASH.sub("/", _ABSOLUTE.sub("", value)) or "/"
            lines.append(f"Disallow: {path if path[0] in '/*$' else '/' + path}")
        else:
            lines.append(f"Allow: {value}")
    return Protego.parse("\n".join(lines))
