"""What commands read from a cluster: each thing once."""

from collections.abc import Sequence

import pytest

from registry_status.cli.reading import cluster, read_pods
from registry_status.config import Settings
from registry_status.demo.emulator import Emulator
from registry_status.pods.status import desired
from tests.pods import pod

NAMESPACES: list[tuple[Sequence[str], list[str]]] = [
    (("shop",), ["shop"]),
    (("shop", "shop"), ["shop"]),
    (("shop", "stock", "shop"), ["shop", "stock"]),
    ((), ["shop", "stock"]),
]


@pytest.mark.parametrize(("named", "expected"), NAMESPACES)
async def test_a_pod_is_read_once_however_often_its_namespace_is_named(
    tmp_path_factory: pytest.TempPathFactory, named: Sequence[str], expected: list[str]
) -> None:
    emulator = Emulator()
    for namespace in ("shop", "stock"):
        emulator.create_pod(pod(namespace=namespace))
    async with emulator.listening():
        kubeconfig = emulator.kubeconfig(tmp_path_factory.mktemp("kube") / "config")
        settings = Settings(kubeconfig=kubeconfig, namespaces=tuple(named))
        async with cluster(settings, {}) as api:
            found = await read_pods(api, settings, lambda raw: desired(raw, settings), lambda _: None)
    assert [one.pod.namespace for one in found] == expected
