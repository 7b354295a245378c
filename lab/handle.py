"""What the lab's content is given to work with: scripts and files on the hosts of a lab that runs."""

import shlex
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lab.errors import LabError
from lab.network import NAMESPACES
from lab.progress import Progress
from lab.spec import LabSpec

T = TypeVar("T")
_AT_ONCE = 16


@dataclass(frozen=True)
class LabHandle:
    """A lab that runs.

    Attributes:
        spec: its size, hosts and addresses.
        directory: its folder, /var/lib/cellstep/labs/NAME.
        secrets: its secrets by name, drawn once when it was made.
    """

    spec: LabSpec
    directory: Path
    secrets: dict[str, str] = field(repr=False)
    _progress: Progress = field(default_factory=Progress, repr=False)

    @property
    def shared(self) -> Path:
        """The folder every host sees as /srv/shared, read-write."""
        return self.directory / "shared"

    def progress(self, text: str) -> None:
        """Say one line to whoever waits."""
        self._progress.say(text)

    def run(self, host: str, script: str, stdin: str = "", timeout: float = 60) -> str:
        """Run a bash script on a host as root, over SSH.

        The script travels over stdin, before `stdin`, so it shows on no command line, here or there.

        Args:
            host: its name.
            script: bash; the exit status of its last command counts (`set -e` is the script's own choice).
            stdin: what the script reads.
            timeout: in seconds.

        Returns:
            What it wrote to stdout.

        Raises:
            LabError: it exited other than 0, could not be reached, or took longer; with the end of its output.
        """
        name = f"{host}: {(script.strip().splitlines() or ['(empty script)'])[0][:80]}"
        body = script.encode()
        command = [*ssh_command(self.spec, self.directory), host, f'eval "$(head -c {len(body)})"']
        try:
            done = subprocess.run(
                command, input=body + stdin.encode(), capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            # `from None`: the exception it comes from holds the output, which may hold secrets.
            raise LabError(f"{name}: did not end within {timeout:.0f} s") from None
        stdout = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            said = (stdout + done.stderr.decode(errors="replace")).strip()[-3000:]
            raise LabError(f"{name}: exit {done.returncode}:\n{said}")
        return stdout

    def put(self, host: str, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file on a host, whole or not at all; folders on the way are made.

        Args:
            host: its name.
            path: absolute.
            content: its new content.
            mode: its permissions, in force before the content is there.

        Raises:
            LabError: it could not be written.
        """
        data = content.encode() if isinstance(content, str) else content
        target = shlex.quote(path)
        script = (
            f'set -e; t={target}; mkdir -p "$(dirname "$t")"; n="$t.cellstep-new"; rm -f "$n"; '
            f'install -m {mode:o} /dev/null "$n"; cat > "$n"; mv "$n" "$t"'
        )
        command = [*ssh_command(self.spec, self.directory), host, script]
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f"{host}: writing {path} did not end within 60 s") from None
        if done.returncode != 0:
            raise LabError(f"{host}: cannot write {path}: {done.stderr.decode(errors='replace').strip()}")

    def each(self, hosts: Iterable[str], function: Callable[[str], T]) -> dict[str, T]:
        """Call a function for several hosts at once, and wait for all.

        Returns:
            Its result for each host.

        Raises:
            LabError: it failed for some; says for each what went wrong.
        """
        results: dict[str, T] = {}
        faults: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = {host: pool.submit(function, host) for host in hosts}
            for host, future in futures.items():
                try:
                    results[host] = future.result()
                except LabError as error:
                    faults.append(str(error))
        if faults:
            raise LabError("\n".join(faults))
        return results


def ssh_command(spec: LabSpec, directory: Path) -> list[str]:
    """The beginning of an ssh call inside the lab's network; options or the host's name follow."""
    return [
        "nsenter",
        f"--net={NAMESPACES / spec.namespace}",
        "ssh",
        "-F",
        str(directory / "ssh" / "config"),
    ]
