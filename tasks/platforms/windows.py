"""Windows Server: PowerShell over OpenSSH, from PowerShell 4.0 (Windows Server 2012 R2) on.

Names of classes, properties and exit statuses are those of Microsoft's documentation (Win32_Service,
Win32_OperatingSystem, Msvm_ComputerSystem, Get-VM, the Windows Installer's error codes). Answers are JSON.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from tasks.platforms import pip
from tasks.platforms.model import (
    Back,
    Care,
    Download,
    Expected,
    Guard,
    Guest,
    Installed,
    Packages,
    Platform,
    Services,
    States,
    System,
)

ROOT = r"C:\ProgramData\cellstep"
PACKAGES = rf"{ROOT}\packages"
_MSI_COMES = "cellstep-msi "
MSI = "msi:"
"""What the name of a package of the Windows Installer begins with; the others are pip's."""

REBOOT_DUE = "cellstep-reboot-due"
"""Printed where the Windows Installer says that a restart is due (3010) or was begun (1641)."""

WELL = (0, 1641, 3010)
"""The Windows Installer's exit statuses of an installation that went well: ERROR_SUCCESS and its two with a restart."""

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)


def quoted(text: str) -> str:
    """A string of PowerShell, in which nothing is expanded; it takes typographic quotes for plain ones, too."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


def _list(names: Sequence[str]) -> str:
    return f"@({','.join(map(quoted, names))})"


def rows(text: str) -> list[dict[str, Any]]:
    """What ConvertTo-Json printed, as rows: a list, one object alone, or nothing.

    Windows PowerShell 5.1 may wrap a list as {"value": [...], "Count": N}.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    found = json.loads(text) if text.strip() else []
    if isinstance(found, dict) and isinstance(found.get("value"), list) and found.keys() == {"value", "Count"}:
        found = found["value"]
    found = [found] if isinstance(found, dict) else [] if found is None else found
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"a list of objects is expected, not {text[:80]!r}")
    return found


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"an object without {key!r}: {json.dumps(row)[:80]}")
    return value


def _number(row: dict[str, Any], key: str) -> float:
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"an object without a number {key!r}: {json.dumps(row)[:80]}") from None


# ---- services

_STATES = """$found=@(foreach ($name in %s) {
$service=Get-CimInstance -ClassName Win32_Service -Filter ("Name='"+$name.Replace("'","\\'")+"'")
if ($service) { @{name=$name; state=[string]$service.State; start=[string]$service.StartMode} } })
ConvertTo-Json -Compress -InputObject $found
"""

_RUNNING = {"Running": "running", "Stopped": "stopped"}


def parse_states(text: str) -> States:
    """Read what the script of `states` printed: Win32_Service's State and StartMode.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    return {
        _text(row, "name"): {
            "actual": _RUNNING.get(_text(row, "state"), "starting"),
            "boot": "off" if _text(row, "start") in {"Manual", "Disabled"} else "on",
        }
        for row in rows(text)
    }


def _stop(names: Sequence[str]) -> str:
    # Manual, and not Disabled: a service that was Manual and ran must be able to start again.
    return f"""foreach ($name in {_list(names)}) {{
if ((Get-CimInstance -ClassName Win32_Service -Filter ("Name='"+$name.Replace("'","\\'")+"'")).StartMode -eq 'Auto') {{
Set-Service -Name $name -StartupType Manual }}
Stop-Service -Name $name -Force }}
"""


def _start(boot: Sequence[str], run: Sequence[str]) -> str:
    lines = [f"foreach ($name in {_list(boot)}) {{ Set-Service -Name $name -StartupType Automatic }}"] if boot else []
    return "\n".join([*lines, f"foreach ($name in {_list(run)}) {{ Start-Service -Name $name }}"])


# ---- packages

_PRODUCTS = r"""$products=@(Get-ItemProperty -ErrorAction SilentlyContinue -Path @(
'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\*',
'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\*') |
Where-Object { $_.WindowsInstaller -eq 1 -and $_.DisplayName -and $_.DisplayVersion })
"""

# Not Win32_Product: to ask for that makes the Windows Installer repair what it finds wanting. Two lines.
LISTING = f"""$env:PIP_DISABLE_PIP_VERSION_CHECK='1'
if (Get-Command python -ErrorAction SilentlyContinue) {{ & python -m pip list --format json
if ($LASTEXITCODE -ne 0) {{ throw "pip list ended with $LASTEXITCODE" }} }} else {{ '[]' }}
{_PRODUCTS}ConvertTo-Json -Compress -InputObject @($products | ForEach-Object {{
@{{name='{MSI}'+[string]$_.DisplayName; version=[string]$_.DisplayVersion}} }})
"""


def normal(name: str) -> str:
    """A package's name: pip's are normalised, the Windows Installer's stand as they are."""
    return name if name.startswith(MSI) else pip.normal(name)


