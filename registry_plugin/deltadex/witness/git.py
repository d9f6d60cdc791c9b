"""A witness that is a branch of a git remote, whose server refuses to rewrite it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from deltadex.errors import SettingsError, WitnessError
from deltadex.settings import Settings
from deltadex.witness.head import Held, LogHead, file_name, parse_lines
from deltadex.witness.kinds import Address

_BRANCH = "deltadex-heads"
_SECONDS = 30
#: Attempts at a push: another registry's watcher may push to the same branch in between.
_ATTEMPTS = 3
#: Largest history of heads that is read.
_MAX_BYTES = 1 << 28
_WHO = "Deltadex"


class GitWitness:
    """One commit per head on a branch of its own, pushed without force.

    The head is in the commit's message, so that a later commit that changes files hides none. Each call works in a
    folder of its own, which it deletes.
    """

    def __init__(self, address: Address, settings: Settings) -> None:  # noqa: ARG002 - as every kind
        self.name = address.shown
        self.least_pause = address.pause(0)
        self._address = address
        self._url = f"{address.scheme.removeprefix('git+')}:{address.place}"
        self._branch = address.options.get("branch", _BRANCH)
        if not re.fullmatch(r"[\w][\w./-]*", self._branch, re.ASCII) or ".." in self._branch:
            raise SettingsError(f"Witness {self.name}: not a branch: {self._branch}", hint="Name it as git does.")

    def publish(self, head: LogHead) -> LogHead:
        """Push a commit with the head.

        Raises
        ------
        WitnessError
            git is missing, or the remote refused the push or could not be reached.
        """
        with tempfile.TemporaryDirectory(prefix="deltadex-") as temporary:
            folder = Path(temporary)
            self._git(folder, "init", "--quiet", "--bare")
            for attempt in range(1, _ATTEMPTS + 1):
                commit = self._commit(folder, head, self._fetch(folder, "--depth=1"))
                try:
                    self._git(folder, "push", "--quiet", self._url, f"{commit}:refs/heads/{self._branch}")
                except WitnessError as error:
                    if attempt == _ATTEMPTS or "rejected" not in error.message:
                        raise
                else:
                    return head
        return head

    def held(self, registry: str) -> Held:
        """Return the heads in the messages of all commits of the branch; raises WitnessError as `publish`."""
        with tempfile.TemporaryDirectory(prefix="deltadex-") as temporary:
            folder = Path(temporary)
            self._git(folder, "init", "--quiet", "--bare")
            tip = self._fetch(folder)
            if tip is None:
                return Held(())
            messages = self._git(folder, "log", "--format=%b", tip, "--")
        return parse_lines(messages.split("\n"), registry)

    def caution(self) -> str:
        """Return nothing: whether the server protects the branch is not told to its users."""
        return ""

    def _fetch(self, folder: Path, *options: str) -> str | None:
        """Fetch the branch and return its last commit; None if there is no such branch yet."""
        name = f"refs/heads/{self._branch}"
        if not self._git(folder, "ls-remote", self._url, name).strip():
            return None
        self._git(folder, "fetch", "--quiet", "--no-tags", *options, self._url, f"+{name}:refs/deltadex/tip")
        return self._git(folder, "rev-parse", "refs/deltadex/tip").strip()

    def _commit(self, folder: Path, head: LogHead, tip: str | None) -> str:
        """Make a commit after the last one, and return its name."""
        name = f"{file_name(head.registry)}.json"
        blob = self._git(folder, "hash-object", "-w", "--stdin", given=f"{head.line()}\n").strip()
        kept = self._git(folder, "ls-tree", "-z", tip).split("\0") if tip else []
        entries = [line for line in filter(None, kept) if line.partition("\t")[2] != name]
        tree = self._git(
            folder, "mktree", "-z", given="\0".join([*entries, f"100644 blob {blob}\t{name}", ""]),
        ).strip()  # fmt: skip
        message = f"Head of {_one_line(head.registry)}: {head.entries} entries\n\n{head.line()}\n"
        parents = ("-p", tip) if tip else ()
        return self._git(folder, "commit-tree", tree, *parents, given=message).strip()

    def _git(self, folder: Path, *arguments: str, given: str | None = None) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, env=_environment(),
                input=given, stdin=None if given else subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise WitnessError(f"{self.name}: git is missing", hint="Install git where the watcher runs.") from error
        except subprocess.TimeoutExpired as error:
            raise WitnessError(
                f"{self.name}: git {arguments[0]} took more than {_SECONDS} s", hint="Is the remote up?", retryable=True
            ) from error
        if done.returncode:
            text = self._address.without_secrets(_reason(done.stderr) or f"exit code {done.returncode}")[:300]
            raise WitnessError(
                f"{self.name}: git {arguments[0]}: {text}",
                hint="The watcher's user must be able to push to this branch without being asked for a password.",
                retryable=True,
            )
        if len(done.stdout) > _MAX_BYTES:
            raise WitnessError(f"{self.name}: its history is too long", hint="Begin a new branch.")
        return done.stdout


def _environment() -> dict[str, str]:
    """Return git's environment: no questions, no repository around this folder, our name as the author."""
    ours = {
        "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C",
        "GIT_AUTHOR_NAME": _WHO, "GIT_COMMITTER_NAME": _WHO,
        "GIT_AUTHOR_EMAIL": "deltadex@localhost", "GIT_COMMITTER_EMAIL": "deltadex@localhost",
    }  # fmt: skip
    if "GIT_SSH_COMMAND" not in os.environ:
        ours["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes -o ConnectTimeout=10"
    around = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
    return {name: value for name, value in os.environ.items() if name not in around} | ours


def _reason(stderr: str) -> str:
    """Return the line of git's errors that says why, rather than what to try."""
    lines = [line.strip() for line in stderr.split("\n") if line.strip()]
    return next((line for line in lines if line.startswith(("!", "fatal:", "error:"))), lines[-1] if lines else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
