"""nova, the command: boot, show, list, delete, service-list, volume-list, image-list, absolute-limits."""

import json
import os
import sys
import urllib.error
import urllib.request

USAGE = """usage: nova SUBCOMMAND ...

  boot --flavor FLAVOR --image IMAGE [--hint KEY=VALUE] [--num-instances N] NAME
  show SERVER                    list [--all-tenants]
  delete SERVER...               service-list
  volume-list [--all-tenants]    absolute-limits
  image-list

Reads OS_USERNAME, OS_TENANT_NAME and NOVACLIENT_BYPASS_URL from the environment (/root/openrc).
"""


class Failure(Exception):
    pass


def ask(method, path, body=None):
    try:
        user, project = os.environ["OS_USERNAME"], os.environ["OS_TENANT_NAME"]
        url = os.environ["NOVACLIENT_BYPASS_URL"]
    except KeyError as error:
        raise Failure(f"You must provide {error.args[0]} (source /root/openrc)") from None
    request = urllib.request.Request(
        f"{url}/{project}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Auth-Token": f"{user}:{project}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        try:
            message = json.loads(error.read())["message"]
        except ValueError:
            message = error.reason
        raise Failure(f"{message} (HTTP {error.code})") from None
    except OSError as error:
        raise Failure(f"Unable to establish connection to {url}: {error}") from None
    return json.loads(text) if text else None


def table(headers, rows):
    cells = [["-" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[n]) for row in [headers, *cells]) for n in range(len(headers))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    print(rule)
    print("| " + " | ".join(h.center(w) if w else h for h, w in zip(headers, widths, strict=True)) + " |")
    print(rule)
    for row in cells:
        print("| " + " | ".join(value.ljust(w) for value, w in zip(row, widths, strict=True)) + " |")
    print(rule)


def show(server):
    flat = {
        key: value.get("id", json.dumps(value)) if isinstance(value, dict) else value for key, value in server.items()
    }
    table(["Property", "Value"], sorted(flat.items()))


def find(name):
    try:
        return ask("GET", f"/servers/{name}")["server"]
    except Failure as error:
        if "HTTP 404" in str(error):
            raise Failure(f"No server with a name or ID of '{name}' exists.") from None
        raise


def options(arguments, *known):
    """Split `--name value` and `--name=value` from plain words."""
    found, words = {}, []
    arguments = list(arguments)
    while arguments:
        word = arguments.pop(0)
        name, equals, value = word.partition("=")
        name = name.lstrip("-").replace("_", "-") if word.startswith("--") else ""
        if not name:
            words.append(word)
        elif name in known:
            if not equals and not arguments:
                raise Failure(f"argument --{name}: expected one argument")
            found.setdefault(name, []).append(value if equals else arguments.pop(0))
        else:
            found[name] = [value or "1"]
    return found, words


def run(command, arguments):
    known = ("flavor", "image", "hint", "availability-zone", "key-name", "security-groups", "num-instances")
    found, words = options(arguments, *known)
    everyone = "?all_tenants=1" if "all-tenants" in found else ""
    if command == "boot":
        if len(words) != 1 or "flavor" not in found or "image" not in found:
            raise Failure("boot needs --flavor, --image and a name")
        body = {"server": {"name": words[0], "flavorRef": found["flavor"][-1], "imageRef": found["image"][-1]}}
        if "num-instances" in found:
            if not found["num-instances"][-1].isdigit():
                raise Failure("argument --num-instances: invalid int value")
            body["server"]["min_count"] = body["server"]["max_count"] = int(found["num-instances"][-1])
        body["os:scheduler_hints"] = dict(hint.partition("=")[::2] for hint in found.get("hint", []))
        show(ask("POST", "/servers", body)["server"])
    elif command == "show" and len(words) == 1:
        show(find(words[0]))
    elif command == "delete" and words:
        for word in words:
            ask("DELETE", f"/servers/{find(word)['id']}")
    elif command == "list":
        rows = [
            (s["id"], s["name"], s["status"], s["OS-EXT-STS:task_state"], s["OS-EXT-STS:power_state"])
            for s in ask("GET", f"/servers/detail{everyone}")["servers"]
        ]
        table(["ID", "Name", "Status", "Task State", "Power State"], rows)
    elif command == "service-list":
        keys = ("binary", "host", "zone", "status", "state", "updated_at")
        rows = [[s[key] for key in keys] for s in ask("GET", "/os-services")["services"]]
        table(["Binary", "Host", "Zone", "Status", "State", "Updated_at"], rows)
    elif command == "volume-list":
        rows = [
            (v["id"], v["status"], v["display_name"], v["size"], v["volume_type_id"] or "None", v["instance_uuid"] or "")
            for v in ask("GET", f"/os-volumes/detail{everyone}")["volumes"]
        ]
        table(["ID", "Status", "Display Name", "Size", "Volume Type", "Attached to"], rows)
    elif command == "image-list":
        images = ask("GET", "/images/detail")["images"]
        table(["ID", "Name", "Status", "Server"], [(i["id"], i["name"], i["status"], "") for i in images])
    elif command == "absolute-limits":
        table(["Name", "Value"], sorted(ask("GET", "/limits")["limits"]["absolute"].items()))
    else:
        print(USAGE, file=sys.stderr)
        return 2
    return 0


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(USAGE)
        return 0 if arguments else 2
    try:
        return run(arguments[0], arguments[1:])
    except Failure as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
