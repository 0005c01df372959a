"""What becomes of each `docker` command and flag: the same, different, or refused, and why.

docs/reference/docker.md is made from this table, and the hints for what is refused are taken from
it. tests/unit/cli/test_docker.py holds it to what the commands really have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAME, DIFFERENT, REFUSED = "same", "different", "refused"
Verdict = tuple[str, str]

_NETWORK = "sandboxes share no network; see --allow and -p"
_ADDRESS = "every sandbox has the same address: nobody else sees it"
_CONTAINER = "a sandbox is a machine of its own: its kernel isolates it, not the host's"
_CGROUP = "a machine has whole processors and a fixed memory; use --cpus and --memory"
_DAEMON = "there is no daemon"
_same: Verdict = (SAME, "")


@dataclass(frozen=True)
class Docker:
    """One command of Docker's: its verdict, a note, and its flags."""

    verdict: str
    note: str = ""
    flags: dict[str, Verdict] = field(default_factory=dict)


def _all(verdict: Verdict, *flags: str) -> dict[str, Verdict]:
    return dict.fromkeys(flags, verdict)


_PROCESS = _all(
    _same, "-e", "--env", "--env-file", "-w", "--workdir", "-u", "--user", "-i", "--interactive",
    "-t", "--tty",
)  # fmt: skip

_RUN: dict[str, Verdict] = {
    **_PROCESS,
    **_all(_same, "--name", "--rm", "-h", "--hostname", "-l", "--label", "-m", "--memory",
           "--entrypoint", "--stop-signal", "--pids-limit", "--platform", "--pull"),
    "--cpus": (DIFFERENT, "whole processors only"),
    "--restart": (DIFFERENT, "restarts in a new machine; nothing restarts after the host's boot"),
    "--stop-timeout": (DIFFERENT, "takes a time such as 30s as well"),
    **_all((DIFFERENT, "on 127.0.0.1 unless an address is named"), "-p", "--publish"),
    **_all((DIFFERENT, "none, bridge, default, or deny, public, open; with --allow only that"),
           "--network", "--net"),
    **_all((REFUSED, "name the ports with -p"), "-P", "--publish-all", "--expose"),
    "--dns": _same,
    "--add-host": (REFUSED, "write to /etc/hosts with `sandlot exec`"),
    "--link": (REFUSED, _NETWORK),
    **_all((REFUSED, _ADDRESS), "--ip", "--ip6", "--mac-address"),
    **_all((DIFFERENT, "a folder of the host must be there; options are ro, rw and cache="),
           "-v", "--volume"),
    "--mount": (DIFFERENT, "type=bind, volume and tmpfs; source, target, readonly, cache"),
    "--tmpfs": (DIFFERENT, "in this machine's memory, not the sandbox's; size= and mode="),
    "--volumes-from": (REFUSED, "name the volumes with -v"),
    **_all((REFUSED, _CONTAINER), "--privileged", "--cap-add", "--cap-drop", "--security-opt",
           "--userns", "--pid", "--ipc", "--uts", "--cgroupns", "--runtime", "--isolation",
           "--device", "--gpus", "--sysctl", "--init", "--group-add", "--read-only"),
    **_all((REFUSED, _CGROUP), "--cpu-shares", "--cpuset-cpus", "--cpu-quota", "--cpu-period",
           "--memory-swap", "--memory-reservation", "--oom-kill-disable", "--shm-size",
           "--blkio-weight"),
    "--ulimit": (REFUSED, "use limits= of the Python API"),
    "--storage-opt": (REFUSED, "use --disk"),
    "--health-cmd": (REFUSED, "health checks are of fleets; see docs/guides/fleets.md"),
    "--log-driver": (REFUSED, "there is one log; see `sandlot logs`"),
    "--cidfile": (REFUSED, "the id is printed"),
}  # fmt: skip

