"""glance, the command: image-list, image-create, image-delete."""

import json
import os
import sys
import urllib.error
import urllib.request

USAGE = """usage: glance SUBCOMMAND ...

  image-list                     image-create --name NAME [--is-public True]
  image-delete IMAGE...

Reads OS_USERNAME, OS_TENANT_NAME and OS_IMAGE_URL from the environment.
"""


class Failure(Exception):
    pass


def ask(method, path, headers=()):
    try:
        user, project = os.environ["OS_USERNAME"], os.environ["OS_TENANT_NAME"]
        url = os.environ["OS_IMAGE_URL"]
    except KeyError as error:
        raise Failure(f"You must provide {error.args[0]}") from None
    known = {"X-Auth-Token": f"{user}:{project}", **dict(headers)}
    request = urllib.request.Request(f"{url}/v1{path}", method=method, headers=known)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise Failure(f"{error.reason} (HTTP {error.code})") from None
    except OSError as error:
        raise Failure(f"Unable to establish connection to {url}: {error}") from None
    return json.loads(text) if text else None


def table(headers, rows):
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[n]) for row in [headers, *cells]) for n in range(len(headers))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = ["| " + " | ".join(value.ljust(w) for value, w in zip(row, widths, strict=True)) + " |" for row in cells]
    head = "| " + " | ".join(name.ljust(w) for name, w in zip(headers, widths, strict=True)) + " |"
    print("\n".join([rule, head, rule, *lines, rule]))


COLUMNS = {
    "ID": "id",
    "Name": "name",
    "Disk Format": "disk_format",
    "Container Format": "container_format",
    "Size": "size",
    "Status": "status",
}


def run(command, arguments):
    if command == "image-list":
        images = ask("GET", "/images/detail")["images"]
        table(list(COLUMNS), [[image[key] for key in COLUMNS.values()] for image in images])
    elif command == "image-create" and "--name" in arguments:
        given = dict(zip(arguments[::2], arguments[1::2], strict=False))
        headers = {"x-image-meta-name": given["--name"], "x-image-meta-is_public": given.get("--is-public", "False")}
        image = ask("POST", "/images", headers)["image"]
        table(["Property", "Value"], sorted(image.items()))
    elif command == "image-delete" and arguments:
        for image in arguments:
            ask("DELETE", f"/images/{image}")
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
        print(f"{error}", file=sys.stderr)
        return 1
