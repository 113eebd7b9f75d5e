"""Owns what compose.yaml and kubernetes.yaml have to be: by their schemas, and beside the image.

manifests.py check VERSION      VERSION: the module's, which the images' tags have
manifests.py environment FILE   prints what FILE has the container's environment be, NAME=VALUE a line
"""

import json
import os
import re
import sys

import compose
import jsonschema
import kubernetes_validate
import yaml

PACKAGING = os.path.join(os.path.dirname(__file__), "..", "..", "packaging")
COMPOSE = os.path.join(PACKAGING, "compose.yaml")
KUBERNETES = os.path.join(PACKAGING, "kubernetes.yaml")


def documents(file):
    with open(file) as handle:
        return [document for document in yaml.safe_load_all(handle) if document]


def one(kind):
    found = [document for document in documents(KUBERNETES) if document["kind"] == kind]
    assert len(found) == 1, f"kubernetes.yaml has {len(found)} of {kind}"
    return found[0]


def environment(file):
    if os.path.samefile(file, COMPOSE):
        return documents(file)[0]["services"]["proxy"]["environment"]
    return one("ConfigMap")["data"]


def seconds(time):
    assert time.endswith("s"), f"{time} is not in seconds"
    return int(time[:-1])


def check_schemas():
    schema = os.path.join(os.path.dirname(compose.__file__), "config", "compose_spec.json")
    with open(schema) as handle:
        jsonschema.validate(documents(COMPOSE)[0], json.load(handle))

    for document in documents(KUBERNETES):
        for version in ("1.28", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(document, version, strict=True)


def check_compose(version):
    proxy = documents(COMPOSE)[0]["services"]["proxy"]

    assert proxy["image"] == f"proxy-connect:{version}", proxy["image"]
    assert proxy["read_only"] and proxy["cap_drop"] == ["ALL"]
    assert seconds(proxy["stop_grace_period"]) > seconds(proxy["environment"]["SHUTDOWN_TIMEOUT"])
    assert documents(COMPOSE)[0]["networks"]["inside"]["internal"] is True
    assert documents(COMPOSE)[0]["services"]["client"]["networks"] == ["inside"]


def check_kubernetes(version):
    deployment = one("Deployment")["spec"]["template"]
    pod = deployment["spec"]
    container = pod["containers"][0]
    labels = deployment["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert container["image"] == f"proxy-connect:{version}", container["image"]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one("Service")["spec"]["selector"] == labels
    assert one("Service")["spec"]["ports"][0]["targetPort"] in ports
    assert ports == {"proxy": 3128, "health": 8081}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}

    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + seconds(one("ConfigMap")["data"]["SHUTDOWN_TIMEOUT"])

    policies = {policy["metadata"]["name"]: policy["spec"] for policy in documents(KUBERNETES)
                if policy["kind"] == "NetworkPolicy"}
    everyone = policies["only-through-the-proxy"]
    assert everyone["podSelector"] == {} and everyone["policyTypes"] == ["Egress"]
    # To pods alone, never to addresses.
    assert all("ipBlock" not in peer for rule in everyone["egress"] for peer in rule["to"])
    proxy = policies["proxy-connect"]
    assert proxy["podSelector"]["matchLabels"] == labels
    assert any("ipBlock" in peer for rule in proxy["egress"] for peer in rule["to"])


def check_documents(version):
    """What documents and recipes call by its version is of this one."""
    for name, before, after in (
        ("docs/image.md", "proxy-connect:", r"[\s`]"),
        ("docs/image.md", "build/image/proxy-connect-", "-"),
        ("docs/packages-deb-rpm.md", "connect-", "-r0"),
        ("docs/packages-deb-rpm.md", "connect_module-", r"\.tar"),
        ("docs/packages-deb-rpm.md", "`", "-1~deb"),
        ("packaging/alpine/APKBUILD", "pkgver=", r"\n"),
    ):
        with open(os.path.join(PACKAGING, "..", name)) as handle:
            found = set(re.findall(before + r"(\d\S*?)" + after, handle.read()))
        assert found == {version}, f"{name} has {found} where it should have {version}"


if sys.argv[1] == "environment":
    for name, value in environment(sys.argv[2]).items():
        print(f"{name}={value}")
else:
    check_schemas()
    check_compose(sys.argv[2])
    check_kubernetes(sys.argv[2])
    check_documents(sys.argv[2])
