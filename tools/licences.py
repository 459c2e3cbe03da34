"""The licences of the packages that famkd and its extras need, from the metadata of the installed versions."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
INTRO = """# Licences of dependencies

famkd and famviz are under the MIT licence. This page is written from the metadata of the packages that are installed
where the site is built (`python tools/licences.py` prints it). It lists the direct dependencies, not theirs."""
Row = tuple[str, str, str]


def groups() -> dict[str, list[str]]:
    """Names of the packages that famkd needs, and of those of each extra."""
    text = PROJECT.read_text()
    found = {"famkd": _names(re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1])}  # pyright: ignore
    extras = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)[1]  # pyright: ignore
    for name, packages in re.findall(r"^([\w-]+) = \[(.*?)\]$", extras, re.MULTILINE):
        found[name] = _names(packages)
    return found


def _names(text: str) -> list[str]:
    return re.findall(r'"([\w.-]+)', text)


def licence(package: str) -> Row:
    """A package, its version and its licence; what its authors wrote into its metadata."""
    try:
        meta = distribution(package).metadata
    except PackageNotFoundError:
        return package, "not installed", "–"
    classified = [
        line.rpartition(" :: ")[2] for line in meta.get_all("Classifier", []) if line.startswith("License ::")
    ]
    free = (meta["License"] or "").strip().splitlines()
    named = meta["License-Expression"] or ", ".join(classified) or (free[0] if free else "") or "not stated"
    return package, meta["Version"], "not stated" if named == "UNKNOWN" else named


def page() -> str:
    """The list as a page of the documentation."""
    parts = [INTRO]
    for group, packages in groups().items():
        title = "Always" if group == "famkd" else f"Extra {group}"
        rows = [f"| {' | '.join(licence(name))} |" for name in packages]
        parts.append("\n".join([f"## {title}\n", "| package | version | licence |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
