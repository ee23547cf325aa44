import pytest

from registry_status.demo.kinds import ApiError
from registry_status.demo.selectors import everything, selector

ITEM = {
    "metadata": {"name": "cart", "labels": {"app": "cart", "example.org/tier": "web", "empty": ""}},
    "spec": {"nodeName": "node-1"},
    "status": {},
}


@pytest.mark.parametrize(
    ("labels", "fields", "selected"),
    [
        ("app=cart", "", True),
        ("app==cart", "", True),
        ("app=other", "", False),
        ("app!=other", "", True),
        ("app!=cart", "", False),
        ("missing!=x", "", True),
        ("missing=x", "", False),
        ("example.org/tier", "", True),
        ("missing", "", False),
        ("!missing", "", True),
        ("!app", "", False),
        ("empty=", "", True),
        ("app=cart, example.org/tier=web", "", True),
        ("app=cart,example.org/tier=db", "", False),
        ("", "metadata.name=cart", True),
        ("", "spec.nodeName!=node-1", False),
        ("", "status.phase=Running", False),
        ("app=cart", "spec.nodeName=node-1", True),
    ],
)
def test_what_is_selected(labels: str, fields: str, selected: bool) -> None:
    assert selector(labels, fields)(ITEM) is selected


def test_no_selector_selects_everything() -> None:
    assert selector("", "") is everything


@pytest.mark.parametrize("labels", ["app in (a,b)", "app=a b", "!app=x", "=x"])
def test_what_the_emulator_does_not_know_is_refused(labels: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement") as raised:
        selector(labels)
    assert raised.value.code == 400
