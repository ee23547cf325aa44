"""The grammar of label selectors, as Kubernetes reads them (`labels.Parse` of k8s.io/apimachinery).

The API server would refuse a wrong one with every list, for ever. Checked here, it is told at the start, by its setting's name.
"""

import re

from registry_status.dns import SUBDOMAIN

FORM = (
    "requirements joined by commas, each like app, !app, app=cart, app!=cart, app in (cart, shop), app notin (cart), level>3 "
    "or level<3"
)
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
LONGEST_NAME = 63
NAMED = f"at most {LONGEST_NAME} letters, digits, '-', '_' or '.', with a letter or digit at both ends"
LARGEST = 2**63 - 1
SPACES = " \t\r\n"
BETWEEN = re.compile(r",(?![^()]*\))")
"""A comma that stands in no parentheses."""
SPACE, WORD = rf"[{SPACES}]", rf"[^{SPACES}!(),<>=]+"
REQUIREMENT = re.compile(
    rf"{SPACE}*(?:!{SPACE}*(?P<absent>{WORD})|(?P<key>{WORD})"
    rf"(?:{SPACE}*(?P<sign>==|!=|=|<|>){SPACE}*(?P<value>{WORD}|)|{SPACE}+(?:in|notin){SPACE}*\((?P<values>[^()]*)\))?"
    rf"){SPACE}*"
)


def check(text: str) -> None:
    """Raise `ValueError` for a selector that Kubernetes would refuse; it says what is allowed, and what is wrong."""
    for requirement in BETWEEN.split(text) if text.strip(SPACES) else ():
        wrong = _wrong(requirement)
        if wrong:
            raise ValueError(f"{FORM}; {wrong}")


def _wrong(requirement: str) -> str:
    """What is wrong with a requirement; empty if nothing is."""
    found = REQUIREMENT.fullmatch(requirement)
    if found is None:
        text = requirement.strip(SPACES)
        return f"{text!r} is none of these" if text else "a requirement is missing before or after a comma"
    if wrong := _wrong_key(found["absent"] or found["key"]):
        return wrong
    if found["sign"] in ("<", ">"):
        return _wrong_number(found["value"])
    if found["values"] is not None and not found["values"].strip(SPACES):
        return f"{requirement.strip(SPACES)!r} has no value in its parentheses"
    values = (found["values"] or found["value"] or "").split(",")
    return next(filter(None, (_wrong_value(value.strip(SPACES)) for value in values)), "")


def _wrong_key(key: str) -> str:
    domain, slash, name = key.rpartition("/")
    if slash and not SUBDOMAIN.fullmatch(domain):
        return f"what stands before '/' in {key!r} must be a DNS name in lower case, such as app.kubernetes.io"
    return "" if _is_name(name) else f"the key {key!r} must be {NAMED}"


def _wrong_value(value: str) -> str:
    return "" if not value or _is_name(value) else f"the value {value!r} must be {NAMED}"


def _wrong_number(value: str) -> str:
    whole = re.fullmatch(r"[0-9]+", value) and len(value) <= LONGEST_NAME and int(value) <= LARGEST
    return "" if whole else f"{value!r} must be a whole number"


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and NAME.fullmatch(text) is not None