def parse(text: str) -> Installed:
    """Read what `LISTING` printed.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    found: Installed = {}
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 2:
        raise ValueError("the lists of pip and of the Windows Installer are expected: ask again")
    for line in lines:
        for row in rows(line):
            versions = found.setdefault(normal(_text(row, "name")), [])
            if _text(row, "version") not in versions:
                versions.append(row["version"])
    return found


def _split(expected: Expected) -> tuple[dict[str, str], dict[str, str]]:
    """Pip's, and the Windows Installer's without the beginning of their names."""
    mine = {name.removeprefix(MSI): version for name, version in expected.items() if name.startswith(MSI)}
    return {name: version for name, version in expected.items() if not name.startswith(MSI)}, mine


def msi_file(name: str, version: str) -> str:
    """Where the site puts the file of a package of the Windows Installer."""
    return rf"{PACKAGES}\{name}-{version}.msi"


def _pip(expected: Expected, verb: str) -> str:
    words = " ".join(map(quoted, pip.requirements(expected)))
    return f"""$env:PIP_DISABLE_PIP_VERSION_CHECK='1'; $env:PIP_NO_INPUT='1'
& python -m pip {verb} {words}
if ($LASTEXITCODE -ne 0) {{ throw "pip ended with $LASTEXITCODE" }}
"""


_MSIEXEC = f"""function Invoke-Msi($what, $file) {{
$log='{PACKAGES}\\msiexec.log'
$list=@($what, ('"'+$file+'"'), '/qn', '/norestart', '/l*', ('"'+$log+'"'))
$code=(Start-Process -FilePath msiexec.exe -ArgumentList $list -Wait -PassThru).ExitCode
if ({",".join(map(str, WELL))} -notcontains $code) {{ throw "msiexec $what $file ended with $code, see $log" }}
if ($code -ne 0) {{ "{REBOOT_DUE} $code $file" }} }}
"""


def _install(expected: Expected) -> str:
    mine, msi = _split(expected)
    script = _pip(mine, f"install --find-links {quoted(PACKAGES)}") if mine else ""
    if msi:
        script += _MSIEXEC
        script += "".join(f"Invoke-Msi '/i' {quoted(msi_file(*each))}\n" for each in sorted(msi.items()))
    return script


def _download(expected: Expected) -> str:
    mine, msi = _split(expected)
    script = f"[void](New-Item -ItemType Directory -Force -Path {quoted(PACKAGES)})\n"
    script += _pip(mine, f"download -q -d {quoted(PACKAGES)}") if mine else ""
    return script + "".join(_wanted(*each) for each in sorted(msi.items()))


def _wanted(name: str, version: str) -> str:
    file = quoted(msi_file(name, version))
    return f"if (-not (Test-Path -LiteralPath {file})) {{ throw ('there is no '+{file}+': put it there') }}\n"


def _resolve(expected: Expected) -> str:
    mine, msi = _split(expected)
    script = ""
    if mine:  # pip has --dry-run from 22.2 on, the last one for Python 2 is 20.3: that downloads all of it, for nothing
        folder = quoted(rf"{ROOT}\resolve")
        script = f"""if ((& python -m pip install --help | Out-String).Contains('--dry-run')) {{
{_pip(mine, "install --dry-run")}}} else {{
try {{ {_pip(mine, f"download -d {folder}")}}} finally {{
Remove-Item -Recurse -Force -ErrorAction SilentlyContinue -LiteralPath {folder} }} }}
"""
    for name, version in sorted(msi.items()):
        script += _wanted(name, version) + quoted(f"{_MSI_COMES}{name}\t{version}") + "\n"
    return script


def transaction(said: str) -> dict[str, str]:
    """Package name to version of what `resolve` says would be installed; an MSI brings nothing but itself."""
    rest = (line.removeprefix(_MSI_COMES) for line in said.splitlines() if line.startswith(_MSI_COMES))
    return {**pip.transaction(said), **{MSI + name: version for name, _, version in (r.partition("\t") for r in rest)}}


def _back(some: Expected, along: Expected, absent: Expected, new: Sequence[str]) -> str:
    del along  # neither pip nor the Windows Installer tells what came along
    _, msi = _split(some)
    gone = [name.removeprefix(MSI) for name in new if name.startswith(MSI)]
    script = ""
    if msi or gone:  # an older one is not installed over a newer one
        script = f"""{_MSIEXEC}{_PRODUCTS}foreach ($name in {_list(sorted([*msi, *gone]))}) {{
foreach ($product in @($products | Where-Object {{ $_.DisplayName -eq $name }})) {{
Invoke-Msi '/x' $product.PSChildName }} }}
"""
    script += _install({**some, **absent}) if some or absent else ""
    for name in sorted(name for name in new if not name.startswith(MSI)):
        script += (
            f"& python -m pip uninstall -y {quoted(name)}\nif ($LASTEXITCODE -ne 0) {{ {quoted(f'left: {name}')} }}\n"
        )
    return script


def matches(have: str, want: str) -> bool:
    """Whether an installed version is the expected one, by pip's rules; the Windows Installer's are numbers too."""
    return pip.matches(have, want)


_OS = "(Get-CimInstance -ClassName Win32_OperatingSystem)"
BOOT_ID = f"{_OS}.LastBootUpTime.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ')"
KERNEL = f"[string]{_OS}.Version"

# The start is that of the guest's worker process, which stays the same however often it is asked for; the uptime does
# not. A server without Hyper-V has no guests.
GUESTS = r"""$guests=@()
if (Get-Command Get-VM -ErrorAction SilentlyContinue) {
$workers=@{}
Get-CimInstance -Namespace root\virtualization\v2 -ClassName Msvm_ComputerSystem | Where-Object { $_.ProcessID } |
ForEach-Object { $workers[([string]$_.Name).ToLower()]=[string]$_.ProcessID }
$began=@{}
Get-CimInstance -ClassName Win32_Process -Filter "Name='vmwp.exe'" |
ForEach-Object { $began[[string]$_.ProcessId]=($_.CreationDate.ToUniversalTime()-[datetime]'1970-01-01').TotalSeconds }
$guests=@(Get-VM | Where-Object { 'Off','Saved' -notcontains [string]$_.State } | ForEach-Object {
$start=$began[[string]$workers[([string]$_.Id).ToLower()]]
@{id=([string]$_.Id).ToLower(); notes=[string]$_.Notes; uptime=[double]$_.Uptime.TotalSeconds; started=$start
now=((Get-Date).ToUniversalTime()-[datetime]'1970-01-01').TotalSeconds} }) }
ConvertTo-Json -Compress -InputObject $guests
"""

ROUGHLY_S = 10
"""To so many seconds a guest's start is known where its worker process is not: from its uptime."""


