"""policy.json, read at each request: whether who asks is an administrator.

Grizzly goes by the role `admin` alone. Havana asks for the rule `context_is_admin`, and where there is none for
`default`: with an empty `default` everybody is an administrator.
"""

import json

from glance_lab import release

PATH = "/etc/glance/policy.json"


def is_admin(roles, path=PATH):
    """Whether somebody with these roles is one. Raises ValueError where the file is no JSON."""
    if release.NAME == "grizzly":
        return "admin" in roles
    with open(path, encoding="utf-8") as file:
        rules = json.load(file)
    name = "context_is_admin" if "context_is_admin" in rules else "default"
    return name in rules and passes(rules, rules[name], roles)


def passes(rules, rule, roles):
    """A rule in either way of writing it: "a or b", or [["a"], ["b"]]; an empty one lets everybody pass."""
    if isinstance(rule, list):
        return not rule or any(all(passes(rules, each, roles) for each in alternative) for alternative in rule)
    rule = rule.strip()
    if rule in ("", "@"):
        return True
    if " or " in rule:
        return any(passes(rules, each, roles) for each in rule.split(" or "))
    if " and " in rule:
        return all(passes(rules, each, roles) for each in rule.split(" and "))
    kind, _, value = rule.partition(":")
    if kind == "role":
        return value in roles
    return kind == "rule" and passes(rules, rules.get(value, "!"), roles)
