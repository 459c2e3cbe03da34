"""famkd compare."""

from famkd.cli.flags import Place, Plugins, Positional
from famkd.command_line.parse import call
from famkd.command_line.values import expanded
from famkd.config.plugins import import_plugins
from famkd.tables import Format


def compare_command(argv: list[str]) -> None:
    print(call(compare, argv, prog="famkd compare"), end="")


def compare(
    runs: Positional[tuple[str, ...]] = ("runs",),
    /,
    against: str = "",
    published: bool = False,
    explain: bool = False,
    format: Format = "table",
    save: Place = "",
    plugins: Plugins = (),
) -> str:
    """Compare runs: mean and spread over seeds, and a paired test.

    Args:
        runs: Run directories, folders of them or of saved results, or patterns. By default the folder runs.
        against: Method or group to test the others against. By default `none`, the student alone.
        published: Add the figures that other papers report for the same pairs.
        explain: Print each difference also as a sentence.
        format: Format of the table.
        save: Folder in which to save the results as CSV files and recipes, without the networks.
    """
    import_plugins(plugins)
    from famkd.compare import compare

    return compare(
        tuple(map(expanded, runs)), against=against, published=published, explain=explain, format=format, save=save
    )
