"""Interactive shells at a terminal: what the command line holds after some keys."""

import os
import re
import select
import subprocess
import time
from pathlib import Path

from helpers.processes import HANG

SHOW = b"\x18p"  # Ctrl-X p prints the command line between marks
# Each shell without the user's files; `show` is bound to the keys above.
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], """
bind -x '"\\C-xp": printf "\\n<<%s>>\\n" "$READLINE_LINE"'
bind 'set enable-bracketed-paste off'
bind 'set bell-style none'
"""),
    "zsh": (["zsh", "-f", "-i"], """
show() { print -r -- $'\\n'"<<$BUFFER>>" }
zle -N show
bindkey '^Xp' show
unsetopt beep zle_bracketed_paste
"""),
}  # fmt: skip


class Shell:
    """A shell at a terminal, with a completion script loaded by a line of its own."""

    def __init__(self, name: str, load: str, folder: Path) -> None:
        import pty

        command, setup = START[name]
        rc = folder / "rc"
        rc.write_text(f"{setup}{load}\nPS1='$ '\n")
        master, terminal = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        os.close(terminal)
        self.master, self.said = master, ""
        # The command line shows the mark in two parts, so only its output matches.
        os.write(master, b". ./rc; echo rea''dy\n")
        self._until("\nready")

    def completed(self, typed: str) -> str:
        """The command line after the text has been typed and Tab pressed."""
        os.write(self.master, typed.encode() + b"\t" + SHOW)
        found = self._until(r"<<(.*)>>")
        os.write(self.master, b"\x15")  # Ctrl-U removes the line
        return found.group(1)

    def _until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + HANG
        while not (found := re.search(pattern, self.said)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {pattern} after {HANG} s: {self.said!r}"
            self.said += os.read(self.master, 65536).decode(errors="replace").replace("\r", "")
        self.said = self.said[found.end() :]
        return found

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