COMMANDS: dict[str, Docker] = {
    "run": Docker(
        DIFFERENT, "a word for a container is a machine; `--` before the command is allowed",
        {**_RUN, **_all(_same, "-d", "--detach"),
         "-a": (REFUSED, "output and errors are always attached"),
         "--detach-keys": (REFUSED, "Ctrl-P Ctrl-Q ends `sandlot attach -i`"),
         "--sig-proxy": (REFUSED, "signals always go to the command")},
    ),
    "create": Docker(SAME, "", _RUN),
    "exec": Docker(
        DIFFERENT, "-d starts a job and prints its id; see `sandlot jobs`",
        {**_PROCESS, **_all(_same, "-d", "--detach"),
         "--privileged": (REFUSED, _CONTAINER),
         "--detach-keys": (REFUSED, "Ctrl-P Ctrl-Q ends `sandlot attach -i`")},
    ),
    "attach": Docker(
        DIFFERENT, "watches, from the beginning of the kept output; -i owns the input",
        {"--no-stdin": (REFUSED, "that is how it is without -i"),
         "--sig-proxy": (REFUSED, "only with -i do signals go to the command"),
         "--detach-keys": (REFUSED, "they are Ctrl-P Ctrl-Q")},
    ),
    "ps": Docker(
        SAME, "",
        {**_all(_same, "-a", "--all", "-q", "--quiet", "--no-trunc"),
         **_all((DIFFERENT, "name, id, status, label and ancestor"), "-f", "--filter"),
         "--format": (DIFFERENT, "fields of `ps`, `table` and `json`; no functions"),
         **_all((REFUSED, "pipe --json through jq"), "-n", "--last", "-l", "--latest"),
         **_all((REFUSED, "see `sandlot df`"), "-s", "--size")},
    ),
    "start": Docker(
        SAME, "",
        {**_all((REFUSED, "use `sandlot attach` after it"), "-a", "--attach", "-i",
                "--interactive")},
    ),
    "stop": Docker(
        SAME, "",
        {**_all(_same, "-t", "--time", "--timeout"),
         **_all((REFUSED, "name it at `run` or `create`: --stop-signal"), "-s", "--signal")},
    ),
    "restart": Docker(
        SAME, "",
        {**_all(_same, "-t", "--time", "--timeout"),
         **_all((REFUSED, "name it at `run` or `create`: --stop-signal"), "-s", "--signal")},
    ),
    "kill": Docker(
        DIFFERENT, "KILL ends the whole machine", _all(_same, "-s", "--signal")
    ),
    "pause": Docker(SAME),
    "unpause": Docker(SAME),
    "wait": Docker(SAME),
    "rename": Docker(DIFFERENT, "only while it is stopped"),
    "rm": Docker(
        SAME, "",
        {**_all(_same, "-f", "--force"),
         **_all(_same, "-v", "--volumes"),
         "--link": (REFUSED, _NETWORK)},
    ),
    "logs": Docker(
        SAME, "",
        {**_all(_same, "-f", "--follow", "-n", "--tail", "-t", "--timestamps", "--since"),
         "--until": (REFUSED, "pipe --json through jq"), "--details": (REFUSED, "there are none")},
    ),
    "inspect": Docker(
        DIFFERENT, "sandboxes only, with fields of its own",
        {**_all((REFUSED, "it is JSON: pipe it through jq"), "-f", "--format"),
         **_all((REFUSED, "see `sandlot df`"), "-s", "--size"),
         "--type": (REFUSED, "it is for sandboxes only")},
    ),
    "events": Docker(
        SAME, "",
        {"--since": _same, **_all((DIFFERENT, "name, id, image and event"), "-f", "--filter"),
         "--until": (REFUSED, "use --no-follow"), "--format": (REFUSED, "use --json")},
    ),
    "stats": Docker(
        SAME, "",
        {"--no-stream": _same, **_all((REFUSED, "only running ones use anything"), "-a", "--all"),
         "--format": (REFUSED, "use --json"), "--no-trunc": (REFUSED, "nothing is cut off")},
    ),
    "cp": Docker(
        DIFFERENT, "links that lead outside the copy are left out; see --links",
        _all(_same, "-a", "--archive", "-L", "--follow-link", "-q", "--quiet"),
    ),
    "build": Docker(
        DIFFERENT, "the context is a folder, not `-` or an address; progress is always plain; "
        "see docs/guides/build-from-a-dockerfile.md",
        {**_all(_same, "-t", "--tag", "-f", "--file", "--build-arg", "--label", "--target",
                "--no-cache", "--pull", "-q", "--quiet"),
         "--network": (DIFFERENT, "as of `run`; see also --allow"),
         "--platform": (DIFFERENT, "only this machine's"),
         **_all((DIFFERENT, "memory of the machine of a RUN"), "-m", "--memory"),
         "--progress": (REFUSED, "it is always plain"),
         **_all((REFUSED, "there are no mounts in builds yet"), "--secret", "--ssh"),
         "--add-host": (REFUSED, "write to /etc/hosts in the RUN that needs it"),
         **_all((REFUSED, "the result is always in the store"), "-o", "--output", "--load", "--push"),
         **_all((REFUSED, "steps are kept on this machine only"), "--cache-from", "--cache-to"),
         "--squash": (REFUSED, "layers stay as they are"), "--rm": (REFUSED, "that is how it is")},
    ),
    "login": Docker(REFUSED, "log in with docker, podman or skopeo: their files are read"),
    "logout": Docker(REFUSED, "log out with docker, podman or skopeo: their files are read"),
    "top": Docker(SAME, "runs the `ps` of the sandbox"),
    "port": Docker(SAME),
    "diff": Docker(DIFFERENT, "shows what `sandlot up` would do"),
    "export": Docker(REFUSED, "use `sandlot exec NAME tar c /`"),
    "commit": Docker(REFUSED, "use `sandlot snapshot create`, which saves what runs too"),
    "checkpoint": Docker(REFUSED, "use `sandlot snapshot create` and `sandlot restore`"),
    "update": Docker(REFUSED, "make a new sandbox: a machine's size cannot be changed"),
    "system": Docker(REFUSED, "use `sandlot df`, `sandlot prune` and `sandlot events`"),
    "container": Docker(REFUSED, "leave the word out: `sandlot ps`, `sandlot rm`, ..."),
    "info": Docker(REFUSED, "use `sandlot doctor`"),
    "version": Docker(REFUSED, "use `sandlot --version`"),
    "help": Docker(REFUSED, "use `sandlot --help`"),
    "network": Docker(DIFFERENT, "asks about and changes policies; there are no networks to make"),
    "volume": Docker(
        DIFFERENT, "--size instead of drivers and their options; `volume cp` copies in and out"
    ),
    "compose": Docker(DIFFERENT, "is `sandlot fleet`; see docs/guides/fleets.md"),
    "swarm": Docker(REFUSED, _DAEMON),
    "context": Docker(REFUSED, _DAEMON),
    "plugin": Docker(REFUSED, _DAEMON),
}  # fmt: skip

# Docker's words for commands that have another name here.
ALIASES = {"compose": "fleet"}

# Commands about images, whose flags are those of `sandlot image`.
IMAGES = {
    "images": "image ls", "rmi": "image rm", "load": "image load",
    "save": "image save", "tag": "image tag", "history": "",
    "import": "image import", "search": "",
}  # fmt: skip


def remedy(word: str, command: str = "") -> str:
    """What to do instead of a command, or of a flag of `command`, that is refused; or nothing."""
    if word.startswith("-"):
        verdict, note = COMMANDS.get(command, Docker(REFUSED)).flags.get(word, ("", ""))
        return note if verdict == REFUSED else ""
    if word in IMAGES:
        return f"use `sandlot {IMAGES[word]}`" if IMAGES[word] else "not there yet"
    found = COMMANDS.get(word)
    return found.note if found is not None and found.verdict == REFUSED else ""
