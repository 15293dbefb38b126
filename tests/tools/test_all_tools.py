"""Every tool, and launch.py, held to one look: help, words, exit codes, completion."""

import argparse
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import argcomplete
import pytest

from pipeline import command_line, exit_codes

ROOT = Path(__file__).parents[2]
TOOLS = sorted(f"tools.{p.stem}" for p in (ROOT / "tools").glob("*.py") if p.stem != "__init__")
PROGRAMS = [*TOOLS, "launch"]
HEAVY = (
    "torch",
    "timm",
    "models",
    "matplotlib",
    "sklearn",
    "pandas",
    "deepspeed",
    "nvidia",
    "ffcv",
)
JSON = (
    "bench_loader",
    "check_data",
    "make_shards",
    "predict",
    "report_run",
    "tune",
    "validate",
    "watch_run",
)
"""What other programs may want to know; the others write a file or a picture, and name it."""
OF_ITS_OWN = {
    "--output": "a file here, a folder there",
    "--split": "of what is written, of what is read",
    "--data": "a run has data of its own",
    "--model": "of a file, of a recipe",
    "--batch": "which one, how large",
    "--format": "of data, of weights",
    "--top": "told, stored",
    "--best": "of a run's checkpoints one, or several",
    "--img-size": "two numbers where a file is converted",
    "--batch-size": "default",
}


def parser_of(name):
    """The parser of a program, as it is when arguments are read."""
    found = []

    def keep(parser, argv):
        found.append(parser)
        raise SystemExit

    main = importlib.import_module(name).main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "parse", keep)
        with pytest.raises(SystemExit):
            main([])
    return found[0]


@pytest.fixture(scope="module")
def parsers():
    return {name: parser_of(name) for name in PROGRAMS}


def options(parser):
    """Options that are shown, each under its long name."""
    shown = [a for a in parser._actions if a.help != argparse.SUPPRESS and a.dest != "help"]
    return {a.option_strings[-1] if a.option_strings else a.dest: a for a in shown}


def examples(parser):
    """The commands in the help, without their comments."""
    lines = re.findall(r"^ {4}(\S.*)$", parser.description, re.MULTILINE)
    commands = [shlex.split(line, comments=True) for line in lines]
    return [c for c in commands if c[0] in ("python", "deepspeed", "torchrun")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_what_it_does_with_examples_that_parse_and_every_exit_code(parsers, name):
    parser = parsers[name]
    assert re.match(r"[A-Z][^\n]+[.:]$", parser.description.splitlines()[0])
    script = f"{name.replace('.', '/')}.py"
    shown = examples(parser)
    assert shown
    for command in shown:
        parser.parse_intermixed_args(command[command.index(script) + 1 :])
    assert parser.epilog == exit_codes.table()
    assert not re.search(r"exit codes:", parser.description, re.IGNORECASE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_says_what_it_is(parsers, name):
    for option, action in options(parsers[name]).items():
        assert action.help, option
        if action.nargs != 0 and action.option_strings and not action.choices:
            assert action.metavar or action.help.startswith("cpu, cuda"), option


def words(action):
    text = action.help.replace("%(default)s", str(action.default))
    return re.sub(r";? ?default: .*$", "", text), action.metavar, action.choices, action.nargs


def test_the_same_option_is_the_same_in_all_tools(parsers):
    said = {}
    for name, parser in parsers.items():
        for option, action in options(parser).items():
            if option not in OF_ITS_OWN and option.startswith("--"):
                said.setdefault(option, {}).setdefault(str(words(action)), []).append(name)
    assert {option: ways for option, ways in said.items() if len(ways) > 1} == {}


@pytest.mark.parametrize("name", TOOLS)
def test_what_programs_may_read_is_there_as_json(parsers, name):
    assert ("--json" in options(parsers[name])) == (name.partition(".")[2] in JSON)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_option_ends_with_the_code_of_bad_input(name, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--no-such-option"])
    assert ended.value.code == exit_codes.BAD_INPUT
    assert "usage:" in capsys.readouterr().err


HELP_OF_ALL = """
import contextlib, importlib, io, json, sys
heavy, found = set(json.loads(sys.argv[1])), {}
for name in sys.argv[2:]:
    program = importlib.import_module(name)
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        program.main(["--help"])
    found[name] = sorted(heavy & set(sys.modules))
print(json.dumps(found))
"""


def test_help_waits_for_nothing_that_takes_long_to_import():
    """One process for all: what one imports, the later ones would be blamed for, too."""
    command = [sys.executable, "-c", HELP_OF_ALL, json.dumps(HEAVY), *PROGRAMS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [] for name in PROGRAMS}


def test_what_uses_a_trained_model_imports_nothing_that_trains():
    """DeepSpeed takes seconds to import, and speaks of accelerators."""
    inner = sorted(f"tools.trained.{p.stem}" for p in (ROOT / "tools/trained").glob("[!_]*.py"))
    script = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]];"
    script += "sys.exit('deepspeed' in sys.modules)"
    command = [sys.executable, "-c", script, *inner, "tools.preview.drawn"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_shell_may_ask_it_for_completions(parsers, name):
    path = ROOT / f"{name.replace('.', '/')}.py"
    assert "PYTHON_ARGCOMPLETE_OK" in path.read_text(encoding="utf-8")[:1024]
    finder = argcomplete.CompletionFinder(parsers[name])
    offered = finder._get_completions(["x"], "--", "", None)
    assert {text.strip() for text in offered} >= {
        option for option in options(parsers[name]) if option.startswith("--")
    }


def test_every_tool_for_users_is_installed_as_a_command():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.scripts]\n")[2].partition("\n\n")[0]
    scripts = dict(re.findall(r'^(\S+) = "(\S+)"$', section, re.MULTILINE))
    theirs = {f"{name}:main" for name in TOOLS if name != "tools.make_digits"}
    assert set(scripts.values()) == theirs
    assert all(f"tools.{k.replace('-', '_')}:main" == v for k, v in scripts.items())


def completions(line, folder):
    """What launch.py answers to a TAB behind `line`, as argcomplete's shell function asks it."""
    answer = folder / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "2",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",  # bash's
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "launch.py"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return [text.strip() for text in answer.read_text().split("\n")]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--config configs/quick", ["configs/quickstart.yaml"]),
        ("--config configs/quickstart.yaml run.stop_e", ["run.stop_exit_code="]),
        ("--config configs/quickstart.yaml zero.stage=", ["0", "1", "2", "3"]),
        ("--config configs/quickstart.yaml optim.lr=1 --pri", ["--print"]),
    ],
)
def test_launch_completes_recipes_keys_and_choices(typed, offered, tmp_path):
    assert completions(f"python launch.py {typed}", tmp_path) == offered


def test_the_readme_has_the_table_of_exit_codes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [f"| {code} | {meaning} |" for code, meaning in exit_codes.MEANINGS.items()]
    assert "\n".join(rows) in text
    constants = {v for k, v in vars(exit_codes).items() if k.isupper() and isinstance(v, int)}
    assert set(exit_codes.MEANINGS) == constants


def test_options_may_stand_among_the_positional_arguments():
    parser = command_line.new_parser("Try.")
    parser.add_argument("first")
    parser.add_argument("rest", nargs="+")
    parser.add_argument("--top", type=int)
    arguments = command_line.parse(parser, ["a", "b", "--top", "3", "c"])
    assert vars(arguments) == {"first": "a", "rest": ["b", "c"], "top": 3}
    assert "exit codes:" in _help(parser)


def _help(parser):
    text = io.StringIO()
    parser.print_help(text)
    return text.getvalue()