def parse_guests(lines: Sequence[str]) -> list[Guest]:
    """Read what `GUESTS` printed. A guest is known by the uuid in its notes, else by its virtual machine's id.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    found = []
    for row in rows("\n".join(lines)):
        written = _UUID.search(row.get("notes") or "")
        uuid = written[0].lower() if written else _text(row, "id").lower()
        started = row.get("started")
        if started is None:
            started = round((_number(row, "now") - _number(row, "uptime")) / ROUGHLY_S) * ROUGHLY_S
        else:
            started = _number(row, "started")
        found.append(Guest(uuid, round(float(started) * 100), float(started)))
    return sorted(found, key=lambda guest: guest.uuid)


def facts(platform: Platform, services: Sequence[str], _care: Care | None = None) -> str:
    """All that a node is asked at once."""
    states = platform.services.states(services) if services else "'[]'"
    return f"""'@boot_id'
{platform.system.boot_id}
{platform.system.kernel}
'@packages'
{platform.packages.listing}
'@services'
{states}
'@guests'
{platform.system.guests}
"""


_PENDING = r"""$windows='HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion'
if (Test-Path "$windows\Component Based Servicing\RebootPending") {
'an update of Windows' }
if (Test-Path "$windows\WindowsUpdate\Auto Update\RebootRequired") {
'Windows Update' }
$manager=Get-ItemProperty -Path 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager'
if ($manager.PendingFileRenameOperations) { 'files that are to be replaced' }
"""

_GUARD = r"""$cellstepRoot=%s; $cellstepToken=[long]%d
function Deny($status, $words) { [Console]::Error.WriteLine("cellstep-guard: $words"); exit $status }
function Lock($name, $seconds) {
$mutex=New-Object System.Threading.Mutex $false, "Global\cellstep-$name"
try { $held=$mutex.WaitOne([int]($seconds*1000)) } catch [System.Threading.AbandonedMutexException] { $held=$true }
if ($held) { $mutex } }
function Guard() {
$lock=Lock 'token' 20
if (-not $lock) { Deny 211 "another command held the token's lock for 20 s" }
$file=Join-Path $cellstepRoot 'token'; $seen=[long]0
try { [void](New-Item -ItemType Directory -Force -Path $cellstepRoot)
if (Test-Path -LiteralPath $file) { $seen=[long](Get-Content -LiteralPath $file -TotalCount 1) }
if ($cellstepToken -gt $seen) { Set-Content -LiteralPath "$file.new" -Value $cellstepToken
Move-Item -Force -LiteralPath "$file.new" -Destination $file }
} catch { Deny 211 "the node cannot keep the token in ${cellstepRoot}: $($_.Exception.Message)" }
if ($cellstepToken -lt $seen) {
Deny 210 "the operator with token $seen has taken over from the one with token $cellstepToken" }
$lock }
"""


def _change(script: str) -> str:
    return f"""$cellstepLock=Guard
