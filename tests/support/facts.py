"""Rows of facts as the tables take them, with what a test does not care about filled in."""


def statuses(table, *key):
    """The status by one or more of the row's columns."""
    column = "state" if "state" in table.columns else "status"
    keys = table[list(key)].itertuples(index=False, name=None) if len(key) > 1 else table[key[0]]
    return dict(zip(keys, table[column], strict=True))


def package(host, cell="top", expected="2013.2.1-1.el6", name="python-nova"):
    return {"cell": cell, "host": host, "role": "controller", "package": name, "expected": expected}


def have(host, installed="2013.2.1-1.el6", name="python-nova"):
    return {"host": host, "package": name, "installed": installed}


def service(host, name="nova-cells", expected="running", binary="nova-cells", cell="top"):
    return {"cell": cell, "host": host, "service": name, "expected": expected, "binary": binary}


def state(host, actual="running", name="nova-cells", boot="on"):
    return {"host": host, "service": name, "actual": actual, "boot": boot}


def beat(host, age, binary="nova-cells", cell="top"):
    return {"cell": cell, "host": host, "binary": binary, "age_s": age}


def volume(number, name="data", project="p", status="available", size=1, attached=None):
    return {
        "id": number,
        "name": name,
        "project_id": project,
        "status": status,
        "size_gib": size,
        "attached_to": attached,
    }


def usage(number, resource, in_use, project="p", user="u", reserved=0):
    return {
        "id": number,
        "project_id": project,
        "user_id": user,
        "resource": resource,
        "in_use": in_use,
        "reserved": reserved,
    }


def use(resource, actual, project="p", user="u"):
    return {"project_id": project, "user_id": user, "resource": resource, "actual": actual}


def guest(uuid, host="h1", boot="b1", ticks=100, started=1391400000, cell="cell01"):
    return {
        "cell": cell,
        "host": host,
        "uuid": uuid,
        "boot_id": boot,
        "start_ticks": ticks,
        "started_at": started,
    }


def host(step, cell, name, state="ok", **more):
    return {"step": step, "cell": cell, "host": name, "state": state, **more}
