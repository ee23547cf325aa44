"""Workloads that bear the annotations themselves, where their pods do not get them: the commonest slip of all."""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from registry_status.cli.checks.finding import Area, Finding, Findings, listed
from registry_status.cluster.api import FORBIDDEN, ApiError, ApiServer, mapping
from registry_status.cluster.read import pages
from registry_status.config import Settings

KINDS: Mapping[str, str] = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}

told = Findings(Area.PODS)


async def check_workloads(api: ApiServer, settings: Settings) -> AsyncIterator[Finding]:
    """Look at the workloads of the namespaces that are watched, where that is allowed."""
    misplaced: list[str] = []
    for namespace in settings.namespaces or ("",):
        for plural, kind in KINDS.items():
            try:
                found = [one async for one in _misplaced(api, settings, namespace, plural)]
            except ApiError as error:
                what = "listing them is not allowed" if error.status == FORBIDDEN else str(error)
                yield told.skipped(
                    f"workloads are not looked at for annotations in the wrong place: {what}",
                    "run `check` with a kubeconfig that may list deployments, statefulsets and daemonsets",
                )
                return
            misplaced += [f"{kind} {name}" for name in found]
    if misplaced:
        fix = "move them to spec.template.metadata.annotations: pods get those of the template only"
        yield told.warning(f"annotations on the workload, not on its pod template: {listed(misplaced)}", fix)


async def _misplaced(api: ApiServer, settings: Settings, namespace: str, plural: str) -> AsyncIterator[str]:
    """Name those with annotations of ours, whose templates have none. Raises `ApiError`."""
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    async for items in pages(api, f"/apis/apps/v1{place}/{plural}"):
        for item in items:
            template = mapping(mapping(mapping(item).get("spec")).get("template"))
            if bears(item, settings) and not bears(template, settings):
                metadata = mapping(mapping(item).get("metadata"))
                yield f"{metadata.get('namespace')}/{metadata.get('name')}"


def bears(thing: object, settings: Settings) -> bool:
    """Whether an object, or a template, has an annotation of ours."""
    annotations = mapping(mapping(mapping(thing).get("metadata")).get("annotations"))
    return any(key.startswith(settings.prefix) for key in annotations)