$cellstepBusy=Lock 'busy' 20
if (-not $cellstepBusy) {{ Deny 211 'another change has been under way on this node for 20 s' }}
$cellstepLock.ReleaseMutex()
& {{
{script}
}}
"""


def _fence(seconds: float) -> str:
    return f"""$cellstepLock=Guard
$cellstepLock.ReleaseMutex()
$cellstepBusy=Lock 'busy' {seconds:.0f}
if (-not $cellstepBusy) {{ Deny 211 'something that was sent before still changes this node after {seconds:.0f} s' }}
$cellstepBusy.ReleaseMutex()
"""


WINDOWS = Platform(
    name="windows",
    words="Windows",
    interpreter="powershell",
    services=Services(lambda names: _STATES % _list(names), parse_states, _stop, _start),
    packages=Packages(
        manager="pip and msiexec",
        database="what is installed",
        log=rf"{PACKAGES}\msiexec.log",
        mend="the older one's uninstaller",
        listing=LISTING,
        parse=parse,
        matches=matches,
        normal=normal,
        version=pip.upstream,
        update=lambda expected, _kernel: _install(expected),
        resolve=_resolve,
        transaction=transaction,
        reboot_due=REBOOT_DUE,
        doubt=f"{pip.DOUBT[:-1]}, is that the version in the MSI file?",
        download=Download(script=lambda expected, _kernel: _download(expected)),
        back=Back(_back, download=lambda _, some: _download(some)),
    ),
    system=System(
        boot_id=BOOT_ID,
        kernel=KERNEL,
        reboot="Restart-Computer -Force",
        facts=facts,
        guests=GUESTS,
        parse_guests=parse_guests,
        pending=_PENDING,
    ),
    guard=Guard(lambda root, token: _GUARD % (quoted(root), token), _change, _fence, root=ROOT),
    jobs=False,
)
