"""YAML as Kubernetes reads it."""

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]  # the slower of the same

NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
"""What reading YAML may raise. Beside its own errors PyYAML lets through what its conversions stumble over: `!!int x`,
`!!int ''`, `!!bool x`, `!!timestamp x`, numbers without end, too deep a nesting. Most of these errors show the value."""


class Loader(SafeLoader):
    """Takes what looks like a time for a text, quoted or not, and refuses numbers that Python would not print."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read a whole number. Unlike others, one of base 16 may be of any length."""
        number: int = super().construct_yaml_int(node)
        str(number)  # raises ValueError
        return number


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
