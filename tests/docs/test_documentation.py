"""The documentation speaks of what is there: rooms, files, links, commands and options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import nlpcli
from nlpcli.cli import app

ROOT = Path(nlpcli.__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_of_the_project_that_is_named_exists(page):
    named = re.findall(r"`((?:nlpcli|tests|docs|benchmarks|sample_data|\.ci)/[\w./-]*)`", page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_names_every_room():
    rooms = {path.name for path in (ROOT / "nlpcli").iterdir() if (path / "__init__.py").exists()}
    named = set(re.findall(r"^\| `nlpcli/(\w+)/`", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.M))
    assert named == rooms


def command_lines(page: Path) -> list[list[str]]:
    """Every call of nlpcli in a page's indented or fenced blocks and tables, pipelines taken apart, as arguments."""
    calls = []
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        code = re.match(r"(?:    |\$ )\s*(?:\$ )?(.*)", line) or re.match(r"\|.*?`(nlpcli [^`]*)`", line)
        if not code or "nlpcli" not in code[1]:
            continue
        lexer = shlex.shlex(code[1], posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "|"]:
            if word in ("|", "&&", ";", "&", "||"):
                if words and words[0] == "nlpcli":
                    calls.append(words[1:])
                words = []
            elif words and words[-1] in ("<", ">"):
                words.pop()
            else:
                words.append(word)
    return calls


CALLS = [(page.stem, shlex.join(call)) for page in PAGES if page.exists() for call in command_lines(page)]


@pytest.mark.parametrize(("page", "line"), CALLS)
def test_every_command_line_shown_can_be_parsed(page, line):
    arguments = shlex.split(line)
    if not arguments or arguments[0].startswith("-"):
        names = {"--help", "--version", "--traceback", "--install-completion", "--show-completion"}
        assert not arguments or arguments[0] in names
        return
    if "COMMAND" in arguments or "..." in arguments:
        return
    name, *rest = arguments
    assert name in app.COMMANDS
    command = app.build_command(name)
    if hasattr(command, "commands"):
        assert rest and rest[0] in command.commands
        command, rest = command.commands[rest[0]], rest[1:]
    with command.make_context(name, rest) as context:
        assert context.args == []
