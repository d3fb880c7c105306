"""``tutelage review``: a person decides which suspects are leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def review(
    run: Annotated[Path, typer.Argument(help="The run folder, with suspects that curation has found.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; any free one if 0.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Show each image that may be one of the task's beside its nearest ones, and save which are leaks.

    The page is served to this machine alone. Each decision is saved at once: end with Ctrl-C, and go on any time.
    """
    import shlex
    from contextlib import ExitStack, suppress

    from tutelage.cli.console import err_console, print_json
    from tutelage.curation.review import open_review, serve
    from tutelage.curation.review.browser import opened
    from tutelage.report.numbers import plural

    console = err_console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    with open_review(run, say) as found, ExitStack() as stack:

        def ready(url: str) -> None:
            count = found.count()
            say(f"{plural(count['suspects'], 'suspect')}, {count['left']:,} to decide: {url}")
            say("Each decision is saved at once; Ctrl-C ends the page.")
            if browser:
                stack.enter_context(opened(run, url))

        if found.suspects:
            with suppress(KeyboardInterrupt):
                serve(found, port=port, ready=ready)
        count = found.count()
    if count["left"]:
        say(f"{count['left']:,} of {plural(count['suspects'], 'suspect')} are left to decide; go on with")
        say(f"  tutelage review {shlex.quote(str(run))}")
    elif count["suspects"]:
        say(
            f"All are decided: {plural(count['leaks'], 'leak')}, {count['fine']:,} not. "
            "Run the same command as before: it goes on from here."
        )
    else:
        say("No image is suspect: there is nothing to review.")
    if as_json:
        print_json({"run": str(run), **count})
