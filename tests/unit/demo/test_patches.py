from copy import deepcopy
from typing import Any

import pytest

from registry_status.demo.kinds import ApiError
from registry_status.demo.patches import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, patched

READY = {"type": "Ready", "status": "True", "reason": "Fine"}
GATE = {"type": "gate", "status": "False"}
ITEM: dict[str, Any] = {
    "metadata": {"annotations": {"a/b": "1", "c": "2"}},
    "status": {"conditions": [READY, GATE]},
    "list": [1, 2],
}


@pytest.mark.parametrize(
    ("patch", "media_type", "changed"),
    [
        ({"metadata": {"annotations": {"c": None, "d": "3"}}}, MERGE_PATCH, {"annotations": {"a/b": "1", "d": "3"}}),
        ({"metadata": {"labels": {"x": "y"}}}, MERGE_PATCH, ITEM["metadata"] | {"labels": {"x": "y"}}),
        (
            [{"op": "add", "path": "/metadata/annotations/d", "value": "3"}],
            JSON_PATCH,
            {"annotations": {"a/b": "1", "c": "2", "d": "3"}},
        ),
        (
            [{"op": "replace", "path": "/metadata/annotations/a~1b", "value": "9"}],
            JSON_PATCH,
            {"annotations": {"a/b": "9", "c": "2"}},
        ),
        ([{"op": "remove", "path": "/metadata/annotations/c"}], JSON_PATCH, {"annotations": {"a/b": "1"}}),
        ([{"op": "test", "path": "/metadata/annotations/c", "value": "2"}], JSON_PATCH, ITEM["metadata"]),
    ],
)
def test_each_form_changes_what_it_says(patch: object, media_type: str, changed: dict[str, Any]) -> None:
    before = deepcopy(ITEM)
    assert patched(ITEM, patch, media_type) == ITEM | {"metadata": changed}
    assert before == ITEM


def test_a_merge_patch_replaces_lists() -> None:
    assert patched(ITEM, {"status": {"conditions": [GATE]}}, MERGE_PATCH)["status"]["conditions"] == [GATE]


def test_a_strategic_patch_merges_conditions_by_type() -> None:
    patch = {"status": {"conditions": [{"type": "gate", "status": "True"}, {"type": "new", "status": "True"}]}}
    conditions = patched(ITEM, patch, STRATEGIC_PATCH)["status"]["conditions"]
    assert conditions == [READY, {"type": "gate", "status": "True"}, {"type": "new", "status": "True"}]


def test_a_strategic_patch_can_delete_from_a_list() -> None:
    patch = {"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}
    assert patched(ITEM, patch, STRATEGIC_PATCH)["status"]["conditions"] == [GATE]


def test_a_strategic_patch_replaces_other_lists() -> None:
    assert patched(ITEM, {"list": [3]}, STRATEGIC_PATCH)["list"] == [3]


def test_json_patches_know_lists() -> None:
    operations = [{"op": "add", "path": "/list/-", "value": 3}, {"op": "add", "path": "/list/0", "value": 0}]
    assert patched(ITEM, [*operations, {"op": "remove", "path": "/list/1"}], JSON_PATCH)["list"] == [0, 2, 3]


@pytest.mark.parametrize(
    ("patch", "media_type", "code"),
    [
        ([{"op": "replace", "path": "/metadata/nothing", "value": 1}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/list/7"}], JSON_PATCH, 422),
        ([{"op": "add", "path": "/nothing/here", "value": 1}], JSON_PATCH, 422),
        ([{"op": "test", "path": "/list/0", "value": 9}], JSON_PATCH, 422),
        ([{"op": "move", "path": "/list/0", "from": "/list/1"}], JSON_PATCH, 400),
        ({"metadata": {}}, JSON_PATCH, 400),
        ([], MERGE_PATCH, 400),
        ({}, "application/apply-patch+yaml", 415),
    ],
)
def test_what_cannot_be_applied_is_refused(patch: object, media_type: str, code: int) -> None:
    with pytest.raises(ApiError) as raised:
        patched(ITEM, patch, media_type)
    assert raised.value.code == code
