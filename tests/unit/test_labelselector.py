"""The grammar of label selectors. Kubernetes' own parser (apimachinery 0.36) says the same of each line here."""

import pytest

from registry_status.labelselector import check

GOOD = [
    "",
    "  ",
    "app",
    "!app",
    "! app",
    "app=cart",
    "app==cart",
    "app!=cart",
    " app = cart ",
    "app=",
    "x=,z= ",
    "app in (cart)",
    "app in(cart, shop)",
    "app\tnotin\n(cart)",
    "app notin (,)",
    "app in (,)",
    "app in (,a,,b,)",
    "level>3",
    "level < 007",
    "level>9223372036854775807",
    "in in (in)",
    "notin",
    "app=in",
    "app.kubernetes.io/name=cart,tier notin (a, b),!legacy",
    f"{'a.' * 126}a/{'x' * 63}={'y' * 63}",
]
NONE = "is none of these"
NAMED = "must be at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"
LACKS = "a requirement is missing before or after a comma"
DOMAIN = "must be a DNS name in lower case, such as app.kubernetes.io"
NUMBER = "must be a whole number"
EMPTY = "has no value in its parentheses"
BAD = [
    ("app in a", f"'app in a' {NONE}"),
    ("x=a||y=b", f"'x=a||y=b' {NONE}"),
    ("x==a==b", NONE),
    ("a===b", NONE),
    ("!app=cart", NONE),
    ("!!app", NONE),
    ("!", NONE),
    ("app cart", NONE),
    ("app=cart shop", NONE),
    ("app=!cart", NONE),
    ("level>=3", NONE),
    ("=cart", NONE),
    ("(app)", NONE),
    ("app in", NONE),
    ("app in ()", f"'app in ()' {EMPTY}"),
    ("app notin ( )", f"'app notin ( )' {EMPTY}"),
    ("team=a, app in(\t\n)", EMPTY),
    ("app in (cart", NONE),
    ("app in (cart))", NONE),
    ("app in ((cart))", NONE),
    ("app in (cart) shop", NONE),
    ("app in (cart),(shop)", f"'(shop)' {NONE}"),
    ("app)", NONE),
    ("in (app)", NONE),
    ("team=a,", LACKS),
    (",team=a", LACKS),
    ("team=a,,tier=b", LACKS),
    ("level>", f"'' {NUMBER}"),
    ("level>high", f"'high' {NUMBER}"),
    ("level<-1", f"'-1' {NUMBER}"),
    ("level<9223372036854775808", NUMBER),
    ("level<1.5", NUMBER),
    ("-app", f"the key '-app' {NAMED}"),
    ("app_", NAMED),
    ("x" * 64, NAMED),
    ("app=-cart", f"the value '-cart' {NAMED}"),
    ("app=" + "x" * 64, NAMED),
    ("app=c:d", f"the value 'c:d' {NAMED}"),
    ("app=\xe4", NAMED),
    ("app=a\x0b", NAMED),
    ("app in (cart shop)", f"the value 'cart shop' {NAMED}"),
    ("/app", DOMAIN),
    ("a/b/c", DOMAIN),
    ("App.io/name", DOMAIN),
    (f"{'a.' * 127}/x", DOMAIN),
    ("app.io/", NAMED),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_kubernetes_takes_is_taken(text: str) -> None:
    check(text)


@pytest.mark.parametrize(("text", "wrong"), BAD, ids=[repr(text[:20]) for text, _ in BAD])
def test_what_kubernetes_refuses_is_refused_with_the_forms_there_are_and_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^requirements joined by commas, each like app, !app, app=cart, ") as caught:
        check(text)
    assert wrong in str(caught.value).partition("level<3; ")[2]
    assert str(caught.value).isprintable()
